//! What a repair did, or why it could not.

use std::fmt;

use crate::check::{CheckError, Report};
use crate::finding::Finding;
use crate::rebuild::{Algorithm, CommitError, PlanError};
use crate::references::WalkError;
use crate::storage::StorageError;
use crate::table::OutOfMemory;
use crate::units::{ClusterCount, Offset};

/// How much was repaired, as `qemu-img check` counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fixed {
    /// Corruptions.
    pub corruptions: u64,
    /// Leaks.
    pub leaks: u64,
}

/// What is kept although nothing refers to it, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Clusters with a refcount above their references.
    pub clusters: u64,
    /// How many entries or tables cannot be followed.
    pub dead_ends: u64,
    /// The first few of them.
    pub examples: Vec<Finding>,
}

/// A step of a repair; each is durable when it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// L2 entries without data that pointed to no cluster now say so.
    ReplacedEntries {
        /// How many.
        entries: u64,
    },
    /// New refcount structures are in place.
    Rebuilt {
        /// Who placed them.
        algorithm: Algorithm,
        /// Where the reftable is.
        reftable: Offset,
        /// Its clusters.
        reftable_clusters: ClusterCount,
        /// How many refblocks there are.
        refblocks: u64,
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
    /// COPIED bits were set right.
    SetCopied {
        /// In how many entries.
        entries: u64,
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
    /// The dirty and corrupt bits were cleared.
    ClearedFlags,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReplacedEntries { entries } => {
                write!(
                    f,
                    "replaced {entries} L2 entries without data that pointed to no cluster"
                )
            }
            Self::Rebuilt {
                reftable,
                reftable_clusters,
                refblocks,
                ..
            } => write!(
                f,
                "built the refcount structures anew: table of {reftable_clusters} clusters at \
                 offset {reftable}, {refblocks} blocks"
            ),
            Self::Raised { clusters } => write!(f, "raised the refcounts of {clusters} clusters"),
            Self::Lowered { clusters } => write!(f, "lowered the refcounts of {clusters} clusters"),
            Self::SetCopied { entries } => {
                write!(f, "set the COPIED bits of {entries} entries right")
            }
            Self::RewroteSnapshotTable { snapshots } => {
                write!(
                    f,
                    "wrote the snapshot table anew, with {snapshots} snapshots"
                )
            }
            Self::ShortenedSnapshotTable { snapshots } => {
                write!(f, "set the number of snapshots to {snapshots}")
            }
            Self::ClearedFlags => f.write_str("cleared the dirty and corrupt bits"),
        }
    }
}

/// A repair that ran to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What is found now.
    pub report: Report,
    /// How much was repaired.
    pub fixed: Fixed,
    /// What was done, in order. Empty: nothing was written.
    pub steps: Vec<Step>,
    /// What is kept.
    pub kept: Kept,
}

/// Why a repair could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// The image could not be checked.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// `-r leaks` on an image whose refcount structures have to be built anew.
    #[error(
        "the refcount structures have to be built anew, which `-r leaks` does not; use `-r all`"
    )]
    NeedsRebuild,
    /// There is no place for new refcount structures.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// New refcount structures could not be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Memory ran out.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

impl From<WalkError> for RepairError {
    fn from(error: WalkError) -> Self {
        Self::Check(error.into())
    }
}

/// A repair that ended early, with what it had done by then.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct RepairFailure {
    /// Why.
    #[source]
    pub error: RepairError,
    /// The steps that were done, each durable.
    pub done: Vec<Step>,
}
