//! Persistent bitmaps: their directory, tables and data.

use super::{WalkError, Walker, for_each_entry};
use crate::finding::Referrer;
use crate::format::bitmap::{BitmapEntry, FIXED_BYTES};
use crate::format::entry::BitmapTableEntry;
use crate::format::extension::Bitmaps;
use crate::units::Offset;

const TABLE_ENTRY_BYTES: u64 = 8;

impl Walker<'_> {
    pub(super) fn walk_bitmaps(&mut self) -> Result<(), WalkError> {
        let Some(bitmaps) = self.image.extensions.bitmaps else {
            return Ok(());
        };
        let (offset, size) = (bitmaps.directory_offset, bitmaps.directory_size);
        self.count_region(Referrer::BitmapDirectory, offset, size, 1)?;
        Self::require_addressable(Referrer::BitmapDirectory, offset, size)?;
        // The whole directory is read before any table is counted: a broken one counts nothing.
        for entry in self.bitmap_directory(bitmaps)? {
            self.walk_bitmap(&entry)?;
        }
        Ok(())
    }

    fn bitmap_directory(&self, bitmaps: Bitmaps) -> Result<Vec<BitmapEntry>, WalkError> {
        let broken = |position| WalkError::BitmapDirectory {
            offset: bitmaps.directory_offset,
            position,
        };
        let mut entries = Vec::new();
        let mut position = 0;
        while position < bitmaps.directory_size {
            let mut bytes = [0; FIXED_BYTES as usize];
            let start = Offset(bitmaps.directory_offset.0.saturating_add(position));
            self.storage.read_at(start, &mut bytes)?;
            let entry = BitmapEntry::parse(&bytes);
            let malformed = entry.is_malformed(self.image.geometry(), self.image.header.size);
            let too_many = entries.len() >= bitmaps.count as usize;
            if malformed || too_many || position + entry.length() > bitmaps.directory_size {
                return Err(broken(position));
            }
            entries.push(entry);
            position += entry.length();
        }
        if entries.len() != bitmaps.count as usize {
            return Err(broken(position));
        }
        Ok(entries)
    }

    fn walk_bitmap(&mut self, bitmap: &BitmapEntry) -> Result<(), WalkError> {
        let (table, entries) = (bitmap.table_offset, u64::from(bitmap.table_size));
        self.count_region(Referrer::BitmapTable, table, entries * TABLE_ENTRY_BYTES, 1)?;
        Self::require_addressable(Referrer::BitmapTable, table, entries * TABLE_ENTRY_BYTES)?;
        let geometry = *self.image.geometry();
        let storage = self.storage;
        for_each_entry(storage, table, entries, |index, entry| {
            if BitmapTableEntry(entry).is_malformed(&geometry) {
                return Err(WalkError::BitmapTable {
                    table,
                    index,
                    entry,
                });
            }
            Ok(())
        })?;
        for_each_entry(
            storage,
            table,
            entries,
            |_, entry| match BitmapTableEntry(entry).data() {
                Offset(0) => Ok(()),
                data => self.count_region(Referrer::BitmapData, data, geometry.cluster_size(), 1),
            },
        )
    }
}
