//! The header, its extensions and the backing file's name: all in cluster 0.

use super::geometry::Sizes;
use crate::case::impossible::Impossible;
use crate::case::synthetic::Synthetic;

/// "QFI\xfb".
const MAGIC: u32 = 0x5146_49fb;
/// Bytes of a version 3 header up to and with the compression type, padded to 8.
const LENGTH_VERSION_3: u32 = 112;
/// Bytes of a version 2 header.
const LENGTH_VERSION_2: usize = 72;
/// Incompatible feature bit 4: extended L2 entries.
const EXTENDED_L2: u64 = 1 << 4;
/// Autoclear feature bit 0: the bitmaps are consistent.
const BITMAPS_CONSISTENT: u64 = 1;
/// Header extension types.
const BACKING_FORMAT: u32 = 0xe279_2aca;
const FEATURE_NAMES: u32 = 0x6803_f857;
const BITMAPS: u32 = 0x2385_2875;
const ENCRYPTION_HEADER: u32 = 0x0537_be77;
/// The first type of the extensions that nobody knows; those after it count up.
const UNKNOWN: u32 = 0x7265_6300;
/// Encryption method: LUKS.
const LUKS: u32 = 2;

/// A stretch of bytes in the file: where it begins and how long it is.
#[derive(Clone, Copy, Default)]
pub(super) struct Region {
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// What the header points to.
#[derive(Default)]
pub(super) struct Pointers {
    pub(super) l1_offset: u64,
    pub(super) l1_entries: u64,
    pub(super) reftable_offset: u64,
    pub(super) reftable_clusters: u64,
    pub(super) snapshots: u64,
    pub(super) snapshots_offset: u64,
    pub(super) luks: Option<Region>,
    pub(super) bitmap_directory: Option<Region>,
}

/// The bytes from offset 0 on.
pub(super) fn bytes(
    image: &Synthetic,
    sizes: &Sizes,
    pointers: &Pointers,
) -> Result<Vec<u8>, Impossible> {
    let extensions = extensions(image, pointers);
    let start = if image.version == 2 {
        LENGTH_VERSION_2
    } else {
        LENGTH_VERSION_3 as usize
    };
    let name = image.backing.as_deref().unwrap_or("").as_bytes();
    let name_at = start + extensions.len();
    let needed = (name_at + name.len()) as u64;
    if needed > sizes.cluster {
        return Err(Impossible::HeaderTooLong {
            needed,
            cluster_size: sizes.cluster,
        });
    }
    let mut out = Vec::new();
    let mut u32_field = |value: u64| out.extend_from_slice(&(value as u32).to_be_bytes());
    u32_field(u64::from(MAGIC));
    u32_field(u64::from(image.version));
    u32_field(0); // Backing file offset, high half.
    u32_field(if name.is_empty() { 0 } else { name_at as u64 });
    u32_field(name.len() as u64);
    u32_field(u64::from(image.cluster_bits));
    u32_field(image.virtual_size() >> 32);
    u32_field(image.virtual_size());
    u32_field(u64::from(if image.luks { LUKS } else { 0 }));
    u32_field(pointers.l1_entries);
    for offset in [pointers.l1_offset, pointers.reftable_offset] {
        u32_field(offset >> 32);
        u32_field(offset);
    }
    u32_field(pointers.reftable_clusters);
    u32_field(pointers.snapshots);
    u32_field(pointers.snapshots_offset >> 32);
    u32_field(pointers.snapshots_offset);
    if image.version == 3 {
        out.extend_from_slice(&version_3_fields(image));
    }
    out.extend_from_slice(&extensions);
    out.extend_from_slice(name);
    Ok(out)
}

/// Bytes 72 to 111.
fn version_3_fields(image: &Synthetic) -> Vec<u8> {
    let incompatible = if image.extended_l2 { EXTENDED_L2 } else { 0 };
    let autoclear = if image.bitmaps.is_empty() {
        0
    } else {
        BITMAPS_CONSISTENT
    };
    let mut out = Vec::new();
    for features in [incompatible, 0, autoclear] {
        out.extend_from_slice(&features.to_be_bytes());
    }
    out.extend_from_slice(&image.refcount_order.to_be_bytes());
    out.extend_from_slice(&LENGTH_VERSION_3.to_be_bytes());
    out.extend_from_slice(&[0; 8]); // Compression type: deflate.
    out
}

fn extensions(image: &Synthetic, pointers: &Pointers) -> Vec<u8> {
    let mut out = Vec::new();
    let mut add = |kind: u32, data: &[u8]| {
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&(data.len() as u32).to_be_bytes());
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(8), 0);
    };
    if image.backing.is_some() {
        add(BACKING_FORMAT, b"raw");
    }
    if let Some(luks) = pointers.luks {
        let data = [luks.offset.to_be_bytes(), luks.bytes.to_be_bytes()];
        add(ENCRYPTION_HEADER, &data.concat());
    }
    if let Some(directory) = pointers.bitmap_directory {
        let mut data = (image.bitmaps.len() as u32).to_be_bytes().to_vec();
        data.extend_from_slice(&[0; 4]);
        data.extend_from_slice(&directory.bytes.to_be_bytes());
        data.extend_from_slice(&directory.offset.to_be_bytes());
        add(BITMAPS, &data);
    }
    if image.feature_names {
        add(FEATURE_NAMES, &feature_names());
    }
    for (number, &length) in (0..).zip(&image.unknown_extensions) {
        add(UNKNOWN + number, &vec![0xa5; length as usize]);
    }
    add(0, &[]);
    out
}

/// Names of two features: 48 bytes each, type, bit, name.
fn feature_names() -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, bit, name) in [(0, 0, "dirty bit"), (0, 1, "corrupt bit")] {
        let mut entry = vec![kind, bit];
        entry.extend_from_slice(str::as_bytes(name));
        entry.resize(48, 0);
        out.extend_from_slice(&entry);
    }
    out
}
