//! Locks that keep a check away from an image that qemu has open, and qemu away from an image
//! under repair.
//!
//! qemu locks single bytes of the image (observed on 10.0): 100 + i says "I use permission i" and
//! 200 + i says "nobody else may". All are shared locks, so that any number of processes can
//! *say* something, and each tests whether an exclusive lock would be refused to learn what others
//! said. They are released, and not only closed with the file, which a process that another thread
//! starts has open too until it runs its own program.

use std::fs::File;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::error::OpenError;

/// What an image is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading: refused while another process writes, and keeps writers away while it is open.
    Read,
    /// Reading whatever is there, as `qemu-img check -U` does: what a running writer has half done
    /// shows as errors.
    ReadUnlocked,
    /// Reading and writing, alone: refused while any other process uses the image.
    Write,
}

const USED: u8 = 100;
const UNSHARED: u8 = 200;

const CONSISTENT_READ: u8 = 0;
const WRITE: u8 = 1;
const RESIZE: u8 = 3;

/// Announces the use, then looks whether somebody had announced the contrary. In this order two
/// processes that start at once may both be refused, but never both pass.
pub(super) fn acquire(file: &File, path: &Path, access: Access) -> Result<(), OpenError> {
    let (used, unshared): (&[u8], &[u8]) = match access {
        Access::Read => (&[CONSISTENT_READ], &[WRITE, RESIZE]),
        Access::ReadUnlocked => (&[CONSISTENT_READ], &[]),
        Access::Write => (&[CONSISTENT_READ, WRITE, RESIZE], &[WRITE, RESIZE]),
    };
    let held = |by_writer, byte| OpenError::Locked {
        path: path.to_owned(),
        by_writer,
        byte,
        can_share: access != Access::Write,
    };
    let failed = |errno: Errno| OpenError::Lock {
        path: path.to_owned(),
        source: errno.into(),
    };
    let announced = used.iter().map(|p| USED + p);
    for byte in announced.chain(unshared.iter().map(|p| UNSHARED + p)) {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&lock(byte, libc::F_RDLCK))) {
            Ok(_) => {}
            Err(errno) if is_unsupported(errno) => return Ok(()),
            Err(Errno::EAGAIN | Errno::EACCES) => return Err(held(true, byte)),
            Err(errno) => return Err(failed(errno)),
        }
    }
    let refused = used.iter().map(|p| UNSHARED + p);
    for byte in refused.chain(unshared.iter().map(|p| USED + p)) {
        if is_held(file, byte).map_err(failed)? {
            // Only writers announce the write permission.
            let by_writer = is_held(file, USED + WRITE).map_err(failed)?;
            return Err(held(by_writer, byte));
        }
    }
    Ok(())
}

/// Gives up all of them; the file is closed next, which is the other way in which they end.
pub(super) fn release(file: &File) {
    let mut all = lock(USED, libc::F_UNLCK);
    all.l_len = libc::off_t::from(UNSHARED + RESIZE - USED) + 1;
    let _ = fcntl(file, FcntlArg::F_OFD_SETLK(&all));
}

/// Whether another open file description has a lock on the byte; our own never count.
fn is_held(file: &File, byte: u8) -> Result<bool, Errno> {
    let mut probe = lock(byte, libc::F_WRLCK);
    match fcntl(file, FcntlArg::F_OFD_GETLK(&mut probe)) {
        Ok(_) => Ok(i32::from(probe.l_type) != libc::F_UNLCK),
        Err(errno) if is_unsupported(errno) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn lock(byte: u8, kind: i32) -> libc::flock {
    // Field types differ between platforms; the values are tiny constants on all of them.
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: libc::off_t::from(byte),
        l_len: 1,
        // Required to be 0 for locks of open file descriptions.
        l_pid: 0,
    }
}

/// Some network filesystems have no such locks; qemu does without them there too.
fn is_unsupported(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::ENOLCK
    )
}
