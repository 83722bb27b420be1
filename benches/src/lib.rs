//! What the benches run on: images and tables of counts, each named by what is in it.

use recount::{Cluster, ClusterCount, Geometry, RefcountTable, Run};
use recount_oracle::case::synthetic::{
    Allocation, Content, Run as Guest, Sharing, Snapshots, Synthetic,
};
use recount_oracle::case::{Algorithm, Case, Image, Schedule, StorageLimit, build};

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
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Sparse => "sparse",
            Self::Striped => "striped",
            Self::Adversarial => "adversarial",
        }
    }

    /// A table in which `used` clusters are counted once, and the clusters that it spans.
    #[must_use]
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
            let _ = table.increment(run);
            first += step;
        }
        (table, ClusterCount(first))
    }
}

/// A kind of image.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Data clusters one after the other.
    Sequential,
    /// Data clusters in random order.
    Fragmented,
    /// Compressed clusters.
    Compressed,
    /// Ten snapshots that share the data.
    Snapshots,
    /// Subclusters.
    ExtendedL2,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Sequential,
        Self::Fragmented,
        Self::Compressed,
        Self::Snapshots,
        Self::ExtendedL2,
    ];

    /// Its name in a bench.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Fragmented => "fragmented",
            Self::Compressed => "compressed",
            Self::Snapshots => "snapshots",
            Self::ExtendedL2 => "extended-l2",
        }
    }

    /// The bytes of an image with `clusters` guest clusters.
    ///
    /// # Errors
    /// When the builder refuses the case, with its message.
    pub fn image(self, clusters: u32) -> Result<Vec<u8>, String> {
        let content = match self {
            Self::Compressed => Content::Compressed {
                incompressible: 100,
            },
            Self::ExtendedL2 => Content::Subclusters {
                allocated: 0xffff,
                zero: 0xff << 16,
            },
            _ => Content::Data,
        };
        let extended_l2 = matches!(self, Self::ExtendedL2);
        let image = Synthetic {
            cluster_bits: if extended_l2 { 14 } else { 9 },
            extended_l2,
            allocation: match self {
                Self::Fragmented => Allocation::Scattered {
                    seed: 1,
                    span: clusters * 2,
                },
                _ => Allocation::Dense,
            },
            guest: vec![Guest {
                skip: 0,
                clusters,
                content,
            }],
            snapshots: match self {
                Self::Snapshots => vec![Snapshots {
                    count: 10,
                    sharing: Sharing::Tables,
                }],
                _ => Vec::new(),
            },
            ..Synthetic::default()
        };
        let case = Case {
            image: Image::Synthetic(image),
            damage: Vec::new(),
            storage: StorageLimit::Growing,
            algorithm: Algorithm::Planned,
            schedule: Schedule::Quiet,
        };
        build::bytes(&case).map_err(|error| error.to_string())
    }
}
