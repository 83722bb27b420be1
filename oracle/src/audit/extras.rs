//! The snapshot table and the bitmaps (specification, "Snapshots", "Bitmaps").

use super::corruption::Wrong;
use super::header::Region;
use super::qemu_view::habits::can_be_read;
use super::reader::{be16, be32, be64};
use super::references::{LayerId, Referrer, Walk};
use super::refusal::{Refusal, Unreadable};

const SNAPSHOTS_MAX: u64 = 65_536;
const SNAPSHOT_TABLE_MAX: u64 = 64 << 20;
const SNAPSHOT_EXTRA_MAX: u64 = 1024;
/// Bytes of a snapshot table entry before its extra data, id and name.
const SNAPSHOT_ENTRY: u64 = 40;
/// Extra data that a version 3 entry must have.
const SNAPSHOT_EXTRA_MIN: u64 = 16;
const L1_MAX: u64 = 32 << 20;

/// Bytes of a bitmap directory entry before its extra data and name.
const DIRECTORY_ENTRY: usize = 24;
const BITMAP_TABLE_MAX: u64 = 0x0800_0000;
const BITMAP_BYTES_MAX: u64 = 512 << 20;
const BITMAP_NAME_MAX: u64 = 1023;
const BITMAP_OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const BITMAP_RESERVED: u64 = 0xff00_0000_0000_01fe;
const ALL_ONES: u64 = 1;
const IN_USE: u64 = 1;
const AUTO: u64 = 2;

/// A snapshot table entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// Byte position of the entry in the file.
    pub at: u64,
    /// Bytes of it, without the padding behind it.
    pub bytes: u64,
    /// Its L1 table.
    pub l1_offset: u64,
    /// Entries of it.
    pub l1_entries: u64,
    /// Bytes of extra data.
    pub extra: u64,
    /// Whether it is zeros only.
    pub blank: bool,
}

/// The snapshot table as far as it can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotTable {
    /// Its entries.
    pub entries: Vec<SnapshotEntry>,
    /// Bytes that they take.
    pub bytes: u64,
    /// Why it ends there, or what somebody who reads it gives up for.
    pub ends: Option<SnapshotsEnd>,
    /// Whether an entry ends past the end of the file.
    pub past_end: bool,
}

/// What is wrong with the snapshot table as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotsEnd {
    /// It is not where a table can be.
    Place,
    /// More than 65,536 entries.
    OverLimit,
    /// Too much extra data, with snapshots behind it.
    ExtraData,
    /// Too much extra data, and no snapshot behind it.
    Nonsense,
    /// Too much extra data behind blank entries.
    BehindBlank,
    /// Over 64 MiB.
    TooLarge,
}

/// Reads the snapshot table.
pub(super) fn snapshot_table(walk: &mut Walk<'_>) -> Result<SnapshotTable, Unreadable> {
    let header = walk.header;
    let start = header.snapshots_offset;
    let least = header.snapshots * SNAPSHOT_ENTRY;
    let ends = start.checked_add(least).is_some_and(|end| end < 1 << 63);
    let mut table = SnapshotTable::default();
    if !ends || !header.is_aligned(start) {
        let offset = start;
        let refusal = Refusal::Table {
            table: "snapshot table",
            offset,
        };
        walk.block(Referrer::SnapshotTable, refusal);
        table.ends = Some(SnapshotsEnd::Place);
        return Ok(table);
    }
    if header.snapshots > 0 && walk.skips(start) {
        return Ok(table);
    }
    if header.snapshots > SNAPSHOTS_MAX {
        table.ends = Some(SnapshotsEnd::OverLimit);
    }
    let (mut kept, mut snapshot) = (0_u64, 0);
    while snapshot < header.snapshots.min(SNAPSHOTS_MAX) {
        let at = (start + table.bytes).next_multiple_of(8);
        walk.reader.pay_for_keeping()?;
        let raw = walk.reader.bytes(at, SNAPSHOT_ENTRY)?;
        let extra = be32(&raw[36..]);
        let entry = SnapshotEntry {
            at,
            bytes: SNAPSHOT_ENTRY + extra + be16(&raw[12..]) + be16(&raw[14..]),
            l1_offset: be64(&raw),
            l1_entries: be32(&raw[8..]),
            extra,
            blank: raw.iter().all(|&byte| byte == 0),
        };
        if entry.blank && table.ends.is_some() {
            break;
        }
        let past_end = table.past_end || at + entry.bytes > walk.reader.length();
        let blank = table.entries.iter().position(|entry| entry.blank);
        if let Some(blank) = blank.filter(|_| extra > SNAPSHOT_EXTRA_MAX && !table.past_end) {
            // Zeros and then nonsense: the table ended where the zeros began.
            table.ends = Some(SnapshotsEnd::BehindBlank);
            table.entries.truncate(blank);
            let last = table.entries.last();
            table.bytes = last.map_or(0, |last| last.at + last.bytes - start);
            break;
        }
        if extra > SNAPSHOT_EXTRA_MAX {
            table.ends.get_or_insert(SnapshotsEnd::ExtraData);
        }
        let id = walk
            .reader
            .bytes(at + SNAPSHOT_ENTRY + extra, be16(&raw[12..]))?;
        let printable = !id.is_empty() && id.iter().all(u8::is_ascii_graphic);
        if table.ends == Some(SnapshotsEnd::ExtraData) && (past_end || !printable) {
            table.ends = Some(SnapshotsEnd::Nonsense);
            break;
        }
        table.past_end = past_end;
        let cut = extra.saturating_sub(SNAPSHOT_EXTRA_MAX);
        kept = kept.next_multiple_of(8) + entry.bytes - cut;
        let bytes = at - start + entry.bytes;
        if kept > SNAPSHOT_TABLE_MAX || bytes > u64::from(i32::MAX.cast_unsigned()) {
            table.ends = Some(SnapshotsEnd::TooLarge);
            break;
        }
        table.bytes = bytes;
        table.entries.push(entry);
        snapshot += 1;
    }
    if table.ends.is_some() {
        walk.block(Referrer::SnapshotTable, Refusal::Snapshot { snapshot });
    }
    Ok(table)
}

/// Judges an entry: what is wrong with its extra data, and whether its L1 table can be walked.
pub(super) fn judge_snapshot(walk: &mut Walk<'_>, layer: LayerId, entry: &SnapshotEntry) -> bool {
    let referrer = Referrer::L1 { layer };
    let offset = entry.l1_offset;
    if walk.header.version == 3 && entry.extra < SNAPSHOT_EXTRA_MIN {
        let bytes = entry.extra;
        walk.corrupt(referrer, Wrong::ShortExtraData { bytes });
    }
    if !walk.header.is_aligned(offset) {
        walk.corrupt(referrer, Wrong::Unaligned { offset });
        return false;
    }
    if entry.l1_entries * 8 > L1_MAX {
        let entries = entry.l1_entries;
        walk.corrupt(referrer, Wrong::L1TooLarge { entries });
        return false;
    }
    true
}

/// A persistent bitmap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    /// Its name.
    pub name: Vec<u8>,
    /// Binary logarithm of the bytes that one bit stands for.
    pub granularity_bits: u64,
    /// Flags: bit 0 in use, bit 1 enabled when the image is opened.
    pub flags: u64,
    /// Its table.
    pub table_offset: u64,
    /// Entries of its table.
    pub table_entries: u64,
    /// The entries of its table that are not 0: an offset, or 1 for all ones.
    pub table: Vec<(u64, u64)>,
}

/// Walks the bitmap directory and everything behind it.
pub(super) fn bitmaps(
    walk: &mut Walk<'_>,
    count: u64,
    directory: Region,
) -> Result<Vec<Bitmap>, Unreadable> {
    walk.refer(Referrer::BitmapDirectory, directory.offset, directory.bytes)?;
    let raw = walk.reader.bytes(directory.offset, directory.bytes)?;
    let mut rest = raw.as_slice();
    let mut bitmaps = Vec::new();
    while !rest.is_empty() {
        let number = bitmaps.len() as u64;
        let entry = directory_entry(walk, rest).filter(|_| number < count);
        let Some((bitmap, length)) = entry else {
            break;
        };
        bitmaps.push(bitmap);
        rest = &rest[length..];
    }
    let bitmap = bitmaps.len() as u64;
    if !rest.is_empty() || bitmap != count {
        walk.block_qemu(Referrer::BitmapDirectory, Refusal::Bitmap { bitmap });
    }
    for (number, bitmap) in (0..).zip(&mut bitmaps) {
        bitmap_table(walk, number, bitmap)?;
    }
    Ok(bitmaps)
}

/// An entry of the directory and its length in bytes; `None` when it is malformed.
fn directory_entry(walk: &Walk<'_>, raw: &[u8]) -> Option<(Bitmap, usize)> {
    let fixed = raw.get(..DIRECTORY_ENTRY)?;
    let name_length = be16(&fixed[18..]);
    let extra = be32(&fixed[20..]);
    let end = DIRECTORY_ENTRY + usize::try_from(name_length).ok()?;
    let length = end.next_multiple_of(8);
    let bitmap = Bitmap {
        name: raw.get(DIRECTORY_ENTRY..end)?.to_vec(),
        granularity_bits: u64::from(fixed[17]),
        flags: be32(&fixed[12..]),
        table_offset: be64(fixed),
        table_entries: be32(&fixed[8..]),
        table: Vec::new(),
    };
    let bytes = bitmap.table_entries * walk.header.cluster_size();
    // One that is not in use is loaded, and its table must have just the entries that it needs.
    let bits = walk.header.virtual_size.div_ceil(1 << (fixed[17] & 63));
    let needed = (bits.div_ceil(64) * 8).div_ceil(walk.header.cluster_size());
    let fine = extra == 0
        && length <= raw.len()
        && (1..=BITMAP_TABLE_MAX).contains(&bitmap.table_entries)
        && bitmap.table_offset != 0
        && walk.header.is_aligned(bitmap.table_offset)
        && (9..=31).contains(&bitmap.granularity_bits)
        && bitmap.flags & !(IN_USE | AUTO) == 0
        && name_length <= BITMAP_NAME_MAX
        && fixed[16] == 1
        && bytes <= BITMAP_BYTES_MAX
        && (bitmap.flags & IN_USE != 0 || bitmap.table_entries == needed);
    fine.then_some((bitmap, length))
}

fn bitmap_table(walk: &mut Walk<'_>, number: u64, bitmap: &mut Bitmap) -> Result<(), Unreadable> {
    let referrer = Referrer::BitmapTable { bitmap: number };
    let bytes = bitmap.table_entries * 8;
    walk.refer(referrer, bitmap.table_offset, bytes)?;
    let refusal = Refusal::Bitmap { bitmap: number };
    if !can_be_read(bitmap.table_offset, bytes) {
        walk.block_qemu(referrer, refusal);
        return Ok(());
    }
    bitmap.table = walk
        .reader
        .table(bitmap.table_offset, bitmap.table_entries)?;
    for &(index, entry) in &bitmap.table {
        let referrer = Referrer::BitmapData {
            bitmap: number,
            index,
        };
        let offset = entry & BITMAP_OFFSET;
        let ones_and_offset = offset != 0 && entry & ALL_ONES != 0;
        if entry & BITMAP_RESERVED != 0 || ones_and_offset || !walk.header.is_aligned(offset) {
            walk.corrupt(referrer, Wrong::BitmapEntry { entry });
            // Of a bitmap in use the check fails; with another one the image is not even opened.
            walk.found.qemu.gives_up.get_or_insert(refusal);
        } else if offset != 0 {
            walk.refer_cluster(referrer, offset)?;
        }
    }
    Ok(())
}
