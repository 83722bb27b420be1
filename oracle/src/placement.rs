//! Where new refcount structures go, as a planner says.

use std::ops::Range;

use itertools::chain;

/// Clusters of new structures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The reftable.
    pub reftable: Range<u64>,
    /// The refblocks: each one's number and its cluster, in ascending order of their numbers.
    pub refblocks: Vec<(u64, u64)>,
    /// In which order the refblocks are written: their places in the list. QEMU writes some twice.
    pub order: Vec<usize>,
    /// Reftables given up for larger ones, which stay allocated.
    pub abandoned: Vec<Range<u64>>,
    /// How many reftables were tried.
    pub tries: u64,
}

impl Placement {
    /// Clusters of the reftable.
    pub const fn reftable_clusters(&self) -> u64 {
        self.reftable.end - self.reftable.start
    }

    /// Every cluster that is counted.
    pub fn allocated(&self) -> impl Iterator<Item = u64> {
        let refblocks = self.refblocks.iter().map(|(_, cluster)| *cluster);
        let abandoned = self.abandoned.iter().cloned().flatten();
        chain!(self.reftable.clone(), refblocks, abandoned)
    }
}

/// Why a planner finds no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlacement {
    /// It would go on for ever: the clusters of the last reftable that it tried.
    #[error(
        "a reftable of {0} clusters after the end of everything needs a larger one, and so does that"
    )]
    Endless(u64),
    /// What it said.
    #[error("{0}")]
    NoRoom(String),
    /// It does not know tables of this size, as it says.
    #[error("{0}")]
    Unsupported(String),
}
