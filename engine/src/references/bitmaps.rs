//! Persistent bitmaps: their directory, tables and data.

use super::{Result, Walker, for_each_entry};
use crate::finding::{Finding, Referrer};
use crate::format::bitmap::{BitmapEntry, FIXED_BYTES};
use crate::format::entry::BitmapTableEntry;
use crate::format::extension::Bitmaps;
use crate::image::{Image, is_addressable};
use crate::storage::Storage;
use crate::table::push;
use crate::units::{Offset, Region};

/// The entries of a bitmap directory up to the first that makes no sense, and the byte where that is.
pub(crate) fn read_directory(
    image: &Image,
    storage: &dyn Storage,
    count: u32,
    directory: Region,
) -> Result<(Vec<BitmapEntry>, u64)> {
    let (mut entries, mut position) = (Vec::new(), 0);
    while position < directory.length && is_addressable(directory) {
        let mut bytes = [0; FIXED_BYTES as usize];
        let start = Offset(directory.offset.0.saturating_add(position));
        storage.read_at(start, &mut bytes)?;
        let entry = BitmapEntry::parse(start, &bytes, image.geometry(), image.header.size);
        let too_many = entries.len() >= count as usize;
        if entry.is_malformed || too_many || position + entry.length > directory.length {
            break;
        }
        push(&mut entries, entry)?;
        position += entry.length;
    }
    Ok((entries, position))
}

impl Walker<'_> {
    /// Counts what the bitmaps take up, up to the first directory entry that makes no sense. What
    /// makes none is passed over and reported; qemu gives up there (observed).
    pub(super) fn walk_bitmaps(&mut self) -> Result<()> {
        let Some(Bitmaps { count, directory }) = self.image.extensions.bitmaps else {
            return Ok(());
        };
        let (offset, size) = (directory.offset, directory.length);
        self.count_region(Referrer::BitmapDirectory, directory, 1)?;
        let (entries, position) = read_directory(self.image, self.storage, count, directory)?;
        if position < size || entries.len() != count as usize {
            self.corruption(Finding::BitmapDirectory { offset, position }, 1);
        }
        entries.iter().try_for_each(|entry| self.walk_bitmap(entry))
    }

    fn walk_bitmap(&mut self, bitmap: &BitmapEntry) -> Result<()> {
        let (table, entries) = (bitmap.table_offset, u64::from(bitmap.table_size));
        let (offset, length) = (table, entries * 8);
        let region = Region { offset, length };
        let malformed = |index, entry| Finding::BitmapTableEntry(table, index, entry);
        self.count_region(Referrer::BitmapTable, region, 1)?;
        if !is_addressable(region) {
            self.corruption(malformed(0, 0), 1);
            return Ok(());
        }
        let geometry = self.geometry;
        let length = geometry.cluster_size();
        for_each_entry(self.storage, table, entries, |index, raw| {
            let entry = BitmapTableEntry(raw);
            match entry.data() {
                _ if entry.is_malformed(&geometry) => self.corruption(malformed(index, raw), 1),
                Offset(0) => {}
                offset => {
                    let region = Region { offset, length };
                    self.count_region(Referrer::BitmapData, region, 1)?;
                }
            }
            Ok(())
        })
    }
}
