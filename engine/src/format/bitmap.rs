//! Entries of the bitmap directory (specification, "Bitmap directory").
//!
//! ```text
//!   0 bitmap_table_offset   16 type                20 extra_data_size
//!   8 bitmap_table_size     17 granularity_bits    24 extra data, name; then padded to 8
//!  12 flags                 18 name_size
//! ```

use super::{be16, be32, be64};
use crate::geometry::Geometry;
use crate::units::{Offset, Region};

/// Bytes of an entry before its extra data and name.
pub const FIXED_BYTES: u64 = 24;

const MAX_TABLE_ENTRIES: u32 = 0x800_0000;
const MAX_DATA_BYTES: u64 = 0x2000_0000;
const GRANULARITY_BITS: std::ops::RangeInclusive<u8> = 9..=31;
const MAX_NAME: u16 = 1023;
const TYPE_DIRTY_TRACKING: u8 = 1;
const FLAG_IN_USE: u32 = 1;
const FLAG_AUTO: u32 = 1 << 1;
/// All flags but "in use" and "auto".
const RESERVED_FLAGS: u32 = 0xffff_fffc;

/// A bitmap of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitmapEntry {
    /// Where its table is.
    pub table_offset: Offset,
    /// Entries of its table.
    pub table_size: u32,
    /// Whether a program has it open, or was killed meanwhile.
    pub in_use: bool,
    /// Whether writes are noted in it.
    pub enabled: bool,
    /// Binary logarithm of the bytes that a bit stands for.
    pub granularity_bits: u8,
    /// Where its name is.
    pub name: Region,
    /// Bytes of the entry, with the padding after it.
    pub length: u64,
    /// Whether it breaks a rule of the specification or a limit of qemu.
    pub is_malformed: bool,
}

impl BitmapEntry {
    /// Parses the first [`FIXED_BYTES`] bytes of the entry at `at`, in an image of `size` virtual bytes.
    pub fn parse(
        at: Offset,
        bytes: &[u8; FIXED_BYTES as usize],
        geometry: &Geometry,
        size: u64,
    ) -> Self {
        let (table_offset, table_size) = (Offset(be64(bytes, 0)), be32(bytes, 8));
        let (flags, bitmap_type, granularity_bits) = (be32(bytes, 12), bytes[16], bytes[17]);
        let (name_size, extra_data_size) = (be16(bytes, 18), be32(bytes, 20));
        let data_bytes = u64::from(table_size) << geometry.cluster_bits();
        // A bitmap left in use may be of a size that the image no longer has; one that is not is
        // loaded on opening, and then its table must have exactly the entries that it needs.
        let bits = size.div_ceil(1 << u32::from(granularity_bits).min(63));
        let needed = geometry.clusters_for(bits.div_ceil(64) * 8);
        let wrong_size = flags & FLAG_IN_USE == 0 && u64::from(table_size) != needed.0;
        let entry_bytes = FIXED_BYTES + u64::from(extra_data_size) + u64::from(name_size);
        Self {
            table_offset,
            table_size,
            in_use: flags & FLAG_IN_USE != 0,
            enabled: flags & FLAG_AUTO != 0,
            granularity_bits,
            name: Region {
                offset: Offset(at.0.saturating_add(FIXED_BYTES + u64::from(extra_data_size))),
                length: name_size.into(),
            },
            length: entry_bytes.next_multiple_of(8),
            is_malformed: extra_data_size != 0
                || table_size == 0
                || table_size > MAX_TABLE_ENTRIES
                || table_offset == Offset(0)
                || !geometry.is_aligned(table_offset)
                || !GRANULARITY_BITS.contains(&granularity_bits)
                || flags & RESERVED_FLAGS != 0
                || name_size > MAX_NAME
                || bitmap_type != TYPE_DIRTY_TRACKING
                || data_bytes > MAX_DATA_BYTES
                || wrong_size,
        }
    }
}
