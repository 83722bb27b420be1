//! The snapshot table and the bitmaps (specification, "Snapshots", "Bitmaps").

use super::corruption::Wrong;
use super::header::Region;
use super::qemu_view::habits::can_be_read;
use super::reader::{Unreadable, be16, be32, be64};
use super::references::{LayerId, Referrer, Walk};
use crate::format::{
    ALL_ONES, BITMAP_BYTES_MAX, L1_MAX, SNAPSHOT_EXTRA_MAX, SNAPSHOT_EXTRA_MIN, SNAPSHOTS_MAX,
};

const SNAPSHOT_TABLE_MAX: u64 = 64 << 20;
/// Bytes of a snapshot table entry before its extra data, id and name.
const SNAPSHOT_ENTRY: u64 = 40;

/// Bytes of a bitmap directory entry before its extra data and name.
const DIRECTORY_ENTRY: usize = 24;
const BITMAP_TABLE_MAX: u64 = 0x0800_0000;
const BITMAP_NAME_MAX: u64 = 1023;
const BITMAP_OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const BITMAP_RESERVED: u64 = 0xff00_0000_0000_01fe;
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
    /// What is wrong with it as a whole: it ends there, or somebody who reads it gives up for it.
    pub fault: Option<SnapshotFault>,
    /// Whether an entry ends past the end of the file.
    pub past_end: bool,
}

impl SnapshotTable {
    /// Bytes that its first so many entries take, of a table that begins at `start`.
    pub fn bytes(&self, entries: usize, start: u64) -> u64 {
        let last = self.entries[..entries].last();
        last.map_or(0, |last| last.at + last.bytes - start)
    }
}

/// What is wrong with the snapshot table as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotFault {
    /// It is not where a table can be, or has too much extra data and no snapshot behind it.
    Nonsense,
    /// Too much extra data, with snapshots behind it: a new table is without it.
    ExtraData,
    /// More than 65,536 entries, over 64 MiB, or nonsense behind blank entries: a table without the
    /// last entries is right.
    TooMuch,
}

/// Reads the snapshot table.
pub(super) fn snapshot_table(walk: &mut Walk<'_>) -> Result<SnapshotTable, Unreadable> {
    let header = walk.header;
    let start = header.snapshots_offset;
    let least = header.snapshots * SNAPSHOT_ENTRY;
    let ends = start.checked_add(least).is_some_and(|end| end < 1 << 63);
    let mut table = SnapshotTable::default();
    if !ends || !header.is_aligned(start) {
        let why = "it is not cluster aligned, or ends past 2^63";
        walk.block(Referrer::SnapshotTable, why, start);
        table.fault = Some(SnapshotFault::Nonsense);
        return Ok(table);
    }
    if header.snapshots > 0 && walk.skips(start) {
        return Ok(table);
    }
    if header.snapshots > SNAPSHOTS_MAX {
        table.fault = Some(SnapshotFault::TooMuch);
    }
    let (mut kept, mut snapshot, mut end) = (0_u64, 0, start);
    while snapshot < header.snapshots.min(SNAPSHOTS_MAX) {
        let at = end.next_multiple_of(8);
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
        if entry.blank && table.fault.is_some() {
            break;
        }
        end = at + entry.bytes;
        let past_end = table.past_end || end > walk.reader.length();
        let blank = table.entries.iter().position(|entry| entry.blank);
        if let Some(blank) = blank.filter(|_| extra > SNAPSHOT_EXTRA_MAX && !table.past_end) {
            // Zeros and then nonsense: the table ended where the zeros began.
            table.fault = Some(SnapshotFault::TooMuch);
            table.entries.truncate(blank);
            break;
        }
        if extra > SNAPSHOT_EXTRA_MAX {
            table.fault.get_or_insert(SnapshotFault::ExtraData);
        }
        let id = at + SNAPSHOT_ENTRY + extra;
        let id = walk.reader.bytes(id, be16(&raw[12..]))?;
        let printable = !id.is_empty() && id.iter().all(u8::is_ascii_graphic);
        if table.fault == Some(SnapshotFault::ExtraData) && (past_end || !printable) {
            table.fault = Some(SnapshotFault::Nonsense);
            break;
        }
        table.past_end = past_end;
        let cut = extra.saturating_sub(SNAPSHOT_EXTRA_MAX);
        kept = kept.next_multiple_of(8) + entry.bytes - cut;
        if kept > SNAPSHOT_TABLE_MAX || end - start > u64::from(i32::MAX.cast_unsigned()) {
            table.fault = Some(SnapshotFault::TooMuch);
            break;
        }
        table.entries.push(entry);
        snapshot += 1;
    }
    if table.fault.is_some() {
        let why = "a snapshot is malformed";
        walk.block(Referrer::SnapshotTable, why, snapshot);
    }
    Ok(table)
}

/// Judges an entry: what is wrong with its extra data, and whether its L1 table can be walked.
pub(super) fn judge_snapshot(walk: &mut Walk<'_>, layer: LayerId, entry: &SnapshotEntry) -> bool {
    let referrer = Referrer::L1 { layer };
    let (offset, entries) = (entry.l1_offset, entry.l1_entries);
    if walk.header.version == 3 && entry.extra < SNAPSHOT_EXTRA_MIN {
        walk.corrupt(referrer, Wrong::ShortExtraData(entry.extra));
    }
    let wrong = if !walk.header.is_aligned(offset) {
        Wrong::Unaligned(offset)
    } else if entries * 8 > L1_MAX {
        Wrong::Impossible("has more entries than an L1 table can have", entries)
    } else {
        return true;
    };
    walk.corrupt(referrer, wrong);
    false
}

/// A persistent bitmap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    /// Its name.
    pub name: Vec<u8>,
    /// Its directory entry before the name: place and size of its table, flags, granularity.
    pub fields: Vec<u8>,
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
    while let Some((bitmap, length)) = directory_entry(walk, rest)
        && (bitmaps.len() as u64) < count
    {
        bitmaps.push(bitmap);
        rest = &rest[length..];
    }
    let found = bitmaps.len() as u64;
    if !rest.is_empty() || found != count {
        let why = "a bitmap is malformed";
        walk.block_qemu(Referrer::BitmapDirectory, why, found);
    }
    for (number, bitmap) in (0..).zip(&mut bitmaps) {
        bitmap_table(walk, number, bitmap)?;
    }
    Ok(bitmaps)
}

/// An entry of the directory and its length in bytes; `None` when it is malformed.
fn directory_entry(walk: &Walk<'_>, raw: &[u8]) -> Option<(Bitmap, usize)> {
    let fields = raw.get(..DIRECTORY_ENTRY)?;
    let (table_offset, table_entries) = (be64(fields), be32(&fields[8..]));
    let (flags, kind, granularity_bits) = (be32(&fields[12..]), fields[16], fields[17]);
    let (name_length, extra) = (be16(&fields[18..]), be32(&fields[20..]));
    let end = DIRECTORY_ENTRY + usize::try_from(name_length).ok()?;
    let length = end.next_multiple_of(8);
    let name = raw.get(DIRECTORY_ENTRY..end)?;
    // One that is not in use is loaded, and its table must have just the entries that it needs.
    let bits = walk
        .header
        .virtual_size
        .div_ceil(1 << (granularity_bits & 63));
    let needed = (bits.div_ceil(64) * 8).div_ceil(walk.header.cluster_size());
    let fine = extra == 0
        && length <= raw.len()
        && (1..=BITMAP_TABLE_MAX).contains(&table_entries)
        && table_offset != 0
        && walk.header.is_aligned(table_offset)
        && (9..=31).contains(&granularity_bits)
        && flags & !(IN_USE | AUTO) == 0
        && name_length <= BITMAP_NAME_MAX
        && kind == 1
        && table_entries * walk.header.cluster_size() <= BITMAP_BYTES_MAX
        && (flags & IN_USE != 0 || table_entries == needed);
    let bitmap = Bitmap {
        name: name.to_vec(),
        fields: fields.to_vec(),
        table: Vec::new(),
    };
    fine.then_some((bitmap, length))
}

fn bitmap_table(walk: &mut Walk<'_>, number: u64, bitmap: &mut Bitmap) -> Result<(), Unreadable> {
    let referrer = Referrer::BitmapTable { bitmap: number };
    let (offset, entries) = (be64(&bitmap.fields), be32(&bitmap.fields[8..]));
    walk.refer(referrer, offset, entries * 8)?;
    if !can_be_read(offset, entries * 8) {
        walk.block_qemu(referrer, "it ends past 2^63", offset);
        return Ok(());
    }
    bitmap.table = walk.reader.table(offset, entries)?;
    for &(index, entry) in &bitmap.table {
        let referrer = Referrer::BitmapData {
            bitmap: number,
            index,
        };
        let offset = entry & BITMAP_OFFSET;
        let ones_and_offset = offset != 0 && entry & ALL_ONES != 0;
        if entry & BITMAP_RESERVED != 0 || ones_and_offset || !walk.header.is_aligned(offset) {
            // Of a bitmap in use the check fails; with another one the image is not even opened.
            walk.block_qemu(referrer, "the entry is malformed", entry);
        } else if offset != 0 {
            walk.refer_cluster(referrer, offset)?;
        }
    }
    Ok(())
}
