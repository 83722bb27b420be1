//! Why a check does not complete.

use crate::finding::Referrer;
use crate::format::ImageError;
use crate::storage::StorageError;
use crate::table::OutOfMemory;
use crate::units::Offset;

/// Why a check did not complete. Nothing has been written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are what the texts say")]
pub enum CheckError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// The snapshot table's place or size makes no sense.
    #[error(
        "the snapshot table of {snapshots} entries at offset {offset} (header bytes 60 to 71) is \
         not cluster aligned, too large, or not within the file"
    )]
    SnapshotTable { snapshots: u32, offset: Offset },
    /// The snapshot table is said to be the header, whose fields a repair changes.
    #[error(
        "the header names {snapshots} snapshots in a table at offset {offset}, which is the header \
         itself (bytes 60 to 71): set that right before a repair"
    )]
    SnapshotsInHeader { snapshots: u32, offset: Offset },
    #[error(transparent)]
    Snapshots(#[from] SnapshotRefusal),
    #[error("the {referrer} at offset {offset} lies past the largest offset that can be read")]
    Unaddressable { referrer: Referrer, offset: Offset },
}

/// Why the snapshot table cannot be read to its end. Snapshots are numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are what the texts say")]
pub enum SnapshotRefusal {
    /// The header names more snapshots than anyone opens.
    #[error(
        "the header names {snapshots} snapshots (bytes 60 to 63), more than the 65,536 with which \
         an image can be opened; `-r all --release-unreachable` gives up those over the limit"
    )]
    OverLimit { snapshots: u32 },
    /// An entry has more extra data than anyone reads, and snapshots follow one another behind it.
    #[error(
        "snapshot table entry {snapshot} has {bytes} bytes of extra data, over the limit of 1024; \
         `-r all` drops what is over, unless something else is damaged as well: mend that first, \
         or give it up with --release-unreachable"
    )]
    ExtraData { snapshot: u32, bytes: u32 },
    /// The same where nothing like a snapshot is behind it.
    #[error(
        "snapshot table entry {snapshot} has {bytes} bytes of extra data, over the limit of 1024, \
         and nothing like a snapshot is behind it: the size is wrong and has to be set right first"
    )]
    Nonsense { snapshot: u32, bytes: u32 },
    /// The same behind blank entries, which are where the table really ends.
    #[error(
        "snapshot table entry {snapshot} is no snapshot, and there are blank ones before it: the \
         header (bytes 60 to 63) names too many, or the table was overwritten; `-r all \
         --release-unreachable` gives up what is from the first blank one on"
    )]
    BehindBlank { snapshot: u32 },
    /// The table is over 64 MiB from this entry on.
    #[error(
        "snapshot table entry {snapshot} makes the table longer than 64 MiB; `-r all \
         --release-unreachable` gives up the snapshots from there on"
    )]
    TooLarge { snapshot: u32 },
}
