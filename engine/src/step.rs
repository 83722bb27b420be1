//! What a repair does, step by step.

use std::fmt;

use crate::units::{ClusterCount, Offset};

/// A step of a repair; each is durable when it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Unknown autoclear feature bits were cleared, as the specification demands of who writes.
    ClearedAutoclear {
        /// The bits.
        bits: u64,
    },
    /// L2 entries without data that pointed to no cluster now say so.
    ReplacedEntries {
        /// How many.
        entries: u64,
    },
    /// COPIED bits of clusters with other than one reference were cleared.
    ClearedCopied {
        /// In how many entries.
        entries: u64,
    },
    /// New refcount structures are in place.
    Rebuilt {
        /// Where the reftable is.
        reftable: Offset,
        /// Its clusters.
        reftable_clusters: ClusterCount,
        /// How many refblocks there are.
        refblocks: u64,
    },
    /// The snapshot table was written anew.
    RewroteSnapshotTable {
        /// How many snapshots it has.
        snapshots: u32,
    },
    /// The header names no more snapshots than there are.
    ShortenedSnapshotTable {
        /// How many it names now.
        snapshots: u32,
    },
    /// Refcounts were raised to the references.
    Raised {
        /// Of how many clusters.
        clusters: u64,
    },
    /// Refcounts were lowered to the references.
    Lowered {
        /// Of how many clusters.
        clusters: u64,
    },
    /// COPIED bits of clusters with one reference were set.
    SetCopied {
        /// In how many entries.
        entries: u64,
    },
    /// The dirty and corrupt bits were cleared.
    ClearedFlags,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ClearedAutoclear { bits } => {
                write!(f, "cleared the unknown autoclear feature bits {bits:#x}")
            }
            Self::ReplacedEntries { entries } => write!(
                f,
                "replaced {} without data that pointed to no cluster",
                of(entries, "L2 entry", "L2 entries")
            ),
            Self::ClearedCopied { entries } => write!(
                f,
                "cleared the COPIED bits of {}",
                of(entries, "entry", "entries")
            ),
            Self::Rebuilt {
                reftable,
                reftable_clusters,
                refblocks,
            } => write!(
                f,
                "built the refcount structures anew: table of {} at offset {reftable}, {}",
                of(reftable_clusters.0, "cluster", "clusters"),
                of(refblocks, "block", "blocks")
            ),
            Self::RewroteSnapshotTable { snapshots } => write!(
                f,
                "wrote the snapshot table anew, with {}",
                of(snapshots.into(), "snapshot", "snapshots")
            ),
            Self::ShortenedSnapshotTable { snapshots } => {
                write!(f, "set the number of snapshots to {snapshots}")
            }
            Self::Raised { clusters } => write!(
                f,
                "raised the refcounts of {}",
                of(clusters, "cluster", "clusters")
            ),
            Self::Lowered { clusters } => write!(
                f,
                "lowered the refcounts of {}",
                of(clusters, "cluster", "clusters")
            ),
            Self::SetCopied { entries } => write!(
                f,
                "set the COPIED bits of {}",
                of(entries, "entry", "entries")
            ),
            Self::ClearedFlags => f.write_str("cleared the dirty and corrupt bits"),
        }
    }
}

/// A number with its noun.
fn of(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
