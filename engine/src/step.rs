//! What a repair does, step by step.

use std::fmt;

use crate::units::{ClusterCount, Offset};

/// A step of a repair; each is durable when it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// These unknown autoclear feature bits were cleared, as the specification demands of who writes.
    ClearedAutoclear(u64),
    /// So many L2 entries without data that pointed to no cluster now say so.
    ReplacedEntries(u64),
    /// COPIED bits of clusters with other than one reference were cleared in so many entries.
    ClearedCopied(u64),
    /// New refcount structures are in place.
    Rebuilt {
        /// Where the reftable is.
        reftable: Offset,
        /// Its clusters.
        reftable_clusters: ClusterCount,
        /// How many refblocks there are.
        refblocks: u64,
    },
    /// The snapshot table was written anew, with so many snapshots.
    RewroteSnapshotTable(u32),
    /// The header names so many snapshots now, no more than there are.
    ShortenedSnapshotTable(u32),
    /// Refcounts of so many clusters were raised to the references.
    Raised(u64),
    /// Refcounts of so many clusters were lowered to the references.
    Lowered(u64),
    /// COPIED bits of clusters with one reference were set in so many entries.
    SetCopied(u64),
    /// The dirty and corrupt bits were cleared.
    ClearedFlags,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clusters = |number| of(number, "cluster", "clusters");
        let entries = |number| of(number, "entry", "entries");
        f.write_str(&match *self {
            Self::ClearedAutoclear(bits) => {
                format!("cleared the unknown autoclear feature bits {bits:#x}")
            }
            Self::ReplacedEntries(number) => {
                let entries = of(number, "L2 entry", "L2 entries");
                format!("replaced {entries} without data that pointed to no cluster")
            }
            Self::ClearedCopied(number) => {
                format!("cleared the COPIED bits of {}", entries(number))
            }
            Self::Rebuilt {
                reftable,
                reftable_clusters,
                refblocks,
            } => format!(
                "built the refcount structures anew: table of {} at offset {reftable}, {}",
                clusters(reftable_clusters.0),
                of(refblocks, "block", "blocks")
            ),
            Self::RewroteSnapshotTable(number) => {
                let snapshots = of(number.into(), "snapshot", "snapshots");
                format!("wrote the snapshot table anew, with {snapshots}")
            }
            Self::ShortenedSnapshotTable(snapshots) => {
                format!("set the number of snapshots to {snapshots}")
            }
            Self::Raised(number) => format!("raised the refcounts of {}", clusters(number)),
            Self::Lowered(number) => format!("lowered the refcounts of {}", clusters(number)),
            Self::SetCopied(number) => format!("set the COPIED bits of {}", entries(number)),
            Self::ClearedFlags => "cleared the dirty and corrupt bits".to_owned(),
        })
    }
}

/// A number with its noun.
#[must_use]
pub fn of(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
