//! Who refers to each cluster.

use std::fmt;

use smallvec::SmallVec;

use super::Audit;
use super::corruption::{Corruption, Wrong};
use super::header::Header;
use super::qemu_view::habits::is_counted;
use super::reader::{Reader, Unreadable};

/// The active layer or a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerId {
    /// What the guest sees now.
    Active,
    /// A snapshot, by its place in the snapshot table, from 0.
    Snapshot(u64),
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active => f.write_str("the active layer"),
            Self::Snapshot(number) => write!(f, "snapshot {number}"),
        }
    }
}

/// Something that refers to clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Referrer {
    /// The header, to its own cluster.
    Header,
    /// The header or the snapshot table, to an L1 table.
    L1 {
        /// Whose L1 table.
        layer: LayerId,
    },
    /// An L1 entry, to an L2 table.
    L2 {
        /// Whose L1 table.
        layer: LayerId,
        /// The entry.
        l1_index: u64,
    },
    /// An L2 entry, to a cluster of data.
    Data {
        /// Whose L1 table.
        layer: LayerId,
        /// The L1 entry.
        l1_index: u64,
        /// The L2 entry.
        l2_index: u64,
    },
    /// An L2 entry, to the clusters that compressed data lies in.
    Compressed {
        /// Whose L1 table.
        layer: LayerId,
        /// The L1 entry.
        l1_index: u64,
        /// The L2 entry.
        l2_index: u64,
    },
    /// The header, to the snapshot table.
    SnapshotTable,
    /// The header, to the reftable.
    Reftable,
    /// A reftable entry, to a refblock.
    Refblock {
        /// The entry.
        index: u64,
    },
    /// The header extension, to the LUKS header.
    LuksHeader,
    /// The header extension, to the bitmap directory.
    BitmapDirectory,
    /// The bitmap directory, to a bitmap table.
    BitmapTable {
        /// Which bitmap, from 0.
        bitmap: u64,
    },
    /// A bitmap table entry, to a cluster of bits.
    BitmapData {
        /// Which bitmap, from 0.
        bitmap: u64,
        /// The entry.
        index: u64,
    },
}

/// Who refers to one cluster; mostly one does.
pub type Referrers = SmallVec<[Referrer; 1]>;

impl Referrer {
    /// Whether it refers to a part of the refcount structures.
    pub const fn is_structure(&self) -> bool {
        matches!(self, Self::Reftable | Self::Refblock { .. })
    }

    /// Whose table the entry is in, or is referred to.
    pub const fn layer(&self) -> Option<LayerId> {
        match *self {
            Self::L1 { layer }
            | Self::L2 { layer, .. }
            | Self::Data { layer, .. }
            | Self::Compressed { layer, .. } => Some(layer),
            _ => None,
        }
    }
}

impl fmt::Display for Referrer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("the header"),
            Self::L1 { layer } => write!(f, "the L1 table of {layer}"),
            Self::L2 { layer, l1_index } => write!(f, "L1 entry {l1_index} of {layer}"),
            Self::Data {
                layer,
                l1_index,
                l2_index,
            } => write!(f, "L2 entry {l1_index}/{l2_index} of {layer}"),
            Self::Compressed {
                layer,
                l1_index,
                l2_index,
            } => write!(f, "compressed L2 entry {l1_index}/{l2_index} of {layer}"),
            Self::SnapshotTable => f.write_str("the snapshot table"),
            Self::Reftable => f.write_str("the reftable"),
            Self::Refblock { index } => write!(f, "reftable entry {index}"),
            Self::LuksHeader => f.write_str("the LUKS header"),
            Self::BitmapDirectory => f.write_str("the bitmap directory"),
            Self::BitmapTable { bitmap } => write!(f, "the table of bitmap {bitmap}"),
            Self::BitmapData { bitmap, index } => write!(f, "entry {index} of bitmap {bitmap}"),
        }
    }
}

/// A walk from the header on.
pub(super) struct Walk<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) header: Header,
    /// Whether tables that begin in the header's cluster are read, as qemu does.
    pub(super) follows_header: bool,
    /// What it has found so far.
    pub(super) found: Audit,
}

/// A stretch of bytes that something refers to and that ends past the end of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastEnd {
    /// Who refers to it.
    pub referrer: Referrer,
    /// Its first byte.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// Whether it is counted all the same: it ends less than a cluster past the end.
    pub counted: bool,
}

impl PastEnd {
    /// Whether it is counted and the end of it is missing: what lies in whole clusters reads as
    /// zeros there.
    pub const fn is_in_part(&self) -> bool {
        let whole_clusters = matches!(
            self.referrer,
            Referrer::Header | Referrer::Data { .. } | Referrer::BitmapData { .. }
        );
        self.counted && !whole_clusters && !self.referrer.is_structure()
    }
}

/// An L2 table as one L1 entry leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableUse {
    /// Whose L1 table.
    pub layer: LayerId,
    /// The entry.
    pub l1_index: u64,
    /// Where the table begins.
    pub offset: u64,
}

impl TableUse {
    /// The entry.
    pub const fn referrer(&self) -> Referrer {
        let (layer, l1_index) = (self.layer, self.l1_index);
        Referrer::L2 { layer, l1_index }
    }
}

/// An L2 entry that reads as zeros, with an offset that no cluster begins at and no reserved bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmptyEntry {
    /// Who it is.
    pub referrer: Referrer,
    /// Where its table begins.
    pub table: u64,
    /// Byte position of the entry.
    pub at: u64,
    /// The bytes of the entry that reads the same without a cluster.
    pub without_cluster: SmallVec<[u8; 16]>,
}

impl Walk<'_> {
    /// Whether a table that begins at `offset` is passed over, as it would be the header.
    pub(super) fn skips(&mut self, offset: u64) -> bool {
        let is_header = offset < self.header.cluster_size();
        self.found.header_is_table |= is_header;
        is_header && !self.follows_header
    }

    pub(super) fn corrupt(&mut self, referrer: Referrer, wrong: Wrong) {
        self.found.corruptions.push(Corruption { referrer, wrong });
    }

    /// Something that only qemu-img gives up for.
    pub(super) fn block_qemu(&mut self, referrer: Referrer, why: &'static str, which: u64) {
        self.corrupt(referrer, Wrong::Unreadable(why, which));
        self.found.qemu.gives_up = true;
    }

    /// Something that a check gives up for. The audit goes on behind it.
    pub(super) fn block(&mut self, referrer: Referrer, why: &'static str, which: u64) {
        self.corrupt(referrer, Wrong::Unreadable(why, which));
        self.found.blocked += 1;
    }

    /// A reference to each cluster that a stretch of bytes touches; none when it ends a cluster or
    /// more past the end of the file.
    pub(super) fn refer(
        &mut self,
        referrer: Referrer,
        offset: u64,
        bytes: u64,
    ) -> Result<(), Unreadable> {
        let cluster_size = self.header.cluster_size();
        if bytes == 0 || bytes >= 1 << 63 {
            return Ok(());
        }
        let end = u128::from(offset) + u128::from(bytes);
        let counted = is_counted(end, self.reader.length(), cluster_size);
        if end > u128::from(self.reader.length()) {
            self.reader.pay_for_keeping()?;
            self.found.past_end.push(PastEnd {
                referrer,
                offset,
                bytes,
                counted,
            });
        }
        if !counted {
            self.corrupt(referrer, Wrong::PastTheEnd { offset, bytes });
            return Ok(());
        }
        let last = (offset + (bytes - 1)) / cluster_size;
        for cluster in offset / cluster_size..=last {
            self.reader.pay_for_keeping()?;
            let max = self.header.max_refcount();
            let referrers = self.found.references.entry(cluster).or_default();
            let counted = referrers.len() as u64;
            referrers.push(referrer);
            if counted >= max {
                self.corrupt(referrer, Wrong::TooManyReferences(cluster));
            }
            self.found.clusters = self.found.clusters.max(cluster + 1);
        }
        Ok(())
    }

    /// A reference to one cluster's worth of bytes.
    pub(super) fn refer_cluster(
        &mut self,
        referrer: Referrer,
        offset: u64,
    ) -> Result<(), Unreadable> {
        self.refer(referrer, offset, self.header.cluster_size())
    }
}
