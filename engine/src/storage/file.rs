//! An image in a regular file or on a block device.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc;
use nix::unistd::{Whence, lseek64};

use super::device;
use super::error::{FileKind, OpenError};
use super::lock::{self, Access, LockFailure, Locking};
use super::{Operation, Storage, StorageError};
use crate::units::Offset;

/// A regular file or a block device, locked as qemu locks its images for as long as it is open.
#[derive(Debug)]
pub struct FileStorage {
    file: File,
    length: u64,
    /// The size of a block device; `None` for a regular file, which can grow.
    capacity: Option<u64>,
}

impl FileStorage {
    /// Opens for reading alone: never with a mode that could change a byte or, where the system
    /// lets us choose, the access time.
    pub fn open_read_only(path: &Path, locking: Locking) -> Result<Self, OpenError> {
        Self::open(path, Access::Read, locking)
    }

    /// Opens for reading and writing, alone: refused while any other process uses the image.
    pub fn open_read_write(path: &Path) -> Result<Self, OpenError> {
        Self::open(path, Access::Write, Locking::Respected)
    }

    fn open(path: &Path, access: Access, locking: Locking) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Open {
            path: path.to_owned(),
            source,
        };
        // Looked at before opening as well: opening a pipe waits for its other end, and opening
        // some devices does things to them.
        let metadata = std::fs::metadata(path).map_err(failed)?;
        require_image_kind(path, &metadata)?;
        let is_device = metadata.file_type().is_block_device();
        if is_device && access == Access::Write && device::is_read_only(&metadata) {
            return Err(device::read_only(path));
        }
        let file = open_file(path, access, is_device)
            .map_err(|source| device::explain(path, is_device, source))?;
        let metadata = file.metadata().map_err(failed)?;
        require_image_kind(path, &metadata)?;
        if metadata.file_type().is_block_device() != is_device {
            return Err(failed(io::Error::other("it changed while it was opened")));
        }
        lock::acquire(&file, access, locking).map_err(|failure| match failure {
            LockFailure::Held { holder, byte } => OpenError::Locked {
                path: path.to_owned(),
                holder,
                byte,
                can_share: access == Access::Read,
            },
            LockFailure::System(source) => OpenError::Lock {
                path: path.to_owned(),
                source,
            },
        })?;
        // Taken under the lock. The metadata of a block device has no length.
        let length = (&file).seek(SeekFrom::End(0)).map_err(failed)?;
        let capacity = is_device.then_some(length);
        Ok(Self {
            file,
            length,
            capacity,
        })
    }

    /// When a regular file was last written to; `None` for a device, which has no such time.
    pub fn modified(&self) -> io::Result<Option<SystemTime>> {
        match self.capacity {
            Some(_) => Ok(None),
            None => self.file.metadata()?.modified().map(Some),
        }
    }

    /// Refuses what the device cannot hold before any of it is written, and what no file can.
    fn require_room(&self, operation: Operation, end: u64, at: Place) -> Result<(), StorageError> {
        if i64::try_from(end).is_err() {
            return Err(at.failed(operation, ErrorKind::FileTooLarge.into()));
        }
        match self.capacity {
            Some(capacity) if end > capacity => {
                Err(at.failed(operation, ErrorKind::StorageFull.into()))
            }
            _ => Ok(()),
        }
    }
}

impl Storage for FileStorage {
    fn len(&self) -> u64 {
        self.length
    }

    fn capacity(&self) -> Option<u64> {
        self.capacity
    }

    fn read_at(&self, offset: Offset, buffer: &mut [u8]) -> Result<(), StorageError> {
        let at = Place::new(offset, buffer.len());
        let mut filled = 0;
        while filled < buffer.len() {
            // Past the largest offset of a file there is nothing, as past the end.
            let position = offset.0.saturating_add(filled as u64);
            if position >= self.length || i64::try_from(position).is_err() {
                break;
            }
            match self.file.read_at(&mut buffer[filled..], position) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(at.failed(Operation::Read, error)),
            }
        }
        buffer[filled..].fill(0);
        Ok(())
    }

    fn next_data(&self, offset: Offset) -> Option<Offset> {
        if offset.0 >= self.length {
            return None;
        }
        let from = i64::try_from(offset.0).ok()?;
        match lseek64(&self.file, from, Whence::SeekData) {
            Ok(data) => Some(Offset(data.cast_unsigned().max(offset.0))),
            // A hole up to the end.
            Err(Errno::ENXIO) => None,
            // No holes here that the system could tell.
            Err(_) => Some(offset),
        }
    }

    fn write_at(&mut self, offset: Offset, bytes: &[u8]) -> Result<(), StorageError> {
        let at = Place::new(offset, bytes.len());
        let end = offset.0.saturating_add(bytes.len() as u64);
        self.require_room(Operation::Write, end, at)?;
        self.file
            .write_all_at(bytes, offset.0)
            .map_err(|error| at.failed(Operation::Write, error))?;
        self.length = self.length.max(end);
        Ok(())
    }

    fn set_len(&mut self, length: u64) -> Result<(), StorageError> {
        let at = Place::new(Offset(length), 0);
        self.require_room(Operation::SetLen, length, at)?;
        if length == self.length {
            return Ok(());
        }
        if self.capacity.is_some() {
            return Err(at.failed(Operation::SetLen, ErrorKind::Unsupported.into()));
        }
        self.file
            .set_len(length)
            .map_err(|error| at.failed(Operation::SetLen, error))?;
        self.length = length;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.file
            .sync_data()
            .map_err(|error| Place::new(Offset(0), 0).failed(Operation::Flush, error))
    }

    fn discard(&mut self, offset: Offset, length: u64) -> Result<(), StorageError> {
        let at = Place { offset, length };
        let end = offset.0.saturating_add(length).min(self.length);
        if end <= offset.0 {
            return Ok(());
        }
        // What lies before the end of an open file fits an `i64`.
        let (start, bytes) = (offset.0.cast_signed(), (end - offset.0).cast_signed());
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        loop {
            return match fallocate(&self.file, flags, start, bytes) {
                Err(Errno::EINTR) => continue,
                // The filesystem has no holes, or the device wants larger or aligned ones.
                Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::ENODEV | Errno::EINVAL) => {
                    Ok(())
                }
                Err(errno) => Err(at.failed(Operation::Discard, errno.into())),
            };
        }
    }
}

/// The bytes that an operation was for.
#[derive(Clone, Copy)]
struct Place {
    offset: Offset,
    length: u64,
}

impl Place {
    const fn new(offset: Offset, length: usize) -> Self {
        Self {
            offset,
            length: length as u64,
        }
    }

    fn failed(self, operation: Operation, source: io::Error) -> StorageError {
        StorageError {
            operation,
            offset: self.offset,
            length: self.length,
            source,
        }
    }
}

fn open_file(path: &Path, access: Access, is_device: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(access == Access::Write);
    if access == Access::Write && is_device {
        // Of a device alone: refused while the system uses it, and keeps that from starting to.
        return options.custom_flags(libc::O_EXCL).open(path);
    }
    if access == Access::Read {
        // Only the owner may ask for it; everybody else reads with it unset.
        match options.custom_flags(libc::O_NOATIME).open(path) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
            result => return result,
        }
    }
    options.custom_flags(0).open(path)
}

fn require_image_kind(path: &Path, metadata: &std::fs::Metadata) -> Result<(), OpenError> {
    let file_type = metadata.file_type();
    if file_type.is_file() || file_type.is_block_device() {
        return Ok(());
    }
    let kind = if file_type.is_dir() {
        FileKind::Directory
    } else if file_type.is_fifo() {
        FileKind::Fifo
    } else if file_type.is_char_device() {
        FileKind::CharacterDevice
    } else if file_type.is_socket() {
        FileKind::Socket
    } else {
        FileKind::Other
    };
    Err(OpenError::Kind {
        path: path.to_owned(),
        kind,
    })
}
