//! An undo file that is there: opening it, checking an image against it, and putting the old bytes
//! back. Every byte of it is looked at when it is opened, and each record again when it is used.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::UndoError;
use super::format::{
    Body, Header, SECTOR, SECTOR_BYTES, Sector, Status, checksum, nanoseconds, read, sector_of,
    whole_sectors,
};
use crate::storage::Storage;
use crate::units::Offset;

/// Bytes read at once.
const BUFFER_BYTES: usize = 1 << 15;

/// What a restoration has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The bytes written to the image: 0 where the repair had not begun.
    pub bytes_written: u64,
    /// The length of the image, in bytes, before and after.
    pub length: (u64, u64),
}

/// An undo file, complete and undamaged.
#[derive(Debug)]
pub struct UndoFile {
    file: File,
    header: Header,
    image: PathBuf,
}

impl UndoFile {
    /// Opens an undo file and checks all of it. Nothing is written, and one that was put back
    /// already is refused.
    pub fn open(path: &Path) -> Result<Self, UndoError> {
        // Looked at before opening: opening a pipe waits for its other end.
        if !std::fs::metadata(path)?.is_file() {
            return Err(UndoError::NotUndo);
        }
        let file = File::options().read(true).write(true).open(path)?;
        let mut undo = Self {
            header: read_header(&file)?,
            image: PathBuf::new(),
            file,
        };
        undo.image = undo.for_each_sector(|_| Ok(()))?;
        Ok(undo)
    }

    /// Where the image was when it was repaired, as [`save`](super::save) was told.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Notes when the image was last modified, once the repair has ended: a later write to it, even
    /// one to guest data alone, is noticed then. Only for regular files.
    pub fn seal(&self, modified: SystemTime) -> Result<(), UndoError> {
        match read_header(&self.file)?.status {
            Status::Saved => self.set_status(Status::Sealed, nanoseconds(modified)),
            _ => Err(UndoError::Sealed),
        }
    }

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
        let header = read_header(&self.file)?;
        self.require_length(image)?;
        self.require_states(image)?;
        let is_sealed = header.status == Status::Sealed;
        if modified.is_some_and(|time| is_sealed && nanoseconds(time) != header.modified) {
            return Err(UndoError::ModifiedSince);
        }
        // From here on the time of modification says nothing.
        self.set_status(Status::Begun, 0)?;
        let restored = self.put_back(image);
        let restored = restored.map_err(|error| UndoError::Interrupted(Box::new(error)))?;
        let marked = self.set_status(Status::Applied, 0);
        marked.map_err(|error| UndoError::Unmarked(Box::new(error)))?;
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
            require_zeros(image, zeros_from, sector.at)?;
            zeros_from = zeros_from.max(sector.at + SECTOR_BYTES);
            if !sector.sums.contains(&checksum(&read(image, sector.at)?)) {
                return Err(UndoError::OtherImage(Offset(sector.at)));
            }
            Ok(())
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
            let length = limit.saturating_sub(sector.at).min(SECTOR_BYTES) as usize;
            let old = &sector.old[..length];
            if sector.is_changed() && read(image, sector.at)?[..length] != *old {
                image.write_at(Offset(sector.at), old)?;
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

    /// Replaces the status, durably.
    fn set_status(&self, status: Status, modified: u64) -> Result<(), UndoError> {
        let header = Header {
            status,
            modified,
            ..self.header
        };
        self.file.write_all_at(&header.encode(), 0)?;
        Ok(self.file.sync_all()?)
    }

    /// Hands over the sector of every record, in order, and checks all that is read; returns the
    /// path of the image.
    fn for_each_sector(
        &self,
        mut visit: impl FnMut(&Sector) -> Result<(), UndoError>,
    ) -> Result<PathBuf, UndoError> {
        let mut body = Body::new(BufReader::with_capacity(BUFFER_BYTES, &self.file));
        body.file.seek(SeekFrom::Start(SECTOR_BYTES))?;
        // The header bounds what is allocated.
        let mut image = vec![0; self.header.path_length as usize];
        body.read(&mut image)?;
        let mut free = 0..whole_sectors(self.header.new_length);
        let mut sums = Vec::new();
        while let Some(sector) = Sector::read(&mut body, &free, sums)? {
            free.start = sector.at + SECTOR_BYTES;
            visit(&sector)?;
            sums = sector.sums;
        }
        if body.sum() != self.header.body_sum {
            return Err(UndoError::Damaged);
        }
        Ok(OsString::from_vec(image).into())
    }
}

/// The header, as another process may have left it meanwhile.
fn read_header(mut file: &File) -> Result<Header, UndoError> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(SECTOR_BYTES).read_to_end(&mut bytes)?;
    Header::decode(&bytes)
}

/// Whether the image has nothing but zeros from `from` up to `end`.
fn require_zeros(image: &dyn Storage, mut from: u64, end: u64) -> Result<(), UndoError> {
    while from < end
        && let Some(data) = image.next_data(Offset(from)).filter(|data| data.0 < end)
    {
        from = sector_of(data.0);
        if read(image, from)? != [0; SECTOR] {
            return Err(UndoError::OtherImage(Offset(from)));
        }
        from += SECTOR_BYTES;
    }
    Ok(())
}
