//! Runs the planners on the toys of a unit and asks the properties.

use super::bounds::{Bounds, ROOMS};
use super::engine::Engine;
use super::tally::Tally;
use super::units::Unit;
use crate::case::Algorithm;
use crate::properties::planning::{Brute, Complaint, Planning};
use crate::properties::{
    Property, fits_when_possible, grows_only_when_needed, layout, no_overlap, smallest_table,
    terminates,
};
use crate::toy::{Clusters, Toy};

/// The properties that a plan by itself shows.
pub const JUDGED: [Property; 8] = [
    Property::Terminates,
    Property::CountsEveryCluster,
    Property::NoOverlap,
    Property::FitsWhenPossible,
    Property::GrowsOnlyWhenNeeded,
    Property::SmallestTable,
    Property::NoLeaks,
    Property::BoundedCost,
];

/// What a property says of a plan; `None` when a plan alone does not show it.
#[must_use]
pub fn verdict(
    property: Property,
    run: &Planning<'_>,
    geometry: &recount::Geometry,
) -> Option<Result<(), Complaint>> {
    Some(match property {
        Property::Terminates => terminates::judge(run, geometry),
        Property::CountsEveryCluster => layout::counts_every_cluster(run),
        Property::NoOverlap => no_overlap::judge(run),
        Property::FitsWhenPossible => fits_when_possible::judge(run),
        Property::GrowsOnlyWhenNeeded => grows_only_when_needed::judge(run),
        Property::SmallestTable => smallest_table::judge(run),
        Property::NoLeaks => layout::no_leaks(run),
        Property::BoundedCost => layout::bounded_cost(run),
        Property::LeavesDataAlone
        | Property::KeepsWhatItCannotFollow
        | Property::CrashAtomic
        | Property::FaultSafe
        | Property::Idempotent
        | Property::CleanAfterwards => return None,
    })
}

/// Everything that a unit shows.
pub(super) fn judge(unit: &Unit, bounds: &Bounds) -> Tally {
    let mut judge = Judge {
        engine: Engine::new(unit.shape),
        bounds,
        tally: Tally::default(),
    };
    for used in unit.patterns() {
        for old in unit.old(used, bounds) {
            for room in ROOMS {
                judge.toy(&Toy {
                    shape: unit.shape,
                    clusters: unit.clusters,
                    used,
                    old,
                    room,
                });
            }
        }
    }
    judge.tally
}

struct Judge<'a> {
    engine: Engine,
    bounds: &'a Bounds,
    tally: Tally,
}

impl Judge<'_> {
    fn toy(&mut self, toy: &Toy) {
        let brute = Brute::new(*toy);
        let mut first_fit = [false; Property::ALL.len()];
        for &algorithm in &self.bounds.algorithms {
            // To QEMU's algorithms this toy is the one in which the old clusters are used ones.
            if toy.old != Clusters::NONE && algorithm != Algorithm::Planned {
                continue;
            }
            let outcome = self.engine.plan(toy, algorithm);
            let run = Planning::new(toy, algorithm, &outcome, &brute);
            for &property in &self.bounds.properties {
                let Some(verdict) = verdict(property, &run, self.engine.geometry()) else {
                    continue;
                };
                let cell = self.tally.cell_mut(algorithm, property);
                let Err(complaint) = verdict else {
                    cell.hold();
                    continue;
                };
                cell.fail(toy, algorithm, || complaint.to_string());
                match algorithm {
                    Algorithm::FirstFit => first_fit[property as usize] = true,
                    Algorithm::Tail if !first_fit[property as usize] => {
                        let added = self.tally.added_by_tail_mut(property);
                        added.fail(toy, algorithm, || complaint.to_string());
                    }
                    Algorithm::Tail | Algorithm::Planned => (),
                }
            }
        }
    }
}
