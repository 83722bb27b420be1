//! Everything that a check can find wrong, with where it is.

use derive_more::Display;

use crate::table::Run;
use crate::units::{Cluster, ClusterCount, Offset, RefblockIndex, Region};

/// Which L1 table something belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Display)]
pub enum Layer {
    /// The active one.
    #[display("the active layer")]
    Active,
    /// That of a snapshot, counted from 0.
    #[display("snapshot {_0}")]
    Snapshot(u32),
}

/// What a region of the file is referred to as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display)]
#[expect(missing_docs, reason = "their texts say what they are")]
#[non_exhaustive]
pub enum Referrer {
    #[display("header")]
    Header,
    #[display("L1 table of {_0}")]
    L1Table(Layer),
    #[display("L2 table")]
    L2Table,
    #[display("data cluster of {_0}")]
    Data(L2Place),
    #[display("compressed cluster of {_0}")]
    Compressed(L2Place),
    #[display("snapshot table")]
    SnapshotTable,
    #[display("refcount table")]
    Reftable,
    #[display("refcount block")]
    Refblock,
    #[display("LUKS header")]
    LuksHeader,
    #[display("bitmap directory")]
    BitmapDirectory,
    #[display("bitmap table")]
    BitmapTable,
    #[display("bitmap data")]
    BitmapData,
}

impl Referrer {
    /// Whether its length says how much there has to be of it in the file. Guest data and bitmap data
    /// have whole clusters, of which a file need not store the rest of the last; refcount structures
    /// are replaced when they are not all there.
    pub(crate) const fn is_of_exact_length(self) -> bool {
        !matches!(
            self,
            Self::Header | Self::Data(_) | Self::BitmapData | Self::Reftable | Self::Refblock
        )
    }
}

/// An entry of an L1 table, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display)]
#[display("L1 entry {_1} of {_0}")]
pub struct L1Place(pub Layer, pub u64);

/// An entry of the L2 table at an offset, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display)]
#[display("L2 entry {_1} of the table at {_0}")]
pub struct L2Place(pub Offset, pub u64);

/// A refcount that is not the number of references.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display)]
#[display("cluster {cluster} refcount={refcount} reference={references}")]
#[expect(missing_docs, reason = "the fields are what their names and types say")]
pub struct Miscount {
    pub cluster: Cluster,
    pub refcount: u64,
    pub references: u64,
}

impl Miscount {
    /// The same of the cluster so many after it.
    pub const fn after(self, count: u64) -> Self {
        let cluster = Cluster(self.cluster.0 + count);
        Self { cluster, ..self }
    }
}

/// An entry of the active L1 table, or of an L2 table, whose COPIED bit is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongCopied {
    /// Its number in the table.
    pub index: u64,
    /// The entry.
    pub entry: u64,
    /// The refcount of what it leads to.
    pub refcount: u64,
}

/// One thing that is wrong. Counters of a [`Report`](crate::Report) say how it counts. Numbers that
/// the texts show in hexadecimal are the entry itself, or the bitmap of its subclusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[non_exhaustive]
#[expect(missing_docs, reason = "they are what their names and texts say")]
pub enum Finding {
    /// A region that reaches a cluster or more past the end of the file.
    #[error("{0} lies past the end of the file: {length} bytes at offset {at}",
        at = .1.offset, length = .1.length)]
    PastEnd(Referrer, Region),
    #[error("{0} at offset {1} would be where the header is")]
    AtHeader(Referrer, Offset),
    /// More references than the refcount width can count: how many more.
    #[error(
        "cluster {0}: {1} references more than its refcount can hold; `qemu-img amend` widens \
         refcounts, `qemu-img convert` makes a clean copy"
    )]
    Overflow(Cluster, u64),
    #[error("{0}, {1:#x}, has reserved bits set")]
    L1Reserved(L1Place, u64),
    #[error("{0}: L2 table at {1} is not cluster aligned")]
    L1Unaligned(L1Place, Offset),
    #[error("{0}, {1:#x}, has reserved bits set")]
    L2Reserved(L2Place, u64),
    #[error("{0}, {1:#x}: COPIED is set on a compressed cluster")]
    CompressedCopied(L2Place, u64),
    #[error("{0}, {1:#x}: a compressed cluster in an image with an external data file")]
    CompressedInDataFile(L2Place, u64),
    #[error("{0}, {1:#x}: a compressed cluster with subclusters")]
    CompressedSubclusters(L2Place, u64),
    #[error("{0}: subclusters {1:#x} are both allocated and zero")]
    SubclustersContradict(L2Place, u64),
    #[error("{0}: subclusters {1:#x} allocated in no cluster")]
    SubclustersUnallocated(L2Place, u64),
    #[error("{0}: data at {1} is not cluster aligned")]
    DataUnaligned(L2Place, Offset),
    /// A cluster without data that does not begin at a cluster.
    #[error("{0}: preallocated cluster at {1} is not cluster aligned")]
    EmptyUnaligned(L2Place, Offset),
    #[error("{count} snapshots in an image with an external data file")]
    SnapshotsInDataFile { count: u32 },
    #[error("snapshot {snapshot}: L1 table at {offset} is not cluster aligned")]
    SnapshotL1Unaligned { snapshot: u32, offset: Offset },
    #[error("snapshot {snapshot}: L1 table of {entries} entries is over 32 MiB")]
    SnapshotL1TooLarge { snapshot: u32, entries: u32 },
    #[error("snapshot table entry {snapshot} has {bytes} bytes of extra data, version 3 needs 16")]
    SnapshotIncomplete { snapshot: u32, bytes: u32 },
    #[error("snapshot table entry {snapshot} has {bytes} bytes of extra data, over 1024")]
    SnapshotExtraData { snapshot: u32, bytes: u32 },
    #[error("snapshot table entry {snapshot} is blank")]
    SnapshotBlank { snapshot: u32 },
    #[error("the bitmap directory at offset {offset} makes no sense from its byte {position} on")]
    BitmapDirectory { offset: Offset, position: u64 },
    #[error("entry {1}, {2:#x}, of the bitmap table at offset {0} is malformed")]
    BitmapTableEntry(Offset, u64, u64),
    #[error("the L2 table at {table} does not look like one")]
    NotATable { table: Offset },
    #[error("two L1 entries of one layer lead to the L2 table at {table}")]
    DoubledTable { table: Offset },
    #[error("cluster {cluster} is used as two things, or twice by one layer")]
    Overlap { cluster: Cluster },
    /// An allocated cluster that nothing refers to and that looks like an L2 table which leads to
    /// others of the kind.
    #[error("an L2 table that nothing refers to, at {table}, with {clusters} clusters of data")]
    LostTable { table: Offset, clusters: u64 },
    #[error(
        "{clusters} allocated clusters that nothing refers to are more than are searched for lost \
         L2 tables"
    )]
    LostTablesNotSought { clusters: u64 },
    #[error(
        "an L2 table has not a single entry, and nothing refers to {clusters} allocated clusters"
    )]
    EmptiedTables { clusters: u64 },
    #[error("no refcount table of {clusters} clusters can be at {offset} (header bytes 48 to 59)")]
    ReftableUnusable { offset: Offset, clusters: u32 },
    #[error("refcount table entry {0}, {1:#x}, has reserved bits set")]
    ReftableReserved(RefblockIndex, u64),
    #[error("refcount block {0} at {1} is not cluster aligned")]
    RefblockUnaligned(RefblockIndex, Offset),
    #[error("refcount block {0} at {1} is outside the image")]
    RefblockOutside(RefblockIndex, Offset),
    /// A refblock whose cluster is referred to other than once: how often.
    #[error("refcount block {0} refcount={1}")]
    RefblockShared(RefblockIndex, u64),
    /// Refcounts that cannot be read because their refblock is unaligned.
    #[error(
        "cannot read the refcounts of {count} clusters from {first} on: their refcount block is at \
         {1}", count = .0.count, first = .0.first
    )]
    RefcountsUnreadable(Run, Offset),
    /// A refcount below the references, the mark of data that the next write destroys; of so many
    /// clusters side by side, of which the first is named.
    #[error("{0}")]
    TooLow(Miscount, ClusterCount),
    /// A refcount above the references, likewise.
    #[error("{0}")]
    Leak(Miscount, ClusterCount),
    /// The COPIED bit of an L1 entry is set where it must not be, or not where it must.
    #[error("OFLAG_COPIED of L1 entry {at}, {entry:#x}: L2 table with refcount={refcount}",
        at = .0.index, entry = .0.entry, refcount = .0.refcount)]
    L1Copied(WrongCopied),
    /// The COPIED bit of an entry of the L2 table at an offset, likewise.
    #[error("OFLAG_COPIED of L2 entry {at} of the table at {0}, {entry:#x}: data cluster with refcount={refcount}",
        at = .1.index, entry = .1.entry, refcount = .1.refcount)]
    L2Copied(Offset, WrongCopied),
    #[error(
        "the table at {table} is left as it is: its cluster has other uses too, does not look like \
         a table, or lay past the end of the file in part"
    )]
    TableNotWritten { table: Offset },
}

impl Finding {
    /// The name of its kind, `past-end` for example: what programs tell kinds apart by.
    pub fn kind(&self) -> &'static str {
        self.into()
    }
}
