//! An image in a regular file or on a block device.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc;
use nix::sys::stat::{major, minor};
use nix::unistd::{Whence, lseek64};

use super::error::OpenError;
use super::lock::{self, Access};
use super::{Operation, Storage, StorageError, failed};
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
    /// Opens an image. For reading that is never with a mode that could change a byte or, where the
    /// system lets us choose, the access time.
    pub fn open(path: &Path, access: Access) -> Result<Self, OpenError> {
        let writes = access == Access::Write;
        let failed = |source| OpenError::Open {
            path: path.to_owned(),
            source,
        };
        // Looked at before opening as well: opening a pipe waits for its other end, and opening
        // some devices does things to them.
        let metadata = std::fs::metadata(path).map_err(failed)?;
        let is_device = is_device(path, &metadata)?;
        if is_device && writes && is_read_only(&metadata) {
            return Err(OpenError::ReadOnlyDevice(path.to_owned()));
        }
        let file = open_file(path, writes, is_device).map_err(|source| {
            match (source.raw_os_error(), is_device) {
                (Some(libc::EBUSY), true) => OpenError::Busy(path.to_owned()),
                (Some(libc::EROFS), true) => OpenError::ReadOnlyDevice(path.to_owned()),
                (Some(libc::EROFS), false) => OpenError::ReadOnlyFileSystem(path.to_owned()),
                _ => failed(source),
            }
        })?;
        if self::is_device(path, &file.metadata().map_err(failed)?)? != is_device {
            return Err(failed(io::Error::other("it changed while it was opened")));
        }
        Self::from_file(file, path, access)
    }

    /// An image in a file that is open already, as a process without access to paths is given it; `path`
    /// is what messages call it. Its locks are those of the open file: they end with this storage, also
    /// for whoever has a duplicate of its descriptor.
    pub fn from_file(file: File, path: &Path, access: Access) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Open {
            path: path.to_owned(),
            source,
        };
        let is_device = is_device(path, &file.metadata().map_err(failed)?)?;
        let (length, capacity) = (0, None);
        let mut storage = Self {
            file,
            length,
            capacity,
        };
        lock::acquire(&storage.file, path, access)?;
        // Taken under the lock. The metadata of a block device has no length.
        storage.length = storage.file.seek(SeekFrom::End(0)).map_err(failed)?;
        storage.capacity = is_device.then_some(storage.length);
        Ok(storage)
    }

    /// When a regular file was last written to; `None` for a device, which has no such time.
    pub fn modified(&self) -> io::Result<Option<SystemTime>> {
        match self.capacity {
            Some(_) => Ok(None),
            None => self.file.metadata()?.modified().map(Some),
        }
    }

    /// Refuses what the device cannot hold before any of it is written, and what no file can.
    fn require_room(&self, end: u64) -> io::Result<()> {
        match self.capacity {
            _ if i64::try_from(end).is_err() => Err(ErrorKind::FileTooLarge.into()),
            Some(capacity) if end > capacity => Err(ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

impl Drop for FileStorage {
    fn drop(&mut self) {
        lock::release(&self.file);
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
        let length = buffer.len() as u64;
        let stored = self.length.saturating_sub(offset.0).min(length) as usize;
        let mut filled = 0;
        while filled < stored {
            let position = offset.0 + filled as u64;
            match self.file.read_at(&mut buffer[filled..stored], position) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(Operation::Read, offset, length)(error)),
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
        let length = bytes.len() as u64;
        let end = offset.0.saturating_add(length);
        let room = self.require_room(end);
        room.and_then(|()| self.file.write_all_at(bytes, offset.0))
            .map_err(failed(Operation::Write, offset, length))?;
        self.length = self.length.max(end);
        Ok(())
    }

    fn set_len(&mut self, length: u64) -> Result<(), StorageError> {
        let set = match self.require_room(length) {
            Ok(()) if length == self.length => Ok(()),
            Ok(()) if self.capacity.is_some() => Err(ErrorKind::Unsupported.into()),
            room => room.and_then(|()| self.file.set_len(length)),
        };
        set.map_err(failed(Operation::SetLen, Offset(length), 0))?;
        self.length = length;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        let synced = self.file.sync_data();
        synced.map_err(failed(Operation::Flush, Offset(0), 0))
    }

    fn discard(&mut self, offset: Offset, length: u64) -> Result<(), StorageError> {
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
                Err(errno) => Err(failed(Operation::Discard, offset, length)(errno)),
            };
        }
    }
}

fn open_file(path: &Path, writes: bool, is_device: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(writes);
    match (writes, is_device) {
        // Of a device alone: refused while the system uses it, and keeps that from starting to.
        (true, true) => options.custom_flags(libc::O_EXCL).open(path),
        (true, false) => options.open(path),
        // Only the owner may ask for it; everybody else reads with it unset.
        (false, _) => match options.custom_flags(libc::O_NOATIME).open(path) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                options.custom_flags(0).open(path)
            }
            result => result,
        },
    }
}

/// Whether the system has the device as read-only. Some versions of Linux let it be opened for
/// writing all the same, and fail at the first write.
fn is_read_only(metadata: &Metadata) -> bool {
    let number = metadata.rdev();
    let says = format!("/sys/dev/block/{}:{}/ro", major(number), minor(number));
    std::fs::read(says).is_ok_and(|flag| flag.starts_with(b"1"))
}

/// Whether it is a block device; an error where it is no regular file either.
fn is_device(path: &Path, metadata: &Metadata) -> Result<bool, OpenError> {
    let kind = match metadata.file_type() {
        kind if kind.is_file() => return Ok(false),
        kind if kind.is_block_device() => return Ok(true),
        kind if kind.is_dir() => "a directory",
        kind if kind.is_fifo() => "a named pipe",
        kind if kind.is_char_device() => "a character device",
        kind if kind.is_socket() => "a socket",
        // Something that this system has and this program does not know.
        _ => "a special file",
    };
    let path = path.to_owned();
    Err(OpenError::Kind { path, kind })
}
