//! Persistent bitmaps: their directory, tables and data.

use super::{WalkError, Walker, for_each_entry};
use crate::finding::{Finding, Referrer};
use crate::format::bitmap::{BitmapEntry, FIXED_BYTES};
use crate::format::entry::BitmapTableEntry;
use crate::format::extension::Bitmaps;
use crate::image::is_addressable;
use crate::units::Offset;

const TABLE_ENTRY_BYTES: u64 = 8;

impl Walker<'_> {
    /// Counts what the bitmaps take up. What makes no sense is passed over and reported; qemu gives
    /// up there (observed).
    pub(super) fn walk_bitmaps(&mut self) -> Result<(), WalkError> {
        let Some(bitmaps) = self.image.extensions.bitmaps else {
            return Ok(());
        };
        let (offset, size) = (bitmaps.directory_offset, bitmaps.directory_size);
        self.count_other(Referrer::BitmapDirectory, offset, size)?;
        if !is_addressable(offset, size) {
            let position = 0;
            self.corruption(Finding::BitmapDirectory { offset, position }, 1);
            return Ok(());
        }
        for entry in self.bitmap_directory(bitmaps)? {
            self.walk_bitmap(&entry)?;
        }
        Ok(())
    }

    /// The entries up to the first that makes no sense.
    fn bitmap_directory(&mut self, bitmaps: Bitmaps) -> Result<Vec<BitmapEntry>, WalkError> {
        let mut entries = Vec::new();
        let mut position = 0;
        while position < bitmaps.directory_size {
            let mut bytes = [0; FIXED_BYTES as usize];
            let start = Offset(bitmaps.directory_offset.0.saturating_add(position));
            self.storage.read_at(start, &mut bytes)?;
            let entry = BitmapEntry::parse(&bytes, self.image.geometry(), self.image.header.size);
            let too_many = entries.len() >= bitmaps.count as usize;
            if entry.is_malformed || too_many || position + entry.length > bitmaps.directory_size {
                break;
            }
            entries.try_reserve(1)?;
            entries.push(entry);
            position += entry.length;
        }
        if position < bitmaps.directory_size || entries.len() != bitmaps.count as usize {
            let offset = bitmaps.directory_offset;
            self.corruption(Finding::BitmapDirectory { offset, position }, 1);
        }
        Ok(entries)
    }

    fn walk_bitmap(&mut self, bitmap: &BitmapEntry) -> Result<(), WalkError> {
        let (table, entries) = (bitmap.table_offset, u64::from(bitmap.table_size));
        let length = entries * TABLE_ENTRY_BYTES;
        self.count_other(Referrer::BitmapTable, table, length)?;
        if !is_addressable(table, length) {
            let (index, entry) = (0, 0);
            let finding = Finding::BitmapTableEntry {
                table,
                index,
                entry,
            };
            self.corruption(finding, 1);
            return Ok(());
        }
        let geometry = *self.image.geometry();
        let storage = self.storage;
        for_each_entry(storage, table, entries, |index, entry| {
            if BitmapTableEntry(entry).is_malformed(&geometry) {
                let finding = Finding::BitmapTableEntry {
                    table,
                    index,
                    entry,
                };
                self.corruption(finding, 1);
                return Ok(());
            }
            match BitmapTableEntry(entry).data() {
                Offset(0) => Ok(()),
                data => self.count_other(Referrer::BitmapData, data, geometry.cluster_size()),
            }
        })
    }
}
