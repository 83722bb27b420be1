//! Runs the planners on the toys of a unit and asks the properties.

use itertools::Itertools as _;

use super::bounds::{Bounds, ROOMS};
use super::bytes::{self, Seen};
use super::engine::{Engine, Planner};
use super::images::{self, Named};
use super::tally::Tally;
use super::units::Unit;
use crate::case::Algorithm;
use crate::properties::plan::{Brute, Planning, of_plans};
use crate::properties::{Property, Verdict};
use crate::run::{ImageRepair, explore_one};
use crate::toy::Toy;

/// Everything that a unit shows.
pub(super) fn judge(planner: Planner, unit: &Unit, bounds: &Bounds) -> Tally {
    let mut judge = Judge {
        engine: Engine::with(planner, unit.shape),
        bounds,
        seen: Seen::default(),
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

/// Everything that a whole image shows.
pub(super) fn image(index: usize, image: &Named, bounds: &Bounds) -> Tally {
    let mut tally = Tally::default();
    let algorithm = image.case.algorithm;
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    let explored = match ImageRepair::new(&image.case) {
        Ok((before, repair)) => explore_one(&repair, &before, &images::BOUNDS),
        // An image that cannot even be opened is not repaired.
        Err(_) => return tally,
    };
    tally.note_states(explored.states + explored.runs);
    for (property, verdict) in explored.verdicts {
        if !bounds.properties.contains(&property) {
            continue;
        }
        let cell = tally.cell_mut(algorithm, property);
        match verdict {
            Verdict::Holds => cell.hold(),
            Verdict::NotApplicable => (),
            Verdict::Fails(failure) => cell.fail_image(index, image, failure.message),
        }
    }
    tally
}

struct Judge<'a> {
    engine: Engine,
    bounds: &'a Bounds,
    seen: Seen,
    tally: Tally,
}

impl Judge<'_> {
    fn toy(&mut self, toy: &Toy) {
        let brute = Brute::new(*toy);
        // Without first-fit there is nothing to compare tail with.
        let compared = self.bounds.algorithms.contains(&Algorithm::FirstFit);
        let mut first_fit = [!compared; Property::ALL.len()];
        for &algorithm in &self.bounds.algorithms {
            let only_bytes = bytes::only(toy, algorithm);
            let with_bytes = toy.clusters <= self.bounds.clusters_with_bytes;
            if only_bytes && !with_bytes {
                continue;
            }
            let outcome = self.engine.plan(toy, algorithm);
            let run = Planning::new(toy, algorithm, &outcome, &brute);
            let mut failed = [false; Property::ALL.len()];
            if !only_bytes {
                self.plan(&run, &mut failed);
            }
            if let Ok(layout) = &outcome
                && with_bytes
                && self.seen.is_new(toy, algorithm, layout)
            {
                self.bytes(toy, algorithm, &mut failed);
            }
            match algorithm {
                Algorithm::FirstFit => first_fit = failed,
                Algorithm::Tail if !only_bytes => self.added(&run, &first_fit),
                Algorithm::Tail | Algorithm::Planned => (),
            }
        }
    }

    /// Asks what a plan shows; notes in `failed` which properties fail.
    fn plan(&mut self, run: &Planning<'_>, failed: &mut [bool; Property::ALL.len()]) {
        for &property in &self.bounds.properties {
            let Some(verdict) = run.judge(property) else {
                continue;
            };
            let cell = self.tally.cell_mut(run.algorithm, property);
            match verdict {
                Ok(()) => cell.hold(),
                Err(failure) => {
                    failed[property as usize] = true;
                    cell.fail(run.toy, run.algorithm, || failure.message.clone());
                }
            }
        }
    }

    /// Asks what the bytes show. A property that the plan shows as well has been counted.
    fn bytes(&mut self, toy: &Toy, algorithm: Algorithm, failed: &mut [bool; Property::ALL.len()]) {
        let explored = match bytes::explore(toy, algorithm) {
            Ok(explored) => explored,
            Err(error) => {
                // A toy that cannot be built would be a mistake of the explorer's own.
                let cell = self.tally.cell_mut(algorithm, Property::CountsEveryCluster);
                cell.fail(toy, algorithm, || error.to_string());
                return;
            }
        };
        self.tally.note_states(explored.states);
        for (property, verdict) in explored.verdicts {
            if !self.bounds.properties.contains(&property) || failed[property as usize] {
                continue;
            }
            let cell = self.tally.cell_mut(algorithm, property);
            match verdict {
                Verdict::Holds if !of_plans().contains(&property) => cell.hold(),
                Verdict::Holds | Verdict::NotApplicable => (),
                Verdict::Fails(failure) => {
                    failed[property as usize] = true;
                    cell.fail(toy, algorithm, || failure.message.clone());
                }
            }
        }
    }

    /// Notes where tail fails what first-fit holds.
    fn added(&mut self, run: &Planning<'_>, first_fit: &[bool; Property::ALL.len()]) {
        for &property in &self.bounds.properties {
            if first_fit[property as usize] {
                continue;
            }
            if let Some(Err(failure)) = run.judge(property) {
                let added = self.tally.added_by_tail_mut(property);
                added.fail(run.toy, run.algorithm, || failure.message.clone());
            }
        }
    }
}
