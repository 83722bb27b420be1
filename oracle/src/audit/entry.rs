//! Entries of L1 and L2 tables, as words (specification, "Cluster mapping").

use smallvec::SmallVec;

use super::header::Header;
use super::reader::be64;
use crate::format::ZERO;

/// Bit 63 of an L1 or L2 entry: the refcount of what it leads to is one.
pub const COPIED: u64 = 1 << 63;
/// Bit 62 of an L2 entry: the cluster is compressed.
pub const COMPRESSED: u64 = 1 << 62;
/// Bits 9 to 55 of an L1 or L2 entry: where it leads.
pub const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// All bits of an L1 entry that are neither offset nor bit 63.
const L1_RESERVED: u64 = !(OFFSET | COPIED);
/// Bits 1 to 8 and 56 to 61 of an L2 entry that is not compressed.
const L2_RESERVED: u64 = 0x3f00_0000_0000_01fe;
/// The half of a subcluster bitmap that says which are allocated.
const ALLOCATED: u64 = 0xffff_ffff;

/// Where an L1 entry leads, and whether it has reserved bits set.
pub(super) const fn l1_entry(word: u64) -> (u64, bool) {
    (word & OFFSET, word & L1_RESERVED != 0)
}

/// What an L2 entry leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To no cluster: it is unallocated, or reads as zeros.
    Nothing,
    /// A cluster.
    Cluster {
        /// Its first byte.
        offset: u64,
    },
    /// Compressed data.
    Compressed {
        /// Its first byte.
        offset: u64,
        /// Bytes to the end of the last sector.
        bytes: u64,
    },
}

/// An entry of an L2 table that is not all zeros.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Which of the table.
    pub index: u64,
    /// Its 64 bits, or the first 64 of an extended one.
    pub word: u64,
    /// The subcluster bitmap: low half allocated, high half zero. Of an entry without subclusters
    /// the one that says the same.
    pub bitmap: u64,
    /// What it leads to.
    pub target: Target,
}

impl Entry {
    /// Whether some of its cluster is read, and not zeros or the backing file in its place.
    pub const fn holds_data(&self) -> bool {
        self.bitmap & ALLOCATED != 0
    }

    /// Whether bit 63 is set.
    pub const fn is_copied(&self) -> bool {
        self.word & COPIED != 0
    }

    /// Whether bits are set that mean nothing. A compressed entry has none.
    pub const fn has_reserved_bits(&self) -> bool {
        !matches!(self.target, Target::Compressed { .. }) && self.word & L2_RESERVED != 0
    }

    /// The bytes of the entry that reads as this one does, which holds no data, without a cluster.
    pub(super) fn without_cluster(&self, header: &Header) -> SmallVec<[u8; 16]> {
        let zero = (self.bitmap | self.bitmap << 32) & !ALLOCATED;
        let words: &[u64] = if header.extended_l2() {
            &[0, zero]
        } else {
            &[ZERO]
        };
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }
}

/// The entries of an L2 table, or of a part of one from its start, that are not all zeros.
pub fn entries(header: &Header, table: &[u8]) -> impl Iterator<Item = Entry> {
    let bytes = header.l2_entry_bytes() as usize;
    let raw = (0..).zip(table.chunks_exact(bytes));
    let raw = raw.filter(|(_, raw)| raw.iter().any(|&byte| byte != 0));
    raw.map(|(index, raw)| entry(header, index, be64(raw), raw.get(8..16).map(be64)))
}

/// Whether some bytes read as an L1 table: no more entries make no sense than do.
pub fn reads_as_l1_table(header: &Header, table: &[u8]) -> bool {
    let words = table.chunks_exact(8).map(be64).filter(|&word| word != 0);
    most_make_sense(words.map(|word| {
        let (offset, reserved) = l1_entry(word);
        !reserved && header.is_aligned(offset)
    }))
}

/// The same of an L2 table, or of a part of one from its start, in a file of so many bytes.
pub fn reads_as_l2_table(header: &Header, length: u64, table: &[u8]) -> bool {
    most_make_sense(entries(header, table).map(|entry| match entry.target {
        // What begins past the end of the file does so after a repair: it does not grow over it.
        Target::Compressed { offset, .. } => {
            let is_counted = !header.external_data() && entry.bitmap == 0;
            is_counted && !entry.is_copied() && offset < length
        }
        Target::Cluster { offset } => {
            !entry.has_reserved_bits() && (header.is_aligned(offset) || !entry.holds_data())
        }
        Target::Nothing => !entry.has_reserved_bits(),
    }))
}

fn most_make_sense(entries: impl Iterator<Item = bool>) -> bool {
    entries.map(|sense| if sense { 1 } else { -1 }).sum::<i64>() >= 0
}

fn entry(header: &Header, index: u64, word: u64, bitmap: Option<u64>) -> Entry {
    let zero = bitmap.is_none() && word & ZERO != 0;
    let offset = word & OFFSET;
    // In an external data file a cluster can be at 0; then bit 63 says that there is one.
    let at_zero = header.external_data() && word & COPIED != 0 && !zero;
    let (target, as_bitmap) = if word & COMPRESSED != 0 {
        // Bits 0 to x-1 are the offset, bits x to 61 the number of sectors after the first.
        let x = 62 - (header.cluster_bits - 8);
        let offset = word & ((1 << x) - 1);
        let sectors = (word & (COMPRESSED - 1)) >> x;
        let bytes = (sectors + 1) * 512 - offset % 512;
        (Target::Compressed { offset, bytes }, 0)
    } else if zero {
        let target = Target::Cluster { offset };
        (
            if offset == 0 { Target::Nothing } else { target },
            !ALLOCATED,
        )
    } else if offset == 0 && !at_zero {
        (Target::Nothing, 0)
    } else {
        (Target::Cluster { offset }, ALLOCATED)
    };
    Entry {
        index,
        word,
        bitmap: bitmap.unwrap_or(as_bitmap),
        target,
    }
}
