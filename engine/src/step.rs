//! What a repair does, step by step.

use crate::units::{ClusterCount, Offset};

/// A step of a repair; each is durable when it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Step {
    /// As the specification demands of who writes.
    #[error("cleared the unknown autoclear feature bits {0:#x}")]
    ClearedAutoclear(u64),
    /// So many L2 entries without data that pointed to no cluster now say so.
    #[error(
        "replaced {} without data that pointed to no cluster",
        of(*.0, "L2 entry", "L2 entries")
    )]
    ReplacedEntries(u64),
    /// Those of clusters with other than one reference, in so many entries.
    #[error("cleared the COPIED bits of {}", of(*.0, "entry", "entries"))]
    ClearedCopied(u64),
    /// New refcount structures are in place.
    #[error(
        "built the refcount structures anew: table of {} at offset {reftable}, {}",
        of(reftable_clusters.0, "cluster", "clusters"),
        of(*refblocks, "block", "blocks")
    )]
    Rebuilt {
        /// Where the reftable is.
        reftable: Offset,
        /// Its clusters.
        reftable_clusters: ClusterCount,
        /// How many refblocks there are.
        refblocks: u64,
    },
    /// It has so many snapshots.
    #[error(
        "wrote the snapshot table anew, with {}",
        of((*.0).into(), "snapshot", "snapshots")
    )]
    RewroteSnapshotTable(u32),
    /// The header names so many snapshots now, no more than there are.
    #[error("set the number of snapshots to {0}")]
    ShortenedSnapshotTable(u32),
    /// Refcounts of so many clusters were raised to the references.
    #[error("raised the refcounts of {}", of(*.0, "cluster", "clusters"))]
    Raised(u64),
    /// Refcounts of so many clusters were lowered to the references.
    #[error("lowered the refcounts of {}", of(*.0, "cluster", "clusters"))]
    Lowered(u64),
    /// COPIED bits of clusters with one reference were set in so many entries.
    #[error("set the COPIED bits of {}", of(*.0, "entry", "entries"))]
    SetCopied(u64),
    /// In the header.
    #[error("cleared the dirty and corrupt bits")]
    ClearedFlags,
}

/// A number with its noun.
#[must_use]
pub fn of(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
