//! Runs the planners on the toys of a unit, and whole repairs, and asks the properties.

use std::collections::HashSet;

use super::bounds::{Bounds, ROOMS};
use super::bytes::{self, Signature};
use super::images::{self, Named};
use super::tally::{Sample, Tally};
use super::units::Unit;
use crate::case::Algorithm;
use crate::properties::Property;
use crate::properties::plan::{Brute, Planning, of_plans};
use crate::run::{ToyRepair, explore_one, scene};
use crate::subject::Subject;
use crate::toy::Toy;

/// Everything that a unit shows.
pub(super) fn unit(subject: &dyn Subject, unit: &Unit, bounds: &Bounds) -> Tally {
    let mut judge = Judge {
        subject,
        bounds,
        seen: HashSet::new(),
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

/// Everything that a whole image shows. All of them can be built and opened.
pub(super) fn image(subject: &dyn Subject, index: usize, image: &Named, bounds: &Bounds) -> Tally {
    let mut tally = Tally::default();
    let (before, repair) = scene(subject, &image.case).expect("an image of the list");
    let explored = explore_one(&*repair, &before, &images::BOUNDS);
    tally.states = explored.states + explored.runs;
    for (property, verdict) in explored.verdicts {
        if bounds.properties.contains(&property) {
            tally.note(Sample::Image(index, image), property, verdict);
        }
    }
    tally
}

struct Judge<'a> {
    subject: &'a dyn Subject,
    bounds: &'a Bounds,
    /// The plans of the unit whose bytes were looked at.
    seen: HashSet<Signature>,
    tally: Tally,
}

impl Judge<'_> {
    fn toy(&mut self, toy: &Toy) {
        let brute = Brute::new(*toy);
        let with_bytes = toy.clusters <= self.bounds.clusters_with_bytes;
        for &algorithm in &self.bounds.algorithms {
            let only_bytes = bytes::only(toy, algorithm);
            if only_bytes && !with_bytes {
                continue;
            }
            let planned = ToyRepair::plan(self.subject, &toy.to_case(algorithm));
            let repair = planned.expect("a small toy");
            let outcome = &repair.planned;
            self.tally.runs += 1;
            let mut failed = Vec::new();
            if !only_bytes {
                failed = self.plan(toy, &Planning::new(algorithm, outcome, &brute));
            }
            if let Ok(layout) = outcome
                && with_bytes
                && self.seen.insert(Signature::of(toy, algorithm, layout))
            {
                self.bytes(toy, algorithm, &failed);
            }
        }
    }

    /// Asks what a plan shows; which properties fail.
    fn plan(&mut self, toy: &Toy, run: &Planning<'_>) -> Vec<Property> {
        let sample = Sample::Toy(toy, run.algorithm);
        let mut failed = Vec::new();
        for &property in &self.bounds.properties {
            if let Some(verdict) = run.judge(property) {
                failed.extend(verdict.is_err().then_some(property));
                self.tally.note(sample, property, verdict.into());
            }
        }
        failed
    }

    /// Asks what the bytes show. A property that the plan shows as well has been counted.
    fn bytes(&mut self, toy: &Toy, algorithm: Algorithm, failed: &[Property]) {
        let sample = Sample::Toy(toy, algorithm);
        let built = ToyRepair::new(self.subject, &toy.to_case(algorithm));
        let (before, repair) = built.expect("every toy of the explorer can be built");
        let explored = explore_one(&repair, &before, &bytes::BOUNDS);
        self.tally.states += explored.states + explored.runs;
        for (property, verdict) in explored.verdicts {
            let is_counted = of_plans().any(|one| one == property);
            if self.bounds.properties.contains(&property)
                && !failed.contains(&property)
                && (verdict.is_failure() || !is_counted)
            {
                self.tally.note(sample, property, verdict);
            }
        }
    }
}
