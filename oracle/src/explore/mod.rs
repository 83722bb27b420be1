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
pub mod engine;
pub mod images;
mod judge;
mod tally;
mod units;

pub use bounds::{Bounds, Position};
pub use bytes::BOUNDS as BYTES;
pub use tally::{Cell, Counterexample, Tally};
pub use units::Unit;

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::iter::{
    IndexedParallelIterator, IntoParallelIterator, IntoParallelRefIterator, ParallelIterator,
};

/// Units that are handed out at once: enough to keep many cores busy, few enough that little is
/// repeated after an interruption.
const WAVE: usize = 64;

/// How far an exploration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Planner runs done, those before an interruption included.
    pub done: u64,
    /// Planner runs in all.
    pub total: u64,
    /// The size of the file, in clusters, that is being looked at.
    pub clusters: u32,
}

/// Explores from `position` on until everything is done or `stop` becomes true. Calls `report`
/// now and then.
pub fn explore(
    bounds: &Bounds,
    position: &mut Position,
    stop: &AtomicBool,
    report: &(dyn Fn(Progress) + Sync),
) {
    explore_with(recount::rebuild::plan, bounds, position, stop, report);
}

/// As [`explore`], but the plans are those of another planner.
pub fn explore_with(
    planner: engine::Planner,
    bounds: &Bounds,
    position: &mut Position,
    stop: &AtomicBool,
    report: &(dyn Fn(Progress) + Sync),
) {
    let units = units::all(bounds);
    let total = units.iter().map(|unit| unit.runs(bounds)).sum();
    let mut done = units[..position.units.min(units.len())]
        .iter()
        .map(|unit| unit.runs(bounds))
        .sum();
    for wave in units.get(position.units..).unwrap_or_default().chunks(WAVE) {
        let clusters = wave.first().map_or(0, |unit| unit.clusters);
        report(Progress {
            done,
            total,
            clusters,
        });
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let tally = wave
            .into_par_iter()
            .map(|unit| judge::judge(planner, unit, bounds))
            .reduce(Tally::default, Tally::merge);
        position.tally = std::mem::take(&mut position.tally).merge(tally);
        position.units += wave.len();
        done += wave.iter().map(|unit| unit.runs(bounds)).sum::<u64>();
    }
    let images = if bounds.images {
        images::all(&bounds.algorithms)
    } else {
        Vec::new()
    };
    while let Some(wave) = images
        .get(position.images..)
        .filter(|left| !left.is_empty())
    {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let wave = &wave[..wave.len().min(WAVE)];
        let tally = wave
            .par_iter()
            .enumerate()
            .map(|(index, image)| judge::image(position.images + index, image, bounds))
            .reduce(Tally::default, Tally::merge);
        position.tally = std::mem::take(&mut position.tally).merge(tally);
        position.images += wave.len();
    }
    position.complete = true;
    report(Progress {
        done: total,
        total,
        clusters: bounds.clusters,
    });
}

/// The size of the files that an exploration has come to, in clusters.
#[must_use]
pub fn clusters_at(bounds: &Bounds, position: &Position) -> u32 {
    let units = units::all(bounds);
    let next = units.get(position.units);
    next.map_or(bounds.clusters, |unit| unit.clusters)
}

#[cfg(test)]
mod tests;
