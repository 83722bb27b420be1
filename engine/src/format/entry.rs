//! Entries of the tables that refer to clusters: L1, L2, reftable, bitmap table.

use crate::geometry::Geometry;
use crate::units::{Offset, Region};

/// Bits 9 to 55: a host offset.
pub(crate) const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// Bit 63: the refcount of what is referred to is exactly 1.
pub const COPIED: u64 = 1 << 63;
/// Bit 62: compressed.
pub(crate) const COMPRESSED: u64 = 1 << 62;
/// Bit 0: reads as zeros.
pub(crate) const ZERO: u64 = 1;
/// Binary logarithm of the bytes of a sector.
pub(crate) const SECTOR_BITS: u32 = 9;
const SECTOR: u64 = 1 << SECTOR_BITS;
/// Bits 1 to 8 and 56 to 61 of an L2 entry that is not compressed.
pub(crate) const L2_RESERVED: u64 = 0x3f00_0000_0000_01fe;
const REFTABLE_RESERVED: u64 = 0x1ff;
/// Bit 0 of a bitmap table entry without an offset: all bits are 1.
const BITMAP_ALL_ONES: u64 = 1;

/// An entry of an L1 table (specification, "L1 table entry").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L1Entry(pub u64);

impl L1Entry {
    /// Where the L2 table is.
    pub const fn l2_table(self) -> Offset {
        Offset(self.0 & OFFSET_MASK)
    }

    /// Whether it says that the L2 table's refcount is 1.
    pub const fn copied(self) -> bool {
        self.0 & COPIED != 0
    }

    /// Whether bits are set that must not be.
    pub const fn has_reserved_bits(self) -> bool {
        self.0 & !(OFFSET_MASK | COPIED) != 0
    }
}

/// What an L2 entry depends on beside its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L2Format {
    /// The cluster size.
    pub geometry: Geometry,
    /// Whether entries have 16 bytes, the second half a subcluster bitmap.
    pub extended: bool,
    /// Whether guest data is in another file.
    pub data_file: bool,
}

impl L2Format {
    /// Bytes of an entry.
    pub const fn entry_bytes(self) -> u64 {
        if self.extended { 16 } else { 8 }
    }
}

/// Bits of a compressed entry's offset. Above them, up to bit 61, is how many sectors follow the first.
const fn compressed_offset_bits(format: L2Format) -> u32 {
    62 - (format.geometry.cluster_bits() - 8)
}

/// The first and the last sector of what a compressed entry leads to.
pub(crate) const fn compressed_sectors(raw: u64, format: L2Format) -> (u64, u64) {
    let offset_bits = compressed_offset_bits(format);
    let first = (raw & ((1 << offset_bits) - 1)) >> SECTOR_BITS;
    let further = (raw & (COMPRESSED - 1)) >> offset_bits;
    (first, first + further)
}

/// What an L2 entry says (specification, "L2 table entry").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L2Kind {
    /// Nothing here; reads from the backing file.
    Unallocated,
    /// Reads as zeros, without a cluster.
    PlainZero,
    /// Reads as zeros, with a cluster set aside.
    PreallocatedZero(Offset),
    /// Data in a cluster.
    Normal(Offset),
    /// Compressed data, from its first byte to the end of its last sector.
    Compressed(Region),
}

/// An L2 entry with its subcluster bitmap, 0 without extended L2 entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L2Entry {
    /// The entry.
    pub raw: u64,
    /// Low half: allocated subclusters; high half: subclusters that read as zeros.
    pub subclusters: u64,
}

impl L2Entry {
    /// What it says.
    pub const fn kind(self, format: L2Format) -> L2Kind {
        let offset = Offset(self.raw & OFFSET_MASK);
        if self.raw & COMPRESSED != 0 {
            let offset = Offset(self.raw & !(u64::MAX << compressed_offset_bits(format)));
            let (_, last_sector) = compressed_sectors(self.raw, format);
            let length = (last_sector + 1) * SECTOR - offset.0;
            return L2Kind::Compressed(Region { offset, length });
        }
        if self.raw & ZERO != 0 && !format.extended {
            return match offset {
                Offset(0) => L2Kind::PlainZero,
                offset => L2Kind::PreallocatedZero(offset),
            };
        }
        // In an external data file offset 0 is a cluster like any other.
        if offset.0 == 0 && !(format.data_file && self.copied()) {
            return L2Kind::Unallocated;
        }
        L2Kind::Normal(offset)
    }

    /// Whether it leads to a normal cluster at the beginning of a host cluster, with nothing
    /// unusual about it: no reserved bit, no contradiction in its subclusters.
    pub const fn is_plain(self, geometry: &Geometry) -> bool {
        let offset = Offset(self.raw & OFFSET_MASK);
        self.raw & !(OFFSET_MASK | COPIED) == 0
            && offset.0 != 0
            && geometry.is_aligned(offset)
            && !self.has_contradicting_subclusters()
    }

    /// Whether it says that the cluster's refcount is 1.
    pub const fn copied(self) -> bool {
        self.raw & COPIED != 0
    }

    /// Whether bits are set that must not be, in an entry that is not compressed.
    pub const fn has_reserved_bits(self) -> bool {
        self.raw & L2_RESERVED != 0
    }

    /// Whether a subcluster is both allocated and zero.
    pub const fn has_contradicting_subclusters(self) -> bool {
        (self.subclusters >> 32) & self.subclusters != 0
    }

    /// Whether any subcluster is allocated.
    pub const fn has_allocated_subclusters(self) -> bool {
        self.subclusters as u32 != 0
    }

    /// Whether it reads as zeros only, though it has an offset.
    pub fn holds_no_data(self, format: L2Format) -> bool {
        if format.extended {
            return !self.has_allocated_subclusters();
        }
        matches!(self.kind(format), L2Kind::PreallocatedZero(_))
    }

    /// Whether it reads as zeros only and leads to what is no cluster. One with reserved bits set as
    /// well may have been something else: a compressed cluster whose bit 62 is gone, or guest data
    /// where a table is expected.
    pub fn is_unaligned_empty(self, format: L2Format) -> bool {
        let (L2Kind::Normal(offset) | L2Kind::PreallocatedZero(offset)) = self.kind(format) else {
            return false;
        };
        let aligned = format.geometry.is_aligned(offset);
        !aligned && self.holds_no_data(format) && !self.has_reserved_bits()
    }

    /// The entry that reads as this one does but refers to no cluster, for one that holds no data:
    /// plain zero, or with subclusters all allocated ones zero.
    pub const fn without_cluster(self, format: L2Format) -> Self {
        let zeros = (self.subclusters | (self.subclusters << 32)) & !(u32::MAX as u64);
        let (raw, subclusters) = if format.extended {
            (0, zeros)
        } else {
            (ZERO, 0)
        };
        Self { raw, subclusters }
    }
}

/// An entry of the reftable (specification, "Refcount table entry").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReftableEntry(pub u64);

impl ReftableEntry {
    /// Where the refblock is; 0 when there is none.
    pub const fn refblock(self) -> Offset {
        Offset(self.0 & !REFTABLE_RESERVED)
    }

    /// Whether bits are set that must not be.
    pub const fn has_reserved_bits(self) -> bool {
        self.0 & REFTABLE_RESERVED != 0
    }
}

/// An entry of a bitmap table (specification, "Bitmap table").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitmapTableEntry(pub u64);

impl BitmapTableEntry {
    /// Where the bitmap's data is; 0 when it has none.
    pub const fn data(self) -> Offset {
        Offset(self.0 & OFFSET_MASK)
    }

    /// Whether it breaks a rule: reserved bits, an unaligned offset, or "all ones" with data.
    pub const fn is_malformed(self, geometry: &Geometry) -> bool {
        let has_data = self.data().0 != 0;
        self.0 & !(OFFSET_MASK | BITMAP_ALL_ONES) != 0
            || has_data && (self.0 & BITMAP_ALL_ONES != 0 || !geometry.is_aligned(self.data()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of an image, and with one of its features.
    fn formats() -> [L2Format; 3] {
        let geometry = Geometry::new(16, 4).expect("valid");
        [(false, false), (true, false), (false, true)].map(|(extended, data_file)| L2Format {
            geometry,
            extended,
            data_file,
        })
    }

    const fn entry(raw: u64, subclusters: u64) -> L2Entry {
        L2Entry { raw, subclusters }
    }

    #[test]
    fn an_l2_entry_says_what_the_specification_says() {
        use L2Kind::{Compressed, Normal, PlainZero, PreallocatedZero, Unallocated};
        let [plain, extended, data_file] = formats();
        let at = Offset(0x5_0000);
        // 64 KiB clusters: x = 54, sectors in bits 54 to 61.
        let sectors = |further: u64| COMPRESSED | (further << 54);
        let compressed = |offset, length| {
            let offset = Offset(offset);
            Compressed(Region { offset, length })
        };
        let short = compressed(0x1234, 4 * 512 - 0x34);
        let long = compressed(0x200, 256 * 512);
        for (raw, format, expected) in [
            (COPIED | 0x5_0000, plain, Normal(at)),
            (0x5_0001, plain, PreallocatedZero(at)),
            (0x5_0001, extended, Normal(at)),
            (1, plain, PlainZero),
            (COPIED, plain, Unallocated),
            (COPIED, data_file, Normal(Offset(0))),
            (sectors(3) | 0x1234, plain, short),
            (COPIED | sectors(0xff) | 0x200, plain, long),
        ] {
            assert_eq!(entry(raw, 0).kind(format), expected, "{raw:#x}");
        }
    }

    #[test]
    fn an_entry_freed_of_its_cluster_reads_as_before() {
        let [plain, extended, _] = formats();
        assert_eq!(entry(0x5_0201, 0).without_cluster(plain), entry(1, 0));
        let with_zeros = entry(0x5_0200, 0xf0 << 32);
        let freed = with_zeros.without_cluster(extended);
        assert_eq!(freed, entry(0, 0xf0 << 32));
    }

    #[test]
    fn a_bitmap_table_entry_may_have_data_or_be_all_ones_but_not_both() {
        let geometry = Geometry::new(16, 4).expect("valid");
        assert!(!BitmapTableEntry(0x5_0000).is_malformed(&geometry));
        assert!(!BitmapTableEntry(1).is_malformed(&geometry));
        assert!(BitmapTableEntry(0x5_0001).is_malformed(&geometry));
        assert!(BitmapTableEntry(0x5_0200).is_malformed(&geometry));
        assert!(BitmapTableEntry(1 << 56).is_malformed(&geometry));
    }
}
