//! Finds the structures of an image that can be damaged. Reads the bytes on its own terms and
//! follows only what lies inside the file, so that any bytes give some answer.
//!
//! Positions are bytes in the file. The layout is the qcow2 specification's: "Header", "Refcount
//! table", "Cluster mapping", "Snapshots", "Bitmaps extension".

use std::collections::BTreeSet;
use std::io;

use super::bytes::{ReadWriteAt, in_memory};

/// Bits 9..=55 of an L1 or L2 entry: the offset that it leads to.
pub const OFFSET_BITS: u64 = 0x00ff_ffff_ffff_fe00;
/// Bit 62 of an L2 entry: the cluster is compressed.
pub const COMPRESSED: u64 = 1 << 62;
/// Bit 63 of an L1 or L2 entry: the refcount is exactly one.
pub const COPIED: u64 = 1 << 63;
/// Header extension "Bitmaps".
const BITMAPS_EXTENSION: u32 = 0x2385_2875;
/// Tables longer than this are cut: enough for every image of the harness.
const LONGEST_TABLE: u64 = 1 << 16;
/// Entries of the longest L1 table that a snapshot may have: 32 MiB.
const MOST_L1_ENTRIES: u32 = (32 << 20) / 8;

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

/// A snapshot table entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Byte position of the entry: L1 offset (8 bytes), L1 entries (4), …, extra data size at 36.
    pub at: u64,
    /// Its L1 table's offset.
    pub l1_offset: u64,
    /// Its L1 table's entries.
    pub l1_entries: u32,
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
    /// The snapshot table's entries.
    pub snapshots: Vec<Snapshot>,
    /// Byte position of the bitmaps extension's data, when there is one.
    pub bitmaps_extension: Option<u64>,
    /// The bitmap directory's entries.
    pub bitmaps: Vec<Bitmap>,
}

/// The structures of an image; `None` when it has no header that can be read.
pub fn structures(image: &dyn ReadWriteAt) -> io::Result<Option<Structures>> {
    let version = be32(image, 4)?;
    let cluster_bits = be32(image, 20)?;
    let version_3 = version >= 3;
    let refcount_order = if version_3 { be32(image, 96)? } else { 4 };
    if be32(image, 0)? != 0x5146_49fb || !(9..=21).contains(&cluster_bits) || refcount_order > 6 {
        return Ok(None);
    }
    let incompatible = if version_3 { be64(image, 72)? } else { 0 };
    let mut found = Structures {
        cluster_bits,
        version,
        refcount_order,
        extended_l2: incompatible & 16 != 0,
        data_file: incompatible & 4 != 0,
        length: image.len(),
        reftable: (be64(image, 48)?, be32(image, 56)?),
        reftable_entries: Vec::new(),
        l1_tables: Vec::new(),
        l2_entries: Vec::new(),
        snapshots: Vec::new(),
        bitmaps_extension: None,
        bitmaps: Vec::new(),
    };
    let (reftable, clusters) = found.reftable;
    let entries = u64::from(clusters) << (cluster_bits - 3);
    found.reftable_entries = table(image, reftable, entries)?;
    found.find_snapshots(image)?;
    found.find_l1_tables(image)?;
    found.find_l2_entries(image)?;
    found.find_bitmaps(image)?;
    Ok(Some(found))
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

    /// The reftable entries that lead to a whole cluster inside the file.
    #[must_use]
    pub fn refblocks(&self) -> Vec<Entry> {
        let inside = |entry: &&Entry| self.is_table(entry.value);
        self.reftable_entries
            .iter()
            .filter(inside)
            .copied()
            .collect()
    }

    /// Whether a table of one cluster can lie at `offset`.
    #[must_use]
    pub const fn is_table(&self, offset: u64) -> bool {
        offset != 0 && offset.is_multiple_of(self.cluster_size()) && offset < self.length
    }

    /// Whether an L1 or L2 table can be followed to `offset`; qemu reads even the header as one.
    const fn is_followed(&self, offset: u64) -> bool {
        offset.is_multiple_of(self.cluster_size()) && offset < self.length
    }

    fn find_snapshots(&mut self, image: &dyn ReadWriteAt) -> io::Result<()> {
        let mut at = be64(image, 64)?;
        let claimed = u64::from(be32(image, 60)?);
        for _ in 0..claimed.min(LONGEST_TABLE) {
            if at == 0 || at.checked_add(40).is_none_or(|end| end > self.length) {
                break;
            }
            let mut entry = [0; 40];
            image.read_at(at, &mut entry)?;
            // A number that nobody's table has says nothing of where this one ends.
            if claimed > LONGEST_TABLE && entry == [0; 40] {
                break;
            }
            self.snapshots.push(Snapshot {
                at,
                l1_offset: be64(image, at)?,
                l1_entries: be32(image, at + 8)?,
            });
            let names = u64::from(be16(image, at + 12)?) + u64::from(be16(image, at + 14)?);
            let size = 40 + u64::from(be32(image, at + 36)?) + names;
            at += size.next_multiple_of(8);
        }
        Ok(())
    }

    fn find_l1_tables(&mut self, image: &dyn ReadWriteAt) -> io::Result<()> {
        let active = (None, be64(image, 40)?, be32(image, 36)?);
        let of_snapshots = self.snapshots.iter().enumerate();
        // A longer L1 table of a snapshot nobody reads.
        let of_snapshots = of_snapshots.filter(|(_, s)| s.l1_entries <= MOST_L1_ENTRIES);
        let of_snapshots = of_snapshots.map(|(i, s)| (Some(i), s.l1_offset, s.l1_entries));
        for (snapshot, offset, entries) in std::iter::once(active).chain(of_snapshots) {
            if self.is_followed(offset) {
                let mut entries = table(image, offset, entries.into())?;
                entries.retain(|entry| entry.value != 0);
                self.l1_tables.push(L1Table {
                    snapshot,
                    offset,
                    entries,
                });
            }
        }
        Ok(())
    }

    fn find_l2_entries(&mut self, image: &dyn ReadWriteAt) -> io::Result<()> {
        let l1_entries = self.l1_tables.iter().flat_map(|table| &table.entries);
        let tables: BTreeSet<u64> = l1_entries.map(|entry| entry.value & OFFSET_BITS).collect();
        let fields = if self.extended_l2 { 2 } else { 1 };
        for offset in tables {
            if !self.is_followed(offset) {
                continue;
            }
            let all = table(image, offset, self.cluster_size() / 8)?;
            let used = all
                .chunks(fields)
                .filter(|entry| entry.iter().any(|part| part.value != 0));
            self.l2_entries.extend(used.map(|entry| entry[0]));
        }
        Ok(())
    }

    fn find_bitmaps(&mut self, image: &dyn ReadWriteAt) -> io::Result<()> {
        let Some(extension) = self.find_bitmaps_extension(image)? else {
            return Ok(());
        };
        self.bitmaps_extension = Some(extension);
        let (count, mut at) = (be32(image, extension)?, be64(image, extension + 16)?);
        let end = at.saturating_add(be64(image, extension + 8)?);
        for _ in 0..count {
            if at == 0 || at.checked_add(24).is_none_or(|next| next > end) || end > self.length {
                break;
            }
            let (offset, entries) = (be64(image, at)?, be32(image, at + 8)?);
            let mut entries = if self.is_table(offset) {
                table(image, offset, entries.into())?
            } else {
                Vec::new()
            };
            entries.retain(|entry| entry.value != 0);
            self.bitmaps.push(Bitmap { at, entries });
            let size = 24 + u64::from(be16(image, at + 18)?) + u64::from(be32(image, at + 20)?);
            at += size.next_multiple_of(8);
        }
        Ok(())
    }

    fn find_bitmaps_extension(&self, image: &dyn ReadWriteAt) -> io::Result<Option<u64>> {
        let mut at = match self.version {
            0..=2 => return Ok(None),
            _ => u64::from(be32(image, 100)?),
        };
        while at + 8 <= self.cluster_size() {
            match (be32(image, at)?, u64::from(be32(image, at + 4)?)) {
                (0, _) => break,
                (BITMAPS_EXTENSION, _) => return Ok(Some(at + 8)),
                (_, length) => at += 8 + length.next_multiple_of(8),
            }
        }
        Ok(None)
    }
}

/// The `entries` fields from `offset` on, as far as they lie inside the file.
fn table(image: &dyn ReadWriteAt, offset: u64, entries: u64) -> io::Result<Vec<Entry>> {
    let entries = entries.min(image.len().saturating_sub(offset) / 8);
    let mut bytes = vec![0; 8 * in_memory(entries.min(LONGEST_TABLE))];
    image.read_at(offset, &mut bytes)?;
    let fields = bytes.as_chunks().0.iter().zip((offset..).step_by(8));
    let entry = |(field, at): (&[u8; 8], u64)| Entry {
        at,
        value: u64::from_be_bytes(*field),
    };
    Ok(fields.map(entry).collect())
}

/// The big-endian 16-bit field at byte `at`.
pub fn be16(image: &dyn ReadWriteAt, at: u64) -> io::Result<u16> {
    let mut field = [0; 2];
    image.read_at(at, &mut field)?;
    Ok(u16::from_be_bytes(field))
}

/// The big-endian 32-bit field at byte `at`.
pub fn be32(image: &dyn ReadWriteAt, at: u64) -> io::Result<u32> {
    let mut field = [0; 4];
    image.read_at(at, &mut field)?;
    Ok(u32::from_be_bytes(field))
}

/// The big-endian 64-bit field at byte `at`.
pub fn be64(image: &dyn ReadWriteAt, at: u64) -> io::Result<u64> {
    let mut field = [0; 8];
    image.read_at(at, &mut field)?;
    Ok(u64::from_be_bytes(field))
}
