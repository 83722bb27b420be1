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

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};

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
    let runs = |units: &[Unit]| units.iter().map(|unit| unit.runs(bounds)).sum::<u64>();
    let total = runs(&units);
    let mut done = runs(&units[..position.units.min(units.len())]);
    while let Some(wave) = next(&units, position.units) {
        report(Progress {
            done,
            total,
            clusters: wave[0].clusters,
        });
        if stop.load(Ordering::Relaxed) {
            return;
        }
        position.add(wave, |_, unit| judge::unit(planner, unit, bounds));
        position.units += wave.len();
        done += runs(wave);
    }
    let mut images = images::all(&bounds.algorithms);
    images.retain(|_| bounds.images);
    while let Some(wave) = next(&images, position.images) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let first = position.images;
        position.add(wave, |index, image| {
            judge::image(first + index, image, bounds)
        });
        position.images += wave.len();
    }
    position.complete = true;
    report(Progress {
        done: total,
        total,
        clusters: bounds.clusters,
    });
}

/// What is handed out at once from `position` on; `None` where nothing is left.
fn next<T>(all: &[T], position: usize) -> Option<&[T]> {
    all.get(position..)?.chunks(WAVE).next()
}

impl Position {
    /// Adds what is found in a wave.
    fn add<T: Sync>(&mut self, wave: &[T], judge: impl Fn(usize, &T) -> Tally + Sync) {
        let found = wave.par_iter().enumerate();
        let found = found.map(|(index, one)| judge(index, one));
        let found = found.reduce(Tally::default, Tally::merge);
        self.tally = std::mem::take(&mut self.tally).merge(found);
    }
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
