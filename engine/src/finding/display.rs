//! What a user reads of a finding.

use std::fmt;

use super::Finding;

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::PastEnd {
                referrer,
                offset,
                length,
            } => write!(
                f,
                "{referrer} at offset {offset}, {length} bytes long, lies past the end of the file"
            ),
            Self::AtHeader { referrer, offset } => {
                write!(
                    f,
                    "{referrer} at offset {offset} would be where the header is"
                )
            }
            Self::Overflow {
                cluster,
                references,
            } => write!(
                f,
                "cluster {cluster}: {references} references more than its refcount can hold; \
                 `qemu-img amend` widens refcounts, `qemu-img convert` makes a clean copy"
            ),
            Self::L1Reserved {
                layer,
                index,
                entry,
            } => {
                write!(
                    f,
                    "L1 entry {index} of {layer}, {entry:#x}, has reserved bits set"
                )
            }
            Self::L1Unaligned {
                layer,
                index,
                offset,
            } => {
                write!(
                    f,
                    "L1 entry {index} of {layer}: L2 table at {offset} is not cluster aligned"
                )
            }
            _ => self.fmt_l2_entry(f),
        }
    }
}

impl Finding {
    /// Those about entries of L2 tables.
    fn fmt_l2_entry(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::L2Reserved {
                table,
                index,
                entry,
            } => {
                write!(
                    f,
                    "L2 entry {index} of the table at {table}, {entry:#x}, has reserved bits set"
                )
            }
            Self::CompressedCopied {
                table,
                index,
                entry,
            } => write!(
                f,
                "L2 entry {index} of the table at {table}, {entry:#x}: COPIED is set on a \
                 compressed cluster"
            ),
            Self::CompressedInDataFile {
                table,
                index,
                entry,
            } => write!(
                f,
                "L2 entry {index} of the table at {table}, {entry:#x}: a compressed cluster in an \
                 image with an external data file"
            ),
            Self::CompressedSubclusters {
                table,
                index,
                entry,
            } => write!(
                f,
                "L2 entry {index} of the table at {table}, {entry:#x}: a compressed cluster with \
                 subclusters"
            ),
            Self::SubclustersContradict {
                table,
                index,
                subclusters,
            } => write!(
                f,
                "L2 entry {index} of the table at {table}: subclusters {subclusters:#x} are both \
                 allocated and zero"
            ),
            Self::SubclustersUnallocated {
                table,
                index,
                subclusters,
            } => write!(
                f,
                "L2 entry {index} of the table at {table}: subclusters {subclusters:#x} allocated \
                 in no cluster"
            ),
            Self::DataUnaligned {
                table,
                index,
                offset,
            } => write!(
                f,
                "L2 entry {index} of the table at {table}: data at {offset} is not cluster aligned"
            ),
            Self::EmptyUnaligned {
                table,
                index,
                offset,
            } => write!(
                f,
                "L2 entry {index} of the table at {table}: preallocated cluster at {offset} is not \
                 cluster aligned"
            ),
            _ => self.fmt_snapshot(f),
        }
    }

    /// Those about snapshots.
    fn fmt_snapshot(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SnapshotsInDataFile { count } => {
                write!(
                    f,
                    "{count} snapshots in an image with an external data file"
                )
            }
            Self::SnapshotL1Unaligned { snapshot, offset } => {
                write!(
                    f,
                    "snapshot {snapshot}: L1 table at {offset} is not cluster aligned"
                )
            }
            Self::SnapshotL1TooLarge { snapshot, entries } => {
                write!(
                    f,
                    "snapshot {snapshot}: L1 table of {entries} entries is over 32 MiB"
                )
            }
            Self::SnapshotIncomplete { snapshot, bytes } => write!(
                f,
                "snapshot table entry {snapshot} has {bytes} bytes of extra data, version 3 needs 16"
            ),
            Self::SnapshotExtraData { snapshot, bytes } => {
                write!(
                    f,
                    "snapshot table entry {snapshot} has {bytes} bytes of extra data, over 1024"
                )
            }
            Self::SnapshotBlank { snapshot } => {
                write!(f, "snapshot table entry {snapshot} is blank")
            }
            Self::BitmapDirectory { offset, position } => write!(
                f,
                "the bitmap directory at offset {offset} makes no sense from its byte {position} on"
            ),
            Self::BitmapTableEntry {
                table,
                index,
                entry,
            } => write!(
                f,
                "entry {index}, {entry:#x}, of the bitmap table at offset {table} is malformed"
            ),
            _ => self.fmt_overlap(f),
        }
    }

    /// Those about tables and clusters that contradict each other.
    fn fmt_overlap(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotATable { table } => {
                write!(f, "the L2 table at {table} does not look like one")
            }
            Self::DoubledTable { table } => {
                write!(
                    f,
                    "two L1 entries of one layer lead to the L2 table at {table}"
                )
            }
            Self::Overlap { cluster } => write!(
                f,
                "cluster {cluster} is used as two things, or twice by one layer"
            ),
            Self::LostTable { table, clusters } => write!(
                f,
                "an L2 table that nothing refers to, at {table}, with {clusters} clusters of data"
            ),
            Self::LostTablesNotSought { clusters } => write!(
                f,
                "{clusters} allocated clusters that nothing refers to are more than are searched for \
                 lost L2 tables"
            ),
            Self::EmptiedTables { clusters } => write!(
                f,
                "an L2 table has not a single entry, and nothing refers to {clusters} allocated \
                 clusters"
            ),
            _ => self.fmt_refcount(f),
        }
    }

    /// Those about refcount structures and refcounts.
    fn fmt_refcount(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ReftableUnusable { offset, clusters } => write!(
                f,
                "no refcount table of {clusters} clusters can be at {offset} (header bytes 48 to 59)"
            ),
            Self::ReftableReserved { refblock, entry } => {
                write!(
                    f,
                    "refcount table entry {refblock}, {entry:#x}, has reserved bits set"
                )
            }
            Self::RefblockUnaligned { refblock, offset } => {
                write!(
                    f,
                    "refcount block {refblock} at {offset} is not cluster aligned"
                )
            }
            Self::RefblockOutside { refblock, offset } => {
                write!(
                    f,
                    "refcount block {refblock} at {offset} is outside the image"
                )
            }
            Self::RefblockShared {
                refblock,
                references,
            } => {
                write!(f, "refcount block {refblock} refcount={references}")
            }
            Self::RefcountsUnreadable {
                first,
                clusters,
                offset,
            } => write!(
                f,
                "cannot read the refcounts of {clusters} clusters from {first} on: their refcount \
                 block is at {offset}"
            ),
            Self::TooLow {
                cluster,
                refcount,
                references,
            }
            | Self::Leak {
                cluster,
                refcount,
                references,
            } => {
                write!(
                    f,
                    "cluster {cluster} refcount={refcount} reference={references}"
                )
            }
            _ => self.fmt_copied(f),
        }
    }

    /// Those about COPIED bits.
    fn fmt_copied(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::L1Copied {
                index,
                entry,
                refcount,
            } => write!(
                f,
                "OFLAG_COPIED of L1 entry {index}, {entry:#x}: L2 table with refcount={refcount}"
            ),
            Self::L2Copied {
                table,
                index,
                entry,
                refcount,
            } => write!(
                f,
                "OFLAG_COPIED of L2 entry {index} of the table at {table}, {entry:#x}: data cluster \
                 with refcount={refcount}"
            ),
            Self::TableNotWritten { table } => {
                write!(
                    f,
                    "the table at {table} is left as it is: its cluster has other uses too, does not \
                     look like a table, or lay past the end of the file in part"
                )
            }
            _ => Ok(()),
        }
    }
}
