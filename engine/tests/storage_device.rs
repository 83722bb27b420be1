//! A block device that is not to be written: one that the system uses, and one that is read-only.
//! On loop devices, which only root attaches. Where there are none, what is left to show is that a
//! regular file is not refused for what refuses a device.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use nix::libc;
use recount::Storage as _;
use recount::storage::{Access, FileStorage, OpenError};

/// One test at a time: a process that another test starts has every open file of this one for the
/// instant between its fork and its exec.
static ALONE: Mutex<()> = Mutex::new(());

/// A loop device over a file of 1 MiB.
struct LoopDevice {
    path: PathBuf,
}

impl LoopDevice {
    /// `None` where the system has none to give.
    fn attach(file: &Path, options: &[&str]) -> Option<Self> {
        fs::write(file, vec![0; 1 << 20]).unwrap();
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .args(options)
            .arg(file)
            .output()
            .ok()?;
        let path = String::from_utf8(output.stdout).ok()?.trim().into();
        output.status.success().then_some(Self { path })
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup")
            .arg("--detach")
            .arg(&self.path)
            .status();
    }
}

#[test]
fn a_device_that_the_system_uses_can_be_checked_and_not_repaired() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let device = LoopDevice::attach(&file, &[]);
    let path = device.as_ref().map_or(&file, |device| &device.path);
    // As a mount does it.
    let holder = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL)
        .open(path)
        .unwrap();
    FileStorage::open(path, Access::Read).unwrap();
    let result = FileStorage::open(path, Access::Write);
    if device.is_some() {
        let error = result.unwrap_err();
        assert!(matches!(error, OpenError::Busy { .. }), "{error}");
        let text = error.to_string();
        for part in ["in use by the system", "mounted", "swap", "LVM", "RAID"] {
            assert!(text.contains(part), "{text}");
        }
    } else {
        result.unwrap();
    }
    drop(holder);
    FileStorage::open(path, Access::Write).unwrap();
}

#[test]
fn a_device_under_repair_is_kept_from_the_system() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let device = LoopDevice::attach(&file, &[]);
    let path = device.as_ref().map_or(&file, |device| &device.path);
    let storage = FileStorage::open(path, Access::Write).unwrap();
    let exclusive = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL)
        .open(path);
    let errno = exclusive.err().and_then(|error| error.raw_os_error());
    assert_eq!(errno, device.as_ref().map(|_| libc::EBUSY));
    assert_eq!(storage.capacity(), device.as_ref().map(|_| 1 << 20));
    assert_eq!(storage.modified().unwrap().is_none(), device.is_some());
}

#[test]
fn a_read_only_device_can_be_checked_and_says_that_it_is_read_only() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let device = LoopDevice::attach(&file, &["--read-only"]);
    let path = device.as_ref().map_or(&file, |device| &device.path);
    FileStorage::open(path, Access::Read).unwrap();
    let Some(_) = device else {
        fs::set_permissions(path, fs::Permissions::from_mode(0o400)).unwrap();
        // Root may write all the same; for everybody else it is the permission that is missing.
        if let Err(error) = FileStorage::open(path, Access::Write) {
            assert!(matches!(error, OpenError::Open { .. }), "{error}");
        }
        return;
    };
    let error = FileStorage::open(path, Access::Write).unwrap_err();
    assert!(matches!(error, OpenError::ReadOnlyDevice { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("is read-only"), "{text}");
}
