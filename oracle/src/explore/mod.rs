//! Looks at every small case there is.
//!
//! For each size of the file, from one cluster up; for each size of the tables; for each pattern of
//! used clusters, without old structures and with some; on storage that grows and that cannot: each
//! algorithm plans, and each property judges the plan. What the planners cannot tell apart is
//! looked at once: they only ask whether a cluster has references, so the counts follow from the
//! cluster's number; QEMU's algorithms count old structures like everything else, so patterns with
//! these are patterns without; and which of the old clusters is a reftable matters to none.
//!
//! The order is fixed and goes by size, so that the first counterexample is a smallest one.

mod bounds;
mod bytes;
pub mod draw;
pub mod images;
mod judge;
mod tally;
mod units;

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use images::Named;
use units::Unit;

use crate::subject::Subject;

pub use bounds::Bounds;
pub use bytes::BOUNDS as BYTES;
pub use tally::{Cell, Counterexample, Tally};

/// Pieces that are handed out at once: enough to keep many cores busy.
const WAVE: usize = 64;

/// A piece of the work.
enum Piece<'a> {
    /// Toys of one size.
    Unit(Unit),
    /// A whole image, the so-many-th.
    Image(usize, &'a Named),
}

/// How far an exploration is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Pieces of work done.
    pub done: usize,
    /// Pieces in all.
    pub total: usize,
    /// The size of the file, in clusters, that is being looked at; that of whole images counts as the
    /// largest.
    pub clusters: u32,
}

/// What an exploration found.
#[derive(Debug)]
pub struct Explored {
    /// For each algorithm and property.
    pub tally: Tally,
    /// The size of the file, in clusters, that came next when it was stopped; `None` where everything
    /// was looked at.
    pub stopped: Option<u32>,
}

/// Explores everything, whole images last, as this program plans and repairs, until `stop` becomes true.
/// Calls `report` now and then.
pub fn explore(
    subject: &dyn Subject,
    bounds: &Bounds,
    stop: &AtomicBool,
    report: &(dyn Fn(Progress) + Sync),
) -> Explored {
    let units = units::all(bounds).into_iter().map(Piece::Unit);
    let images = images::all(&bounds.algorithms);
    let images = images.iter().filter(|_| bounds.images).enumerate();
    let images = images.map(|(index, image)| Piece::Image(index, image));
    let pieces: Vec<Piece<'_>> = units.chain(images).collect();
    let mut tally = Tally::default();
    for (number, wave) in pieces.chunks(WAVE).enumerate() {
        let clusters = match wave[0] {
            Piece::Unit(unit) => unit.clusters,
            Piece::Image(..) => bounds.clusters,
        };
        report(Progress {
            done: number * WAVE,
            total: pieces.len(),
            clusters,
        });
        if stop.load(Ordering::Relaxed) {
            return Explored {
                tally,
                stopped: Some(clusters),
            };
        }
        let found = wave.par_iter().map(|piece| match piece {
            Piece::Unit(unit) => judge::unit(subject, unit, bounds),
            Piece::Image(index, image) => judge::image(subject, *index, image, bounds),
        });
        tally = tally.merge(found.reduce(Tally::default, Tally::merge));
    }
    Explored {
        tally,
        stopped: None,
    }
}

#[cfg(test)]
mod tests;
