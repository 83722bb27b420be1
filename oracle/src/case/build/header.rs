//! The header, its extensions and the backing file's name: all in cluster 0.

use super::{fields, padded};
use crate::case::synthetic::Synthetic;
use crate::case::validate::{Impossible, in_range};
use crate::format::{
    BACKING_FORMAT, BITMAPS, BITMAPS_CONSISTENT, EXTENDED_L2, FEATURE_NAMES, LUKS_HEADER, MAGIC,
};

/// Bytes of a version 2 header.
const LENGTH_VERSION_2: u64 = 72;
/// Bytes of a version 3 header up to and with the compression type, padded to 8.
const LENGTH_VERSION_3: u64 = 112;
/// The first type of the extensions that nobody knows; those after it count up.
const UNKNOWN: u64 = 0x7265_6300;
/// Encryption method: LUKS.
const LUKS: u64 = 2;

/// What the header points to: byte positions, and how much lies there.
#[derive(Default)]
pub(super) struct Pointers {
    pub(super) l1_offset: u64,
    pub(super) l1_entries: u64,
    pub(super) reftable_offset: u64,
    pub(super) reftable_clusters: u64,
    pub(super) snapshots: u64,
    pub(super) snapshots_offset: u64,
    /// Offset and bytes of the encryption header.
    pub(super) luks: Option<(u64, u64)>,
    /// Offset and bytes of the bitmap directory.
    pub(super) bitmap_directory: Option<(u64, u64)>,
}

/// The bytes from offset 0 on.
pub(super) fn bytes(image: &Synthetic, pointers: &Pointers) -> Result<Vec<u8>, Impossible> {
    let extensions = extensions(image, pointers);
    let length = match image.version {
        2 => LENGTH_VERSION_2,
        _ => LENGTH_VERSION_3,
    };
    let name = image.backing.as_deref().unwrap_or("");
    let name_at = length + extensions.len() as u64;
    let needed = name_at + name.len() as u64;
    in_range("the header's length", needed, 0, 1 << image.cluster_bits)?;
    let mut out = fields([
        (MAGIC, 4),
        (image.version.into(), 4),
        (if name.is_empty() { 0 } else { name_at }, 8),
        (name.len() as u64, 4),
        (image.cluster_bits.into(), 4),
        (image.virtual_size(), 8),
        (if image.luks { LUKS } else { 0 }, 4),
        (pointers.l1_entries, 4),
        (pointers.l1_offset, 8),
        (pointers.reftable_offset, 8),
        (pointers.reftable_clusters, 4),
        (pointers.snapshots, 4),
        (pointers.snapshots_offset, 8),
    ]);
    if image.version == 3 {
        let bitmaps = u64::from(!image.bitmaps.is_empty());
        out.extend(fields([
            (u64::from(image.extended_l2) * EXTENDED_L2, 8),
            (0, 8), // Compatible features.
            (bitmaps * BITMAPS_CONSISTENT, 8),
            (image.refcount_order.into(), 4),
            (LENGTH_VERSION_3, 4),
            (0, 8), // Compression type: deflate.
        ]));
    }
    out.extend(extensions);
    out.extend(name.as_bytes());
    Ok(out)
}

fn extensions(image: &Synthetic, pointers: &Pointers) -> Vec<u8> {
    let mut out = Vec::new();
    let mut add = |kind: u64, data: &[u8]| {
        out.extend(fields([(kind, 4), (data.len() as u64, 4)]));
        out.extend(data);
        out.resize(out.len().next_multiple_of(8), 0);
    };
    if image.backing.is_some() {
        add(BACKING_FORMAT, b"raw");
    }
    if let Some((offset, bytes)) = pointers.luks {
        add(LUKS_HEADER, &fields([(offset, 8), (bytes, 8)]));
    }
    if let Some((offset, bytes)) = pointers.bitmap_directory {
        let bitmaps = image.bitmaps.len() as u64;
        let data = fields([(bitmaps, 4), (0, 4), (bytes, 8), (offset, 8)]);
        add(BITMAPS, &data);
    }
    if image.feature_names {
        // Type and bit in front of each name.
        let names = ["\0\0dirty bit", "\0\x01corrupt bit"];
        add(FEATURE_NAMES, &names.map(|name| padded(name, 48)).concat());
    }
    for (number, &length) in (0..).zip(&image.unknown_extensions) {
        add(UNKNOWN + number, &vec![0xa5; length as usize]);
    }
    add(0, &[]);
    out
}
