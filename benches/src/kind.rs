//! The kinds of images, made by the oracle's builder.

use recount_oracle::case::damage::{self, Among, Damage, ReftableDamage, SparseBytes, To};
use recount_oracle::case::synthetic::{
    Allocation, Content, Run as Guest, Sharing, Snapshots, Synthetic,
};
use recount_oracle::case::{Algorithm, Case, Image, Pick, Schedule, StorageLimit, build};

/// Refcounts of each sort that are wrong before a repair in place.
const WRONG_REFCOUNTS: u32 = 8;
/// Free clusters at the end of an image, in which refcounts can be too high.
const FREE_TAIL: u32 = 64;

/// A kind of image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 64 KiB clusters, one after the other.
    Large,
    /// 4 KiB clusters.
    SmallClusters,
    /// 64 KiB clusters, 1-bit refcounts.
    NarrowRefcounts,
    /// 16 KiB clusters, 64-bit refcounts.
    WideRefcounts,
    /// 512-byte clusters.
    SmallestClusters,
    /// 20 snapshots that share the data.
    Snapshots,
    /// Compressed clusters.
    Compressed,
    /// Clusters in random order.
    Fragmented,
    /// Subclusters.
    ExtendedL2,
}

/// What is done with an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A check of a clean image.
    Check,
    /// A repair of single refcounts.
    RepairInPlace,
    /// A repair of an image without a reftable.
    Rebuild,
}

impl Task {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Check, Self::RepairInPlace, Self::Rebuild];

    /// Its name in a bench.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::RepairInPlace => "repair-in-place",
            Self::Rebuild => "rebuild",
        }
    }

    /// Damages an image so that there is something to repair.
    pub fn damage(self, image: &mut SparseBytes) {
        for act in self.acts() {
            damage::apply(image, &act);
        }
    }

    /// The acts of damage.
    fn acts(self) -> Vec<Damage> {
        match self {
            Self::Check => Vec::new(),
            Self::RepairInPlace => (0..WRONG_REFCOUNTS)
                .flat_map(|number| {
                    let wrong = |among, cluster, to| Damage::Refcount {
                        among,
                        cluster: Pick(cluster),
                        to,
                    };
                    [
                        wrong(Among::Allocated, number * 331, To::Up),
                        wrong(Among::Free, number * 7, To::Exactly(1)),
                    ]
                })
                .collect(),
            Self::Rebuild => vec![Damage::Reftable(ReftableDamage::Gone)],
        }
    }
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Large,
        Self::SmallClusters,
        Self::NarrowRefcounts,
        Self::WideRefcounts,
        Self::SmallestClusters,
        Self::Snapshots,
        Self::Compressed,
        Self::Fragmented,
        Self::ExtendedL2,
    ];

    /// Its name in a bench.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Large => "large",
            Self::SmallClusters => "small-clusters",
            Self::NarrowRefcounts => "narrow-refcounts",
            Self::WideRefcounts => "wide-refcounts",
            Self::SmallestClusters => "smallest-clusters",
            Self::Snapshots => "snapshots",
            Self::Compressed => "compressed",
            Self::Fragmented => "fragmented",
            Self::ExtendedL2 => "extended-l2",
        }
    }

    const fn cluster_bits(self) -> u32 {
        match self {
            Self::Large | Self::NarrowRefcounts | Self::Snapshots | Self::Fragmented => 16,
            Self::SmallClusters | Self::Compressed => 12,
            Self::WideRefcounts | Self::ExtendedL2 => 14,
            Self::SmallestClusters => 9,
        }
    }

    const fn content(self) -> Content {
        match self {
            Self::Compressed => Content::Compressed {
                incompressible: 100,
            },
            Self::ExtendedL2 => Content::Subclusters {
                allocated: 0xffff,
                zero: 0xff << 16,
            },
            _ => Content::Data,
        }
    }

    /// An image with `clusters` guest clusters, in the state that a task begins with.
    ///
    /// # Errors
    /// When the builder refuses the case, with its message.
    pub fn build(self, clusters: u32, task: Task) -> Result<SparseBytes, String> {
        let image = Synthetic {
            cluster_bits: self.cluster_bits(),
            refcount_order: match self {
                Self::NarrowRefcounts => 0,
                Self::WideRefcounts => 6,
                _ => 4,
            },
            extended_l2: self == Self::ExtendedL2,
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
                content: self.content(),
            }],
            snapshots: match self {
                Self::Snapshots => vec![Snapshots {
                    count: 20,
                    sharing: Sharing::Tables,
                }],
                _ => Vec::new(),
            },
            free_tail: FREE_TAIL,
            ..Synthetic::default()
        };
        let case = Case {
            image: Image::Synthetic(image),
            damage: task.acts(),
            storage: StorageLimit::Growing,
            algorithm: Algorithm::Planned,
            schedule: Schedule::Quiet,
        };
        let built = build::build(&case).map_err(|error| error.to_string())?;
        Ok(built.bytes)
    }
}
