//! What keeps a block device, or the file system of a file, from being written.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::libc;
use nix::sys::stat::{major, minor};

use super::error::OpenError;

/// Whether the system has the device as read-only. Some versions of Linux let it be opened for
/// writing all the same, and fail at the first write.
pub(super) fn is_read_only(metadata: &Metadata) -> bool {
    let number = metadata.rdev();
    let says = format!("/sys/dev/block/{}:{}/ro", major(number), minor(number));
    std::fs::read(says).is_ok_and(|flag| flag.starts_with(b"1"))
}

/// The error about a device that is read-only.
pub(super) fn read_only(path: &Path) -> OpenError {
    let path = path.to_owned();
    OpenError::ReadOnlyDevice { path }
}

/// What an error on opening means.
pub(super) fn explain(path: &Path, is_device: bool, source: io::Error) -> OpenError {
    match (source.raw_os_error(), is_device) {
        (Some(libc::EBUSY), true) => {
            let path = path.to_owned();
            OpenError::Busy { path }
        }
        (Some(libc::EROFS), true) => read_only(path),
        (Some(libc::EROFS), false) => {
            let path = path.to_owned();
            OpenError::ReadOnlyFileSystem { path }
        }
        _ => {
            let path = path.to_owned();
            OpenError::Open { path, source }
        }
    }
}
