//! Constants of the format and limits of qemu, transcribed once for everything here. The engine has
//! its own; tests hold both against images that qemu-img wrote.

/// "QFI\xfb".
pub const MAGIC: u64 = 0x5146_49fb;
/// Incompatible feature bit 4: extended L2 entries.
pub const EXTENDED_L2: u64 = 1 << 4;
/// Autoclear feature bit 0: the bitmaps are consistent.
pub const BITMAPS_CONSISTENT: u64 = 1;
/// Header extension with the name of the backing file's format.
pub const BACKING_FORMAT: u64 = 0xe279_2aca;
/// Header extension with the external data file's name.
pub const DATA_FILE_NAME: u64 = 0x4441_5441;
/// Header extension "Feature name table".
pub const FEATURE_NAMES: u64 = 0x6803_f857;
/// Header extension "Full disk encryption header pointer".
pub const LUKS_HEADER: u64 = 0x0537_be77;
/// Header extension "Bitmaps extension".
pub const BITMAPS: u64 = 0x2385_2875;
/// L2 entry, bit 0: reads as zeros.
pub const ZERO: u64 = 1;
/// Bitmap table entry, bit 0: all ones, without a cluster.
pub const ALL_ONES: u64 = 1;
/// The longest name of a backing file, in bytes.
pub const BACKING_NAME_MAX: u64 = 1023;
/// The largest reftable and the largest L1 table, in bytes.
pub const REFTABLE_MAX: u64 = 8 << 20;
pub const L1_MAX: u64 = 32 << 20;
/// Most snapshots, and bytes of extra data of one that are too much and, in version 3, too few.
pub const SNAPSHOTS_MAX: u64 = 65_536;
pub const SNAPSHOT_EXTRA_MAX: u64 = 1024;
pub const SNAPSHOT_EXTRA_MIN: u64 = 16;
/// Most bytes of bits of one bitmap.
pub const BITMAP_BYTES_MAX: u64 = 512 << 20;
