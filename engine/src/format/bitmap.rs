//! Entries of the bitmap directory (specification, "Bitmap directory").
//!
//! ```text
//!   0 bitmap_table_offset   16 type                20 extra_data_size
//!   8 bitmap_table_size     17 granularity_bits    24 extra data, name; then padded to 8
//!  12 flags                 18 name_size
//! ```

use super::{be16, be32, be64};
use crate::geometry::Geometry;
use crate::units::Offset;

/// Bytes of an entry before its extra data and name.
pub const FIXED_BYTES: u64 = 24;

const MAX_TABLE_ENTRIES: u32 = 0x800_0000;
const MAX_DATA_BYTES: u64 = 0x2000_0000;
const GRANULARITY_BITS: std::ops::RangeInclusive<u8> = 9..=31;
const MAX_NAME: u16 = 1023;
const TYPE_DIRTY_TRACKING: u8 = 1;
const FLAG_IN_USE: u32 = 1;
/// All flags but "in use" and "auto".
const RESERVED_FLAGS: u32 = 0xffff_fffc;

/// A bitmap of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitmapEntry {
    /// Where its table is.
    pub table_offset: Offset,
    /// Entries of its table.
    pub table_size: u32,
    flags: u32,
    bitmap_type: u8,
    granularity_bits: u8,
    name_size: u16,
    extra_data_size: u32,
}

impl BitmapEntry {
    /// Parses the first [`FIXED_BYTES`] bytes of an entry.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        Self {
            table_offset: Offset(be64(bytes, 0)),
            table_size: be32(bytes, 8),
            flags: be32(bytes, 12),
            bitmap_type: bytes.get(16).copied().unwrap_or(0),
            granularity_bits: bytes.get(17).copied().unwrap_or(0),
            name_size: be16(bytes, 18),
            extra_data_size: be32(bytes, 20),
        }
    }

    /// Bytes of the entry, with the padding after it.
    #[must_use]
    pub const fn length(&self) -> u64 {
        (FIXED_BYTES + self.extra_data_size as u64 + self.name_size as u64).next_multiple_of(8)
    }

    /// Whether it breaks a rule of the specification or a limit of qemu, in an image of `size`
    /// virtual bytes.
    #[must_use]
    pub fn is_malformed(&self, geometry: &Geometry, size: u64) -> bool {
        let data_bytes = u64::from(self.table_size) << geometry.cluster_bits();
        // A bitmap left in use may be of a size that the image no longer has; one that is not is
        // loaded on opening, and then its table must have exactly the entries that it needs.
        let bits = size.div_ceil(1 << u32::from(self.granularity_bits).min(63));
        let needed = geometry.clusters_for(bits.div_ceil(64) * 8);
        let wrong_size = self.flags & FLAG_IN_USE == 0 && u64::from(self.table_size) != needed.0;
        self.extra_data_size != 0
            || self.table_size == 0
            || self.table_size > MAX_TABLE_ENTRIES
            || self.table_offset == Offset(0)
            || !geometry.is_aligned(self.table_offset)
            || !GRANULARITY_BITS.contains(&self.granularity_bits)
            || self.flags & RESERVED_FLAGS != 0
            || self.name_size > MAX_NAME
            || self.bitmap_type != TYPE_DIRTY_TRACKING
            || data_bytes > MAX_DATA_BYTES
            || wrong_size
    }
}
