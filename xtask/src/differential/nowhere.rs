//! Entries that lead nowhere: a table or cluster that was there once and cannot be followed now.
//! While an image has one, recount keeps what it cannot explain, and so differs from qemu-img on
//! purpose (design, "Keeping").

use std::collections::{BTreeMap, BTreeSet};

use recount_oracle::case::damage::find::{
    COMPRESSED, COPIED, Entry, OFFSET_BITS, Structures, be16, be32, be64,
};
use recount_oracle::case::damage::{ReadWriteAt, SparseBytes};

use super::guest::{ZERO, compressed_region};

/// The longest L1 table that qemu follows, in bytes.
/// Extra data of a snapshot table entry that nobody reads (specification, "Snapshots"; observed).
const EXTRA_DATA_MAX: u32 = 1024;
const LONGEST_L1: u64 = 32 << 20;

/// Whether some L1, L2, snapshot or bitmap entry leads nowhere.
pub fn leads_nowhere(image: &SparseBytes, found: &Structures) -> bool {
    leads_nowhere_but(image, found, |_| false)
}

/// The same, but for L2 entries that read as zeros, and are replaced by such as lead to no cluster.
pub fn loses_data(image: &SparseBytes, found: &Structures) -> bool {
    let size = found.cluster_size();
    leads_nowhere_but(image, found, |entry| {
        let zeros = !found.extended_l2 && entry.value & (COMPRESSED | ZERO) == ZERO;
        let is_aligned = (entry.value & OFFSET_BITS).is_multiple_of(size);
        zeros && !is_aligned && !is_nonsense(entry.value, found)
    })
}

fn leads_nowhere_but(
    image: &SparseBytes,
    found: &Structures,
    is_exempt: impl Fn(&Entry) -> bool,
) -> bool {
    let active = be64(image, 40).unwrap_or_default();
    let l1 = found.l1_tables.iter().flat_map(|table| &table.entries);
    let bitmaps = found.bitmaps.iter().flat_map(|bitmap| &bitmap.entries);
    let entries = l1.chain(bitmaps).map(|entry| entry.value & OFFSET_BITS);
    let mut tables = std::iter::once(active).chain(entries);
    tables.any(|offset| is_outside(offset, found))
        || found
            .l2_entries
            .iter()
            .any(|entry| l2_entry_is_lost(image, found, *entry) && !is_exempt(entry))
        || found.snapshots.iter().any(|snapshot| {
            let length = u64::from(snapshot.l1_entries) * 8;
            let end = snapshot.l1_offset.saturating_add(length);
            is_outside(snapshot.l1_offset, found)
                || length > LONGEST_L1
                || end > found.clusters() * found.cluster_size()
        })
        || tables_lead_nowhere(image, found).unwrap_or(true)
}

fn is_outside(offset: u64, found: &Structures) -> bool {
    !offset.is_multiple_of(found.cluster_size()) || offset >= found.length
}

/// Whether an L2 entry refers to something that qemu does not count.
fn l2_entry_is_lost(image: &SparseBytes, found: &Structures, entry: Entry) -> bool {
    let second = be64(image, entry.at + 8).unwrap_or_default();
    let subclusters = if found.extended_l2 { second } else { 0 };
    if entry.value & COMPRESSED != 0 {
        let (offset, length) = compressed_region(entry.value, found.cluster_bits);
        let outside = offset + length >= found.length + found.cluster_size();
        return outside || subclusters != 0 || found.data_file;
    }
    let offset = entry.value & OFFSET_BITS;
    let allocated = subclusters & 0xffff_ffff;
    let both = allocated & (subclusters >> 32) != 0;
    let outside = offset >= found.length && !found.data_file;
    let nothing = offset == 0 && allocated != 0 && !found.data_file;
    outside || nothing || !offset.is_multiple_of(found.cluster_size()) || both
}

/// Whether what qemu takes for an L2 table may be none: its cluster has another use, or more L1
/// entries than its refcount can count, or an entry is such as qemu never writes.
pub fn has_doubtful_tables(image: &SparseBytes, found: &Structures) -> bool {
    found
        .l2_entries
        .iter()
        .any(|entry| is_nonsense(entry.value, found))
        || shared_tables(image, found)
        || has_overflowing_tables(found)
}

/// Whether more L1 entries lead to an L2 table than its refcount can count.
fn has_overflowing_tables(found: &Structures) -> bool {
    let max = u64::MAX >> (64 - (1 << found.refcount_order));
    let entries = found.l1_tables.iter().flat_map(|table| &table.entries);
    let mut uses = BTreeMap::<u64, u64>::new();
    for entry in entries {
        *uses.entry(entry.value & OFFSET_BITS).or_default() += 1;
    }
    uses.values().any(|uses| *uses > max)
}

/// Whether an L1 table is said to be where the header is.
pub fn l1_table_in_header(found: &Structures) -> bool {
    let mut tables = found
        .l1_tables
        .iter()
        .filter(|table| !table.entries.is_empty());
    tables.any(|table| table.offset < found.cluster_size())
}

/// How many entries of an L2 table that is said to be where the header is lead into the file; `None`
/// where no L1 entry leads to the header.
pub fn l2_entries_in_header(found: &Structures) -> Option<usize> {
    let size = found.cluster_size();
    let mut l1_entries = found.l1_tables.iter().flat_map(|table| &table.entries);
    l1_entries.find(|entry| entry.value & OFFSET_BITS < size)?;
    let entries = found.l2_entries.iter();
    let entries =
        entries.filter(|entry| entry.at < size && entry.value & OFFSET_BITS < found.length);
    Some(entries.count())
}

/// Whether there is a corruption that qemu-img has counted since 6.2 only: reserved bits of L1 and L2
/// entries, and subclusters that contradict their entry.
pub fn has_newer_corruptions(image: &SparseBytes, found: &Structures) -> bool {
    let mut l1 = found.l1_tables.iter().flat_map(|table| &table.entries);
    let mut l2 = found.l2_entries.iter();
    // A table that is not aligned holds anything.
    let unaligned =
        |entry: &Entry| !(entry.value & OFFSET_BITS).is_multiple_of(found.cluster_size());
    l1.any(|entry| entry.value & !(OFFSET_BITS | COPIED) != 0 || unaligned(entry))
        || l2.any(|entry| {
            let subclusters = found.extended_l2 && l2_entry_is_lost(image, found, *entry);
            subclusters || is_nonsense(entry.value, found)
        })
}

/// Whether the reftable reaches a cluster or more past the end of the file.
pub fn reftable_is_cut(found: &Structures) -> bool {
    let (offset, clusters) = found.reftable;
    let length = u64::from(clusters).saturating_mul(found.cluster_size());
    let end = offset.saturating_add(length);
    end >= found.length.saturating_add(found.cluster_size())
}

/// Whether the snapshot table reaches past the end of the file, so that part of it is missing, has
/// an entry behind which nothing can be found, or is said to be the header.
pub fn snapshot_table_is_cut(image: &SparseBytes, found: &Structures) -> bool {
    let entries = usize::try_from(be32(image, 60).unwrap_or_default()).unwrap_or(usize::MAX);
    let be16 = |at| be16(image, at).map_or(0, u64::from);
    let reaches_past_end = found.snapshots.last().is_some_and(|last| {
        let extra = be32(image, last.at + 36).map_or(0, u64::from);
        let end = last.at + 40 + extra + be16(last.at + 12) + be16(last.at + 14);
        end > found.length
    });
    let too_much = |at| be32(image, at + 36).is_ok_and(|extra| extra > EXTRA_DATA_MAX);
    // Behind zeros it is not the table any more.
    let mut real = found.snapshots.iter().map(|snapshot| snapshot.at);
    let is_broken = real
        .find(|&at| is_blank(image, at) || too_much(at))
        .is_some_and(too_much);
    let in_header = entries > 0 && be64(image, 64).is_ok_and(|at| at < found.cluster_size());
    found.snapshots.len() < entries || reaches_past_end || is_broken || in_header
}

/// Whether an entry of the snapshot table is zeros, and thus what follows the table.
pub fn has_blank_snapshot(image: &SparseBytes, found: &Structures) -> bool {
    let mut entries = found.snapshots.iter();
    entries.any(|snapshot| is_blank(image, snapshot.at))
}

fn is_blank(image: &SparseBytes, entry: u64) -> bool {
    image.bytes(entry, 40).iter().all(|byte| *byte == 0)
}

/// Whether bits of an L2 entry are set that the specification reserves.
const fn is_nonsense(entry: u64, found: &Structures) -> bool {
    if entry & COMPRESSED != 0 {
        return entry & COPIED != 0;
    }
    let zero_bit = if found.extended_l2 { 0 } else { ZERO };
    entry & !(OFFSET_BITS | COPIED | zero_bit) != 0
}

/// Whether an L2 entry has reserved bits set and leads into a cluster: it may have been anything. All
/// of a table is looked at, also what the finder leaves out of long ones.
pub fn has_reserved_astray(image: &SparseBytes, found: &Structures) -> bool {
    let size = found.cluster_size();
    let is_astray =
        |entry: u64| is_nonsense(entry, found) && !(entry & OFFSET_BITS).is_multiple_of(size);
    let entries = found.l1_tables.iter().flat_map(|table| &table.entries);
    let tables: BTreeSet<u64> = entries.map(|entry| entry.value & OFFSET_BITS).collect();
    let fields = if found.extended_l2 { 2 } else { 1 };
    let mut inside = tables.into_iter().filter(|table| *table < found.length);
    inside.any(|table| {
        let bytes = image.bytes(table, usize::try_from(size).unwrap_or(0));
        let mut entries = bytes.as_chunks::<8>().0.iter().step_by(fields);
        entries.any(|entry| is_astray(u64::from_be_bytes(*entry)))
    })
}

/// Whether the cluster of some L2 table has another use, or that of an L1 table holds data too.
fn shared_tables(image: &SparseBytes, found: &Structures) -> bool {
    let entries = found.l1_tables.iter().flat_map(|table| &table.entries);
    let tables: BTreeSet<u64> = entries.map(|entry| entry.value & OFFSET_BITS).collect();
    let data = found.l2_entries.iter().filter(|_| !found.data_file);
    let (compressed, plain): (Vec<Entry>, Vec<Entry>) = data
        .copied()
        .partition(|entry| entry.value & COMPRESSED != 0);
    let compressed = compressed.into_iter().flat_map(|entry| {
        let (offset, length) = compressed_region(entry.value, found.cluster_bits);
        [offset, offset + length - 1]
    });
    let plain = plain.into_iter().map(|entry| entry.value & OFFSET_BITS);
    let structures = found.l1_tables.iter().map(|table| table.offset);
    let structures = structures.chain(found.snapshots.iter().map(|snapshot| snapshot.at));
    let bitmaps = found.bitmaps.iter().flat_map(|bitmap| {
        let table = be64(image, bitmap.at).unwrap_or_default();
        let all_of_table = bitmap.entries.iter().map(|entry| entry.at);
        let data = bitmap.entries.iter().map(|entry| entry.value & OFFSET_BITS);
        [bitmap.at, table]
            .into_iter()
            .chain(all_of_table)
            .chain(data)
    });
    let structures = structures.chain(bitmaps);
    let structures = structures.chain(found.refblocks().into_iter().map(|entry| entry.value));
    let header_and_reftable = [0, found.reftable.0, be64(image, 64).unwrap_or_default()];
    let cluster_of = |offset| offset >> found.cluster_bits;
    let data: BTreeSet<u64> = compressed.chain(plain).map(cluster_of).collect();
    let others = structures.chain(header_and_reftable);
    let others: BTreeSet<u64> = others.map(cluster_of).collect();
    let l1_tables = found.l1_tables.iter();
    let mut l1_entries = l1_tables.flat_map(|table| table.entries.iter().map(|entry| entry.at));
    l1_entries.any(|at| data.contains(&cluster_of(at)))
        || tables
            .into_iter()
            .map(cluster_of)
            .any(|cluster| data.contains(&cluster) || others.contains(&cluster))
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

/// Whether a header feature bit is set that qemu-img clears when it opens the image for a repair.
pub fn has_unknown_autoclear(image: &SparseBytes) -> bool {
    let version_3 = be32(image, 4).is_ok_and(|version| version >= 3);
    // Bit 0 is the bitmaps', bit 1 that of a raw external data file.
    version_3 && be64(image, 88).is_ok_and(|autoclear| autoclear & !3 != 0)
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
