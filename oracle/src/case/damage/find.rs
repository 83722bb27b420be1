//! Finds the structures of an image that can be damaged. Reads the bytes on its own terms and
//! follows only what lies inside the file, so that any bytes give some answer.
//!
//! Positions are bytes in the file. The layout is the qcow2 specification's: "Header", "Refcount
//! table", "Cluster mapping", "Snapshots", "Bitmaps extension".

use std::collections::BTreeSet;

use super::SparseBytes;
use crate::audit::{Header, OFFSET, be64, entries};
use crate::format::{BITMAPS, L1_MAX, MAGIC};

/// Tables longer than this are cut: enough for every image of the harness.
const LONGEST_TABLE: u64 = 1 << 16;

/// One 64-bit field: where it is and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Byte position of the field.
    pub at: u64,
    /// The field.
    pub value: u64,
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
    /// What the header says.
    pub header: Header,
    /// Length of the file in bytes.
    pub length: u64,
    /// All entries of the reftable that lie inside the file.
    pub reftable: Vec<Entry>,
    /// The entries that are not 0 of the active L1 table, then of each snapshot's that can be followed.
    pub l1_tables: Vec<Vec<Entry>>,
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
pub fn structures(image: &SparseBytes) -> Option<Structures> {
    let header = Header::parse(&image.bytes(0, 112));
    let fits = (9..=21).contains(&header.cluster_bits) && header.refcount_order <= 6;
    if image.number(0, 4) != MAGIC || !fits {
        return None;
    }
    let entries = header.reftable_clusters << (header.cluster_bits - 3);
    let mut found = Structures {
        header,
        length: image.len(),
        reftable: table(image, header.reftable_offset, entries),
        l1_tables: Vec::new(),
        l2_entries: Vec::new(),
        snapshots: snapshots(image, &header),
        bitmaps_extension: bitmaps_extension(image, &header),
        bitmaps: Vec::new(),
    };
    found.find_l1_tables(image);
    found.find_l2_entries(image);
    if let Some(extension) = found.bitmaps_extension {
        found.find_bitmaps(image, extension);
    }
    Some(found)
}

impl Structures {
    /// Clusters of the file, the last one perhaps in part.
    pub const fn clusters(&self) -> u64 {
        self.length.div_ceil(self.header.cluster_size())
    }

    /// The reftable entries that lead to a whole cluster inside the file, with their indices.
    pub fn refblocks(&self) -> impl Iterator<Item = (u64, &Entry)> {
        let entries = (0..).zip(&self.reftable);
        entries.filter(|(_, entry)| self.is_table(entry.value))
    }

    /// Whether a table of one cluster can lie at `offset`.
    const fn is_table(&self, offset: u64) -> bool {
        offset != 0 && self.is_followed(offset)
    }

    /// Whether an L1 or L2 table can be followed to `offset`; qemu reads even the header as one.
    const fn is_followed(&self, offset: u64) -> bool {
        self.header.is_aligned(offset) && offset < self.length
    }

    fn find_l1_tables(&mut self, image: &SparseBytes) {
        let active = (self.header.l1_offset, self.header.l1_entries);
        let of_snapshots = self.snapshots.iter();
        let of_snapshots = of_snapshots.map(|&at| (image.number(at, 8), image.number(at + 8, 4)));
        // A longer L1 table of a snapshot nobody reads.
        let of_snapshots = of_snapshots.filter(|(_, entries)| *entries <= L1_MAX / 8);
        let all = std::iter::once(active).chain(of_snapshots);
        let followed = all.filter(|&(offset, _)| self.is_followed(offset));
        let tables = followed.map(|(offset, entries)| used(image, offset, entries));
        self.l1_tables = tables.collect();
    }

    fn find_l2_entries(&mut self, image: &SparseBytes) {
        let l1_entries = self.l1_tables.iter().flatten();
        let tables: BTreeSet<u64> = l1_entries.map(|entry| entry.value & OFFSET).collect();
        let most = self.header.cluster_size().min(8 * LONGEST_TABLE);
        for offset in tables {
            if self.is_followed(offset) {
                // Whole words inside the file.
                let inside = most.min((self.length - offset) / 8 * 8) as usize;
                let mut table = image.bytes(offset, inside);
                table.resize(most as usize, 0);
                let used = entries(&self.header, &table).map(|entry| Entry {
                    at: offset + entry.index * self.header.l2_entry_bytes(),
                    value: entry.word,
                });
                self.l2_entries.extend(used);
            }
        }
    }

    fn find_bitmaps(&mut self, image: &SparseBytes, extension: u64) {
        let mut at = image.number(extension + 16, 8);
        let end = at.saturating_add(image.number(extension + 8, 8));
        for _ in 0..image.number(extension, 4) {
            if at == 0 || at.checked_add(24).is_none_or(|next| next > end) || end > self.length {
                break;
            }
            let (offset, entries) = (image.number(at, 8), image.number(at + 8, 4));
            let followed = self.is_table(offset).then(|| used(image, offset, entries));
            let entries = followed.unwrap_or_default();
            self.bitmaps.push(Bitmap { at, entries });
            let size = 24 + image.number(at + 18, 2) + image.number(at + 20, 4);
            at += size.next_multiple_of(8);
        }
    }
}

fn bitmaps_extension(image: &SparseBytes, header: &Header) -> Option<u64> {
    if header.version < 3 {
        return None;
    }
    let mut at = image.number(100, 4);
    while at + 8 <= header.cluster_size() {
        match (image.number(at, 4), image.number(at + 4, 4)) {
            (0, _) => break,
            (BITMAPS, _) => return Some(at + 8),
            (_, length) => at += 8 + length.next_multiple_of(8),
        }
    }
    None
}

fn snapshots(image: &SparseBytes, header: &Header) -> Vec<u64> {
    let mut snapshots = Vec::new();
    let (claimed, mut at) = (header.snapshots, header.snapshots_offset);
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
    let fields = bytes.chunks_exact(8).map(be64).zip((offset..).step_by(8));
    fields.map(|(value, at)| Entry { at, value }).collect()
}

/// Those that are not 0.
fn used(image: &SparseBytes, offset: u64, entries: u64) -> Vec<Entry> {
    let mut table = table(image, offset, entries);
    table.retain(|entry| entry.value != 0);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reftable_said_to_lie_at_the_end_of_all_offsets_has_no_entries() {
        let mut image = SparseBytes::default();
        for (at, value) in [(4, 3_u32), (20, 9), (56, 1), (100, 112)] {
            image.put(at, &value.to_be_bytes());
        }
        image.put(0, b"QFI\xfb");
        image.put(48, &u64::MAX.to_be_bytes());
        assert!(structures(&image).unwrap().reftable.is_empty());
    }
}
