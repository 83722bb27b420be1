//! What a repair does, step by step.

use crate::units::{ClusterCount, Offset};

/// A step of a repair; each is durable when it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "they are what their texts say")]
pub enum Step {
    /// As the specification demands of who writes.
    #[error("cleared the unknown autoclear feature bits {0:#x}")]
    ClearedAutoclear(u64),
    #[error("replaced {} without data that pointed to no cluster", of(*.0, "L2 entry"))]
    ReplacedEntries(u64),
    /// Those of clusters with other than one reference, in so many entries.
    #[error("cleared the COPIED bits of {}", of(*.0, "entry"))]
    ClearedCopied(u64),
    #[error(
        "built the refcount structures anew: table of {} at offset {reftable}, {}",
        of(reftable_clusters.0, "cluster"),
        of(*refblocks, "block")
    )]
    Rebuilt {
        reftable: Offset,
        reftable_clusters: ClusterCount,
        refblocks: u64,
    },
    #[error("wrote the snapshot table anew, with {}", of((*.0).into(), "snapshot"))]
    RewroteSnapshotTable(u32),
    /// The header names so many snapshots now, no more than there are.
    #[error("set the number of snapshots to {0}")]
    ShortenedSnapshotTable(u32),
    #[error("raised the refcounts of {}", of(*.0, "cluster"))]
    Raised(u64),
    #[error("lowered the refcounts of {}", of(*.0, "cluster"))]
    Lowered(u64),
    /// COPIED bits of clusters with one reference were set in so many entries.
    #[error("set the COPIED bits of {}", of(*.0, "entry"))]
    SetCopied(u64),
    /// In the header.
    #[error("cleared the dirty and corrupt bits")]
    ClearedFlags,
}

/// A number with its noun, which has a regular plural.
pub fn of(number: u64, noun: &str) -> String {
    match noun.strip_suffix('y') {
        _ if number == 1 => format!("1 {noun}"),
        Some(stem) => format!("{number} {stem}ies"),
        None => format!("{number} {noun}s"),
    }
}
