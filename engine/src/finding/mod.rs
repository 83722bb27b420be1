//! Everything that a check can find wrong, with where it is.

mod display;

use std::fmt;

use crate::units::{Cluster, Offset, RefblockIndex};

/// Which L1 table something belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// The active one.
    Active,
    /// That of a snapshot, counted from 0.
    Snapshot(u32),
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active => f.write_str("the active layer"),
            Self::Snapshot(index) => write!(f, "snapshot {index}"),
        }
    }
}

/// What a region of the file is referred to as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Referrer {
    /// The header.
    Header,
    /// An L1 table.
    L1Table(Layer),
    /// An L2 table.
    L2Table,
    /// Guest data.
    Data,
    /// Compressed guest data.
    Compressed,
    /// The snapshot table.
    SnapshotTable,
    /// The reftable.
    Reftable,
    /// A refblock.
    Refblock,
    /// The LUKS header.
    LuksHeader,
    /// The bitmap directory.
    BitmapDirectory,
    /// A bitmap's table.
    BitmapTable,
    /// A bitmap's data.
    BitmapData,
}

impl Referrer {
    /// Whether its length says how much there has to be of it in the file. Guest data and bitmap data
    /// have whole clusters, of which a file need not store the rest of the last; refcount structures
    /// are replaced when they are not all there.
    pub(crate) const fn is_of_exact_length(self) -> bool {
        !matches!(
            self,
            Self::Header | Self::Data | Self::BitmapData | Self::Reftable | Self::Refblock
        )
    }
}

impl fmt::Display for Referrer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Header => "header",
            Self::L1Table(layer) => return write!(f, "L1 table of {layer}"),
            Self::L2Table => "L2 table",
            Self::Data => "data cluster",
            Self::Compressed => "compressed cluster",
            Self::SnapshotTable => "snapshot table",
            Self::Reftable => "refcount table",
            Self::Refblock => "refcount block",
            Self::LuksHeader => "LUKS header",
            Self::BitmapDirectory => "bitmap directory",
            Self::BitmapTable => "bitmap table",
            Self::BitmapData => "bitmap data",
        };
        f.write_str(name)
    }
}

/// One thing that is wrong. Counters of a [`Report`](crate::Report) say how it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are what their names and types say")]
pub enum Finding {
    /// A region that reaches a cluster or more past the end of the file.
    PastEnd {
        referrer: Referrer,
        offset: Offset,
        length: u64,
    },
    /// A table that is said to be where the header is.
    AtHeader { referrer: Referrer, offset: Offset },
    /// More references than the refcount width can count.
    Overflow { cluster: Cluster, references: u64 },
    /// Reserved bits in an L1 entry.
    L1Reserved {
        layer: Layer,
        index: u64,
        entry: u64,
    },
    /// An L1 entry that does not lead to the beginning of a cluster.
    L1Unaligned {
        layer: Layer,
        index: u64,
        offset: Offset,
    },
    /// Reserved bits in an L2 entry.
    L2Reserved {
        table: Offset,
        index: u64,
        entry: u64,
    },
    /// A compressed cluster with the COPIED bit.
    CompressedCopied {
        table: Offset,
        index: u64,
        entry: u64,
    },
    /// A compressed cluster in an image with an external data file.
    CompressedInDataFile {
        table: Offset,
        index: u64,
        entry: u64,
    },
    /// A compressed cluster with a subcluster bitmap.
    CompressedSubclusters {
        table: Offset,
        index: u64,
        entry: u64,
    },
    /// Subclusters both allocated and zero.
    SubclustersContradict {
        table: Offset,
        index: u64,
        subclusters: u64,
    },
    /// Allocated subclusters without a cluster.
    SubclustersUnallocated {
        table: Offset,
        index: u64,
        subclusters: u64,
    },
    /// Guest data that does not begin at a cluster.
    DataUnaligned {
        table: Offset,
        index: u64,
        offset: Offset,
    },
    /// A cluster without data that does not begin at a cluster.
    EmptyUnaligned {
        table: Offset,
        index: u64,
        offset: Offset,
    },
    /// Snapshots in an image with an external data file.
    SnapshotsInDataFile { count: u32 },
    /// A snapshot whose L1 table does not begin at a cluster.
    SnapshotL1Unaligned { snapshot: u32, offset: Offset },
    /// A snapshot whose L1 table is over 32 MiB.
    SnapshotL1TooLarge { snapshot: u32, entries: u32 },
    /// A snapshot table entry without the extra data that version 3 demands.
    SnapshotIncomplete { snapshot: u32, bytes: u32 },
    /// A snapshot table entry with more extra data than anyone reads.
    SnapshotExtraData { snapshot: u32, bytes: u32 },
    /// A snapshot table entry of zeros.
    SnapshotBlank { snapshot: u32 },
    /// The bitmap directory makes no sense from a byte on.
    BitmapDirectory { offset: Offset, position: u64 },
    /// An entry of a bitmap's table that makes no sense.
    BitmapTableEntry {
        table: Offset,
        index: u64,
        entry: u64,
    },
    /// An L2 table that does not look like one.
    NotATable { table: Offset },
    /// An L2 table that two entries of one L1 table lead to.
    DoubledTable { table: Offset },
    /// A cluster that is used as two things, or twice by one layer.
    Overlap { cluster: Cluster },
    /// An allocated cluster that nothing refers to and that looks like an L2 table which leads to
    /// others of the kind.
    LostTable { table: Offset, clusters: u64 },
    /// More allocated clusters that nothing refers to than are looked at.
    LostTablesNotSought { clusters: u64 },
    /// L2 tables without an entry, beside so many allocated clusters that nothing refers to.
    EmptiedTables { clusters: u64 },
    /// No reftable can be where the header says that it is.
    ReftableUnusable { offset: Offset, clusters: u32 },
    /// Reserved bits in a reftable entry.
    ReftableReserved { refblock: RefblockIndex, entry: u64 },
    /// A reftable entry that does not lead to the beginning of a cluster.
    RefblockUnaligned {
        refblock: RefblockIndex,
        offset: Offset,
    },
    /// A reftable entry that leads past the end of the file.
    RefblockOutside {
        refblock: RefblockIndex,
        offset: Offset,
    },
    /// A refblock whose cluster is referred to other than once.
    RefblockShared {
        refblock: RefblockIndex,
        references: u64,
    },
    /// Refcounts that cannot be read because their refblock is unaligned.
    RefcountsUnreadable {
        first: Cluster,
        clusters: u64,
        offset: Offset,
    },
    /// A refcount below the references, the mark of data that the next write destroys.
    TooLow {
        cluster: Cluster,
        refcount: u64,
        references: u64,
    },
    /// A refcount above the references.
    Leak {
        cluster: Cluster,
        refcount: u64,
        references: u64,
    },
    /// The COPIED bit of an L1 entry is set where it must not be, or not where it must.
    L1Copied {
        index: u64,
        entry: u64,
        refcount: u64,
    },
    /// The COPIED bit of an L2 entry, likewise.
    L2Copied {
        table: Offset,
        index: u64,
        entry: u64,
        refcount: u64,
    },
    /// A table is not written to: its cluster serves as something else as well, or may never have
    /// been that table.
    TableNotWritten { table: Offset },
}
