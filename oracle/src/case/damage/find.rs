//! Finds the structures of an image that can be damaged. Reads the bytes on its own terms and
//! follows only what lies inside the file, so that any bytes give some answer.
//!
//! Positions are bytes in the file. The layout is the qcow2 specification's: "Header", "Refcount
//! table", "Cluster mapping", "Snapshots", "Bitmaps extension".

use std::collections::BTreeSet;

use super::SparseBytes;

/// Bits 9..=55 of an L1 or L2 entry: the offset that it leads to.
pub const OFFSET_BITS: u64 = 0x00ff_ffff_ffff_fe00;
/// Bit 62 of an L2 entry: the cluster is compressed.
pub const COMPRESSED: u64 = 1 << 62;
/// Bit 63 of an L1 or L2 entry: the refcount is exactly one.
pub const COPIED: u64 = 1 << 63;
/// Header extension "Bitmaps".
const BITMAPS_EXTENSION: u64 = 0x2385_2875;
/// Tables longer than this are cut: enough for every image of the harness.
const LONGEST_TABLE: u64 = 1 << 16;
/// Entries of the longest L1 table that a snapshot may have: 32 MiB.
const MOST_L1_ENTRIES: u64 = (32 << 20) / 8;

/// One 64-bit field: where it is and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Byte position of the field.
    pub at: u64,
    /// The field.
    pub value: u64,
}

/// The active L1 table, or a snapshot's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L1Table {
    /// The snapshot it belongs to, counted in the order of the snapshot table; `None` for the
    /// active one.
    pub snapshot: Option<usize>,
    /// Where the table begins.
    pub offset: u64,
    /// Its entries that are not 0.
    pub entries: Vec<Entry>,
}

/// A bitmap directory entry and the bitmap table's entries that are not 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    /// Byte position of the entry: table offset (8 bytes), table entries (4), flags (4), …
    pub at: u64,
    /// Entries of its table that are not 0.
    pub entries: Vec<Entry>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structures {
    /// Binary logarithm of the cluster size.
    pub cluster_bits: u32,
    /// 2 or 3.
    pub version: u32,
    /// Binary logarithm of the refcount width.
    pub refcount_order: u32,
    /// L2 entries are 16 bytes, the second 8 a subcluster bitmap.
    pub extended_l2: bool,
    /// Guest data lies in a file of its own.
    pub data_file: bool,
    /// Length of the file in bytes.
    pub length: u64,
    /// The reftable's offset and clusters, as the header has them.
    pub reftable: (u64, u32),
    /// All entries of the reftable that lie inside the file.
    pub reftable_entries: Vec<Entry>,
    /// The active L1 table, then each snapshot's that can be followed.
    pub l1_tables: Vec<L1Table>,
    /// L2 entries that are not 0, or have subclusters, each L2 table once.
    pub l2_entries: Vec<Entry>,
    /// Byte positions of the snapshot table's entries: L1 offset (8 bytes), L1 entries (4), …, extra
    /// data size at 36.
    pub snapshots: Vec<u64>,
    /// Byte position of the bitmaps extension's data, when there is one.
    pub bitmaps_extension: Option<u64>,
    /// The bitmap directory's entries.
    pub bitmaps: Vec<Bitmap>,
}

/// The structures of an image; `None` when it has no header that can be read.
#[must_use]
pub fn structures(image: &SparseBytes) -> Option<Structures> {
    let (version, cluster_bits) = (image.number(4, 4) as u32, image.number(20, 4) as u32);
    let newer = |at, bytes, older| {
        if version >= 3 {
            image.number(at, bytes)
        } else {
            older
        }
    };
    let (incompatible, refcount_order) = (newer(72, 8, 0), newer(96, 4, 4) as u32);
    let magic = image.number(0, 4);
    if magic != 0x5146_49fb || !(9..=21).contains(&cluster_bits) || refcount_order > 6 {
        return None;
    }
    let reftable = (image.number(48, 8), image.number(56, 4) as u32);
    let entries = u64::from(reftable.1) << (cluster_bits - 3);
    let mut found = Structures {
        cluster_bits,
        version,
        refcount_order,
        extended_l2: incompatible & 16 != 0,
        data_file: incompatible & 4 != 0,
        length: image.len(),
        reftable,
        reftable_entries: table(image, reftable.0, entries),
        l1_tables: Vec::new(),
        l2_entries: Vec::new(),
        snapshots: snapshots(image),
        bitmaps_extension: None,
        bitmaps: Vec::new(),
    };
    found.find_l1_tables(image);
    found.find_l2_entries(image);
    found.find_bitmaps(image);
    Some(found)
}

impl Structures {
    /// Bytes of a cluster.
    #[must_use]
    pub const fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Clusters of the file, the last one perhaps in part.
    #[must_use]
    pub const fn clusters(&self) -> u64 {
        self.length.div_ceil(self.cluster_size())
    }

    /// Refcounts of a refblock.
    #[must_use]
    pub const fn refcounts_per_refblock(&self) -> u64 {
        1 << (self.cluster_bits + 3 - self.refcount_order)
    }

    /// The reftable entries that lead to a whole cluster inside the file, with their indices.
    pub fn refblocks(&self) -> impl Iterator<Item = (usize, &Entry)> {
        let entries = self.reftable_entries.iter().enumerate();
        entries.filter(|(_, entry)| self.is_table(entry.value))
    }

    /// Whether a table of one cluster can lie at `offset`.
    const fn is_table(&self, offset: u64) -> bool {
        offset != 0 && self.is_followed(offset)
    }

    /// Whether an L1 or L2 table can be followed to `offset`; qemu reads even the header as one.
    const fn is_followed(&self, offset: u64) -> bool {
        offset.is_multiple_of(self.cluster_size()) && offset < self.length
    }

    fn find_l1_tables(&mut self, image: &SparseBytes) {
        let active = (None, image.number(40, 8), image.number(36, 4));
        let of_snapshots = self.snapshots.iter().enumerate();
        let of_snapshots = of_snapshots.map(|(index, &at)| {
            let (offset, entries) = (image.number(at, 8), image.number(at + 8, 4));
            (Some(index), offset, entries)
        });
        // A longer L1 table of a snapshot nobody reads.
        let of_snapshots = of_snapshots.filter(|(.., entries)| *entries <= MOST_L1_ENTRIES);
        let all = std::iter::once(active).chain(of_snapshots);
        let followed = all.filter(|&(_, offset, _)| self.is_followed(offset));
        let tables = followed.map(|(snapshot, offset, entries)| L1Table {
            snapshot,
            offset,
            entries: used(image, offset, entries),
        });
        self.l1_tables = tables.collect();
    }

    fn find_l2_entries(&mut self, image: &SparseBytes) {
        let l1_entries = self.l1_tables.iter().flat_map(|table| &table.entries);
        let tables: BTreeSet<u64> = l1_entries.map(|entry| entry.value & OFFSET_BITS).collect();
        let fields = if self.extended_l2 { 2 } else { 1 };
        for offset in tables {
            if self.is_followed(offset) {
                let all = table(image, offset, self.cluster_size() / 8);
                let is_used = |fields: &&[Entry]| fields.iter().any(|field| field.value != 0);
                let used = all.chunks(fields).filter(is_used);
                self.l2_entries.extend(used.map(|fields| fields[0]));
            }
        }
    }

    fn find_bitmaps(&mut self, image: &SparseBytes) {
        self.bitmaps_extension = self.find_bitmaps_extension(image);
        let Some(extension) = self.bitmaps_extension else {
            return;
        };
        let mut at = image.number(extension + 16, 8);
        let end = at.saturating_add(image.number(extension + 8, 8));
        for _ in 0..image.number(extension, 4) {
            if at == 0 || at.checked_add(24).is_none_or(|next| next > end) || end > self.length {
                break;
            }
            let (offset, entries) = (image.number(at, 8), image.number(at + 8, 4));
            let entries = if self.is_table(offset) {
                used(image, offset, entries)
            } else {
                Vec::new()
            };
            self.bitmaps.push(Bitmap { at, entries });
            let size = 24 + image.number(at + 18, 2) + image.number(at + 20, 4);
            at += size.next_multiple_of(8);
        }
    }

    fn find_bitmaps_extension(&self, image: &SparseBytes) -> Option<u64> {
        if self.version < 3 {
            return None;
        }
        let mut at = image.number(100, 4);
        while at + 8 <= self.cluster_size() {
            match (image.number(at, 4), image.number(at + 4, 4)) {
                (0, _) => break,
                (BITMAPS_EXTENSION, _) => return Some(at + 8),
                (_, length) => at += 8 + length.next_multiple_of(8),
            }
        }
        None
    }
}

fn snapshots(image: &SparseBytes) -> Vec<u64> {
    let mut snapshots = Vec::new();
    let (claimed, mut at) = (image.number(60, 4), image.number(64, 8));
    for _ in 0..claimed.min(LONGEST_TABLE) {
        if at == 0 || at.checked_add(40).is_none_or(|end| end > image.len()) {
            break;
        }
        // A number that nobody's table has says nothing of where this one ends.
        if claimed > LONGEST_TABLE && image.bytes(at, 40).iter().all(|&byte| byte == 0) {
            break;
        }
        snapshots.push(at);
        let names = image.number(at + 12, 2) + image.number(at + 14, 2);
        at += (40 + image.number(at + 36, 4) + names).next_multiple_of(8);
    }
    snapshots
}

/// The `entries` fields from `offset` on, as far as they lie inside the file.
fn table(image: &SparseBytes, offset: u64, entries: u64) -> Vec<Entry> {
    let entries = entries.min(image.len().saturating_sub(offset) / 8);
    let bytes = image.bytes(offset, 8 * entries.min(LONGEST_TABLE) as usize);
    let fields = bytes.as_chunks().0.iter().zip((offset..).step_by(8));
    let entry = |(field, at): (&[u8; 8], u64)| Entry {
        at,
        value: u64::from_be_bytes(*field),
    };
    fields.map(entry).collect()
}

/// Those that are not 0.
fn used(image: &SparseBytes, offset: u64, entries: u64) -> Vec<Entry> {
    let mut table = table(image, offset, entries);
    table.retain(|entry| entry.value != 0);
    table
}
