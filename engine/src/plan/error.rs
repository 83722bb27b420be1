//! Why there is no plan, or why it was not carried out.

use std::collections::TryReserveError;

use crate::rebuild::PlanError;
use crate::references::CheckError;
use crate::storage::StorageError;
use crate::table::OutOfMemory;
use crate::units::{ClusterCount, Offset};

/// Why a repair could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are what the texts say")]
pub enum RepairError {
    #[error(transparent)]
    Check(#[from] CheckError),
    /// `-r leaks` on an image whose refcount structures have to be built anew.
    #[error(
        "the refcount structures have to be built anew, which `-r leaks` does not; use `-r all`"
    )]
    NeedsRebuild,
    #[error("{error}{}", if *in_danger { OR_OVERWRITE } else { "" })]
    Plan {
        error: PlanError,
        /// Whether there is one in clusters that damaged entries may have led to.
        in_danger: bool,
    },
    /// There is only a place where the file would grow over what is missing of it.
    #[error(
        "no room for the {needed} clusters that have to be written: at least {missing} bytes at \
         the end of the file are missing, and growing over them would hide what is lost. Get the rest of the \
         file, or, where there is no more of it, make the missing part read as zeros with \
         `truncate -s {length}`, and repair then{}", if *in_danger { OR_OVERWRITE } else { "" }
    )]
    GrowthWouldHide {
        /// Clusters that do not fit inside the file.
        needed: ClusterCount,
        /// Bytes that something refers to, past the end of the file.
        missing: u64,
        /// The length in bytes that the file would have with them.
        length: u64,
        /// Whether there is room in clusters that damaged entries may have led to.
        in_danger: bool,
    },
    #[error(
        "a repair would write up to byte {length}, past the end of the storage at {capacity}; \
         nothing was written. Move the image to larger storage"
    )]
    PastCapacity {
        /// Bytes that it would need.
        length: u64,
        /// Bytes that it has.
        capacity: u64,
    },
    /// The plan does not lead where it should. A bug of this program.
    #[error(
        "the repair was given up before anything was written: with what it would write {what}. \
         This is a bug of recount; please report it with the image's metadata"
    )]
    NotAsPlanned { what: String },
    #[error("what was written at offset {offset} reads back as something else")]
    ReadBack { offset: Offset },
    /// The observer asked for it.
    #[error("stopped before all was written; repair again to finish")]
    Cancelled,
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// The way out that is left where only clusters in danger are.
const OR_OVERWRITE: &str = "; or use --release-unreachable: new structures then take clusters of which no \
     refcount tells whether they are in use, and what damaged entries led to there is lost";

impl From<TryReserveError> for RepairError {
    fn from(_: TryReserveError) -> Self {
        OutOfMemory.into()
    }
}
