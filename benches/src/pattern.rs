//! Tables of counts for the planners.

use recount::{Cluster, ClusterCount, Geometry, RefcountTable, Run};

/// Where the used clusters of a table lie.
#[derive(Clone, Copy, Debug)]
pub enum Pattern {
    /// One after the other.
    Dense,
    /// One in every thousand.
    Sparse,
    /// Every second one.
    Striped,
    /// Runs of seven with a free one between them: no room for a table, until the end.
    Adversarial,
}

impl Pattern {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Dense, Self::Sparse, Self::Striped, Self::Adversarial];

    /// Its name in a bench.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Sparse => "sparse",
            Self::Striped => "striped",
            Self::Adversarial => "adversarial",
        }
    }

    /// A table in which `used` clusters are counted once, and the clusters that it spans.
    pub fn table(self, geometry: Geometry, used: u64) -> (RefcountTable, ClusterCount) {
        let (run, step) = match self {
            Self::Dense => (used, used),
            Self::Sparse => (1, 1000),
            Self::Striped => (1, 2),
            Self::Adversarial => (7, 8),
        };
        let mut table = RefcountTable::new(geometry);
        let mut first = 0;
        for _ in 0..used.div_ceil(run) {
            let run = Run::new(Cluster(first), ClusterCount(run));
            // Memory for a table of a bench is there; if not, the bench shows it.
            let _ = table.add(run, 1);
            first += step;
        }
        (table, ClusterCount(first))
    }
}
