//! Damage to the snapshot table and to the bitmaps.

use std::io;

use arbitrary::Arbitrary;
use serde::{Deserialize, Serialize};

use super::{Pen, PointerDamage};
use crate::case::Pick;

/// Byte position of the header's number of snapshots.
const SNAPSHOT_COUNT: u64 = 60;
/// Byte position of the header's snapshot table offset.
const SNAPSHOT_TABLE: u64 = 64;

/// What becomes of the snapshot table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotDamage {
    /// An entry's L1 offset, as any other pointer.
    L1Offset(PointerDamage),
    /// An entry's L1 offset grows by this many bytes.
    L1OffsetBytes(u16),
    /// An entry's L1 entries.
    L1Entries(u32),
    /// An entry's extra data size.
    ExtraData(u32),
    /// The header's number of snapshots.
    Count(u32),
    /// The header's snapshot table offset, as any other pointer.
    Table(PointerDamage),
}

/// What becomes of a bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BitmapDamage {
    /// One of its table's entries, as any other pointer.
    TableEntry {
        /// Which of those that are not 0.
        entry: Pick,
        /// What becomes of it.
        becomes: PointerDamage,
    },
    /// The directory entry's table offset, as any other pointer.
    TableOffset(PointerDamage),
    /// The directory entry's number of table entries.
    TableEntries(u32),
    /// The directory entry's flags, of which bits 2 and up are reserved.
    Flags(u32),
    /// The extension's number of bitmaps.
    Count(u32),
    /// The extension's directory size, in bytes.
    DirectorySize(u32),
    /// The extension's directory offset, as any other pointer.
    DirectoryOffset(PointerDamage),
}

pub(super) fn snapshot(pen: &mut Pen<'_>, which: Pick, how: SnapshotDamage) -> io::Result<()> {
    let found = pen.found;
    let Some(index) = which.of(found.snapshots.len()) else {
        return Ok(());
    };
    let snapshot = found.snapshots[index];
    match how {
        SnapshotDamage::L1Offset(becomes) => {
            pen.write_be64(snapshot.at, becomes.of(snapshot.l1_offset, found))
        }
        SnapshotDamage::L1OffsetBytes(bytes) => {
            let moved = snapshot.l1_offset.wrapping_add(bytes.into());
            pen.write_be64(snapshot.at, moved)
        }
        SnapshotDamage::L1Entries(entries) => pen.write_be32(snapshot.at + 8, entries),
        SnapshotDamage::ExtraData(size) => pen.write_be32(snapshot.at + 36, size),
        SnapshotDamage::Count(count) => pen.write_be32(SNAPSHOT_COUNT, count),
        SnapshotDamage::Table(becomes) => {
            let table = super::find::be64(pen.image, SNAPSHOT_TABLE)?;
            pen.write_be64(SNAPSHOT_TABLE, becomes.of(table, found))
        }
    }
}

pub(super) fn bitmap(pen: &mut Pen<'_>, which: Pick, how: &BitmapDamage) -> io::Result<()> {
    let found = pen.found;
    let (Some(extension), Some(index)) = (found.bitmaps_extension, which.of(found.bitmaps.len()))
    else {
        return Ok(());
    };
    let bitmap = &found.bitmaps[index];
    match *how {
        BitmapDamage::TableEntry { entry, becomes } => match entry.of(bitmap.entries.len()) {
            Some(index) => {
                let entry = bitmap.entries[index];
                pen.write_be64(entry.at, becomes.of(entry.value, found))
            }
            None => Ok(()),
        },
        BitmapDamage::TableOffset(becomes) => {
            let offset = super::find::be64(pen.image, bitmap.at)?;
            pen.write_be64(bitmap.at, becomes.of(offset, found))
        }
        BitmapDamage::TableEntries(entries) => pen.write_be32(bitmap.at + 8, entries),
        BitmapDamage::Flags(flags) => pen.write_be32(bitmap.at + 12, flags),
        BitmapDamage::Count(count) => pen.write_be32(extension, count),
        BitmapDamage::DirectorySize(size) => pen.write_be64(extension + 8, size.into()),
        BitmapDamage::DirectoryOffset(becomes) => {
            let offset = super::find::be64(pen.image, extension + 16)?;
            pen.write_be64(extension + 16, becomes.of(offset, found))
        }
    }
}
