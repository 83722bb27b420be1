//! What keeps references from being counted.

use crate::finding::Referrer;
use crate::storage::StorageError;
use crate::table::OutOfMemory;
use crate::units::Offset;

/// Why the references could not all be counted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalkError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Memory ran out.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// The snapshot table's place or size makes no sense.
    #[error(
        "the snapshot table of {snapshots} entries at offset {offset} (header bytes 60 to 71) is \
         not cluster aligned, too large, or not within the file"
    )]
    SnapshotTable {
        /// Entries that the header claims.
        snapshots: u32,
        /// Where it is said to be.
        offset: Offset,
    },
    /// A snapshot table entry has more extra data than anyone reads.
    #[error(
        "snapshot table entry {snapshot} has {bytes} bytes of extra data, over the limit of 1024; \
         `-r all` drops what is over where snapshots follow one another behind it; otherwise the \
         size is wrong and has to be set right first"
    )]
    SnapshotExtraData {
        /// Its number.
        snapshot: u32,
        /// Bytes of its extra data.
        bytes: u32,
    },
    /// The snapshot table is over 64 MiB.
    #[error(
        "snapshot table entry {snapshot} makes the table longer than 64 MiB: one of its sizes is wrong"
    )]
    SnapshotTableTooLarge {
        /// The first entry beyond.
        snapshot: u32,
    },
    /// A table lies where nothing can be read.
    #[error("the {referrer} at offset {offset} lies past the largest offset that can be read")]
    Unaddressable {
        /// Which table.
        referrer: Referrer,
        /// Where it is said to be.
        offset: Offset,
    },
    /// The bitmap directory cannot be read.
    #[error("the bitmap directory at offset {offset} is broken at byte {position}")]
    BitmapDirectory {
        /// Where the directory is.
        offset: Offset,
        /// Where in it the first wrong entry is.
        position: u64,
    },
    /// A bitmap's table cannot be read.
    #[error("entry {index}, {entry:#x}, of the bitmap table at offset {table} is malformed")]
    BitmapTable {
        /// Where the table is.
        table: Offset,
        /// The entry's number.
        index: u64,
        /// The entry.
        entry: u64,
    },
}
