//! Putting the old bytes back.

use std::time::SystemTime;

use super::error::UndoError;
use super::format::{MAX_SECTORS, SECTOR, Status};
use super::read::{Record, Sectors, UndoFile};
use crate::storage::Storage;

/// What a restoration has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The bytes written to the image: 0 where the repair had not begun.
    pub bytes_written: u64,
    /// The length of the image, in bytes, before and after.
    pub length: (u64, u64),
}

impl UndoFile {
    /// Puts the old bytes and the old length back, once it is sure that `image` is the one that was
    /// repaired and that nobody has written to it since. `modified` is when it was last written to;
    /// `None` for what has no such time, as a block device.
    ///
    /// Interrupted anywhere, it can be done again.
    pub fn restore(
        &self,
        image: &mut dyn Storage,
        modified: Option<SystemTime>,
    ) -> Result<Restored, UndoError> {
        self.require_image(image, modified)?;
        // From here on the time of modification says nothing.
        self.set_status(Status::Begun)?;
        let restored = self.put_back(image).map_err(|error| {
            let source = Box::new(error);
            UndoError::Interrupted { source }
        })?;
        self.set_status(Status::Applied).map_err(|error| {
            let source = Box::new(error);
            UndoError::Unmarked { source }
        })?;
        Ok(restored)
    }

    fn put_back(&self, image: &mut dyn Storage) -> Result<Restored, UndoError> {
        let before = image.len();
        let mut bytes_written = 0;
        let (mut old, mut now) = (vec![0; MAX_SECTORS * SECTOR], vec![0; MAX_SECTORS * SECTOR]);
        let mut records = self.records();
        while let Some(record) = records.next_record()? {
            if let Record::Sectors(sectors) = record {
                let buffers = [&mut old[..], &mut now[..]];
                bytes_written += self.put_back_sectors(&sectors, image, buffers)?;
            }
        }
        // The old length only once all old bytes are there.
        image.flush()?;
        if image.len() != self.header.old_length {
            image.set_len(self.header.old_length)?;
            image.flush()?;
        }
        Ok(Restored {
            bytes_written,
            length: (before, image.len()),
        })
    }

    /// Returns how many bytes it wrote: none where all are as they were.
    fn put_back_sectors(
        &self,
        sectors: &Sectors<'_>,
        image: &mut dyn Storage,
        buffers: [&mut [u8]; 2],
    ) -> Result<u64, UndoError> {
        // What lies past the old end is cut off. The sector in which that is goes back whole, so
        // that it is in a known state at all times, but never makes the image longer.
        let sector = SECTOR as u64;
        let old_end = self.header.old_length.div_ceil(sector) * sector;
        let longest = image.len().max(self.header.old_length);
        let end = sectors.end().min(old_end).min(longest);
        let Some(length) = end
            .checked_sub(sectors.first.0)
            .filter(|&length| length > 0)
        else {
            return Ok(0);
        };
        let [old, now] = buffers.map(|buffer| &mut buffer[..length as usize]);
        for (index, part) in old.chunks_mut(SECTOR).enumerate() {
            part.copy_from_slice(&sectors.old(index)[..part.len()]);
        }
        image.read_at(sectors.first, now)?;
        if now == old {
            return Ok(0);
        }
        image.write_at(sectors.first, old)?;
        Ok(length)
    }
}
