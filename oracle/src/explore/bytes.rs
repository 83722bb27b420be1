//! Whose bytes are looked at: for each plan that differs in what is written in which order, after
//! every power cut and every fault.

use crate::case::Algorithm;
use crate::crash::Limits;
use crate::placement::Placement;
use crate::run;
use crate::toy::{Clusters, Toy};

/// Crash states and faults of one plan: all where they are few, else a sample.
pub const BOUNDS: run::Bounds = run::Bounds {
    crashes: Limits {
        exhaustive_bits: 6,
        samples: 8,
        seed: 1,
    },
    faults_of_a_kind: 8,
    pairs: 24,
};

/// A cluster as a plan's writes see it: which one matters only in comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Step {
    /// Number of the refblock, in the order of their first writes; the reftable has none.
    refblock: Option<u32>,
    /// Whether it lies right after the one before, and may be written with it.
    follows: bool,
    /// Whether it lies past the end of the file.
    past_end: bool,
}

/// What tells plans apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Signature {
    algorithm: Algorithm,
    old: u32,
    grows: bool,
    steps: Vec<Step>,
}

impl Signature {
    pub(super) fn of(toy: &Toy, algorithm: Algorithm, layout: &Placement) -> Self {
        let mut steps =
            Vec::with_capacity(layout.order.len() + layout.reftable_clusters() as usize);
        let mut seen: Vec<usize> = Vec::new();
        let mut expected = u64::MAX;
        let mut step = |refblock, cluster: u64| {
            steps.push(Step {
                refblock,
                follows: cluster == expected,
                past_end: cluster >= toy.clusters.into(),
            });
            expected = cluster + 1;
        };
        for position in &layout.order {
            let known = seen.iter().position(|earlier| earlier == position);
            let number = known.unwrap_or_else(|| {
                seen.push(*position);
                seen.len() - 1
            });
            step(Some(number as u32), layout.refblocks[*position].1);
        }
        for cluster in layout.reftable.clone() {
            step(None, cluster);
        }
        Self {
            algorithm,
            old: toy.old.count(),
            grows: toy.capacity().is_none(),
            steps,
        }
    }
}

/// Whether a toy's bytes are looked at for an algorithm even though its plan need not be judged
/// again: QEMU's algorithms count old structures like anything else, but a power cut may lead back
/// to them.
pub(super) fn only(toy: &Toy, algorithm: Algorithm) -> bool {
    toy.old != Clusters::NONE && algorithm != Algorithm::Planned
}
