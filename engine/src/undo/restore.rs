//! Checking an image against an undo file, and putting the old bytes back.

use std::time::SystemTime;

use super::error::UndoError;
use super::file::UndoFile;
use super::format::{SECTOR, Status, nanoseconds, whole_sectors};
use crate::storage::Storage;
use crate::units::Offset;

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
        let header = self.header_now()?;
        self.require_length(image)?;
        self.require_states(image)?;
        let is_sealed = header.status == Status::Sealed;
        if modified.is_some_and(|time| is_sealed && nanoseconds(time) != header.modified) {
            return Err(UndoError::ModifiedSince);
        }
        // From here on the time of modification says nothing.
        self.set_status(Status::Begun, 0)?;
        let restored = self
            .put_back(image)
            .map_err(|error| UndoError::Interrupted(Box::new(error)))?;
        self.set_status(Status::Applied, 0)
            .map_err(|error| UndoError::Unmarked(Box::new(error)))?;
        Ok(restored)
    }

    fn require_length(&self, image: &dyn Storage) -> Result<(), UndoError> {
        let (old, new) = (self.header.old_length, self.header.new_length);
        let length = image.len();
        // What cannot grow has not grown.
        let most = image.capacity().map_or(new, |_| old);
        if (old..=most).contains(&length) {
            return Ok(());
        }
        Err(UndoError::ImageLength(length, old, new))
    }

    /// Whether each sector is in one of its states, wherever the repair or a restoration ended.
    fn require_states(&self, image: &dyn Storage) -> Result<(), UndoError> {
        // Past the old end there is nothing but what the repair writes.
        let mut zeros_from = whole_sectors(self.header.old_length);
        self.for_each_sector(|sector| {
            let (offset, mut now) = (Offset(sector.at), [0; SECTOR]);
            require_zeros(image, zeros_from, sector.at)?;
            zeros_from = zeros_from.max(sector.at + SECTOR as u64);
            image.read_at(offset, &mut now)?;
            if sector.has_state(&now) {
                Ok(())
            } else {
                Err(UndoError::OtherImage(offset))
            }
        })?;
        require_zeros(image, zeros_from, image.len())
    }

    fn put_back(&self, image: &mut dyn Storage) -> Result<Restored, UndoError> {
        let (before, old_length) = (image.len(), self.header.old_length);
        // What lies past the old end is cut off. The sector in which that is goes back whole, so
        // that it is in a known state at all times, but never makes the image longer.
        let limit = whole_sectors(old_length).min(before.max(old_length));
        let mut bytes_written = 0;
        self.for_each_sector(|sector| {
            let length = limit.saturating_sub(sector.at).min(SECTOR as u64) as usize;
            let (offset, old, mut now) = (Offset(sector.at), &sector.old[..length], [0; SECTOR]);
            image.read_at(offset, &mut now)?;
            if sector.is_changed() && now[..length] != *old {
                image.write_at(offset, old)?;
                bytes_written += length as u64;
            }
            Ok(())
        })?;
        // The old length only once all old bytes are there.
        image.flush()?;
        if image.len() != old_length {
            image.set_len(old_length)?;
            image.flush()?;
        }
        Ok(Restored {
            bytes_written,
            length: (before, image.len()),
        })
    }
}

/// Whether the image has nothing but zeros from `from` up to `end`.
fn require_zeros(image: &dyn Storage, mut from: u64, end: u64) -> Result<(), UndoError> {
    let mut sector = [0; SECTOR];
    while from < end {
        from = match image.next_data(Offset(from)) {
            Some(data) if data.0 < end => data.0 - data.0 % SECTOR as u64,
            _ => return Ok(()),
        };
        let offset = Offset(from);
        image.read_at(offset, &mut sector)?;
        if sector.iter().any(|&byte| byte != 0) {
            return Err(UndoError::OtherImage(offset));
        }
        from += SECTOR as u64;
    }
    Ok(())
}
