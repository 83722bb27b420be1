//! Entries that lead nowhere: a table or cluster that was there once and cannot be followed now.
//! While an image has one, recount keeps what it cannot explain, and so differs from qemu-img on
//! purpose (design, "Keeping").

use recount_oracle::case::damage::find::{COMPRESSED, OFFSET_BITS, Structures, be32, be64};
use recount_oracle::case::damage::{ReadWriteAt, SparseBytes};

use super::guest::compressed_region;

/// The longest L1 table that qemu follows, in bytes.
const LONGEST_L1: u64 = 32 << 20;

/// Whether some L1, L2, snapshot or bitmap entry leads nowhere.
pub fn leads_nowhere(image: &SparseBytes, found: &Structures) -> bool {
    let outside =
        |offset: u64| !offset.is_multiple_of(found.cluster_size()) || offset >= found.length;
    let l1 = found.l1_tables.iter().flat_map(|table| &table.entries);
    let l1 = l1.map(|entry| entry.value & OFFSET_BITS);
    let l2 = found.l2_entries.iter().map(|entry| entry.value);
    let (compressed, plain): (Vec<u64>, Vec<u64>) = l2.partition(|entry| entry & COMPRESSED != 0);
    let plain = plain.into_iter().filter(|_| !found.data_file);
    let plain = plain.map(|entry| entry & OFFSET_BITS);
    let active = be64(image, 40).unwrap_or_default();
    let bitmaps = found.bitmaps.iter().flat_map(|bitmap| &bitmap.entries);
    let bitmaps = bitmaps.map(|entry| entry.value & OFFSET_BITS);
    let tables = std::iter::once(active).chain(l1);
    tables.chain(plain).chain(bitmaps).any(outside)
        || compressed.into_iter().any(|entry| {
            let (offset, length) = compressed_region(entry, found.cluster_bits);
            offset + length >= found.length + found.cluster_size()
        })
        || found.snapshots.iter().any(|snapshot| {
            let length = u64::from(snapshot.l1_entries) * 8;
            let end = snapshot.l1_offset.saturating_add(length);
            outside(snapshot.l1_offset)
                || length > LONGEST_L1
                || end > found.clusters() * found.cluster_size()
        })
        || tables_lead_nowhere(image, found).unwrap_or(true)
}

/// Whether the snapshot table, or the bitmaps, cannot be read to the end.
fn tables_lead_nowhere(image: &SparseBytes, found: &Structures) -> std::io::Result<bool> {
    let snapshots = usize::try_from(be32(image, 60)?).unwrap_or(usize::MAX);
    let table = be64(image, 64)?;
    let snapshot_table =
        snapshots > 0 && (table % found.cluster_size() != 0 || found.snapshots.len() < snapshots);
    let bitmaps = match found.bitmaps_extension {
        Some(extension) => {
            let bitmaps = usize::try_from(be32(image, extension)?).unwrap_or(usize::MAX);
            found.bitmaps.len() < bitmaps
                || found.bitmaps.iter().any(|bitmap| {
                    let table = be64(image, bitmap.at).unwrap_or_default();
                    !table.is_multiple_of(found.cluster_size()) || table >= image.len()
                })
        }
        None => false,
    };
    Ok(snapshot_table || bitmaps)
}

/// Whether qemu-img writes to the image as it opens it for a repair: it marks enabled persistent
/// bitmaps as in use, and in doing so writes a header without snapshots, all of which the check
/// then releases as leaks; when it closes the image it stores the bitmaps anew.
pub fn has_live_bitmaps(image: &SparseBytes, found: &Structures) -> bool {
    // Autoclear feature bit 0: the bitmaps are consistent with the image.
    let consistent = be64(image, 88).is_ok_and(|autoclear| autoclear & 1 != 0);
    consistent && found.bitmaps_extension.is_some()
}

/// Whether a reftable entry that is otherwise sound leads past the end of the file.
pub fn refblock_past_end(found: &Structures) -> bool {
    found.reftable_entries.iter().any(|entry| {
        entry.value >= found.length && entry.value.is_multiple_of(found.cluster_size())
    })
}
