//! A file, or memory, as storage: reads past the end are zeros, offsets that no file has are
//! refused, opening to read changes nothing, and what is no image is never opened. Done on temporary
//! files and, where the tests run as root, on a loop device.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use recount::Offset;
use recount::storage::{Access, FileStorage, MemoryStorage, OpenError, Operation, Storage};
use recount_needs::needs;

/// A temporary directory with a file of 1,000 bytes that count up.
fn file() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    fs::write(&path, content()).unwrap();
    (directory, path)
}

fn content() -> Vec<u8> {
    (0..1000u32).map(|i| i.to_le_bytes()[0]).collect()
}

fn read_only(path: &Path) -> FileStorage {
    FileStorage::open(path, Access::Read).unwrap()
}

#[test]
fn reading_past_the_end_gives_zeros() {
    let (_directory, path) = file();
    let storage = read_only(&path);
    assert_eq!(storage.len(), 1000);
    for (offset, present) in [
        (0, 1000),
        (990, 10),
        (1000, 0),
        (5000, 0),
        (i64::MAX as u64 - 3, 0),
        (u64::MAX - 3, 0),
    ] {
        let mut buffer = vec![0xee; 1100];
        storage.read_at(Offset(offset), &mut buffer).unwrap();
        let mut expected: Vec<u8> = content().split_off(offset.min(1000) as usize);
        assert_eq!(expected.len(), present);
        expected.resize(1100, 0);
        assert_eq!(buffer, expected, "at {offset}");
    }
}

#[test]
fn writing_past_the_end_grows_the_file_and_fills_the_gap_with_zeros() {
    let (_directory, path) = file();
    let mut storage = FileStorage::open(&path, Access::Write).unwrap();
    storage.write_at(Offset(1010), &[7; 5]).unwrap();
    storage.flush().unwrap();
    assert_eq!(storage.len(), 1015);
    assert_eq!(storage.capacity(), None);
    let mut expected = content();
    expected.resize(1010, 0);
    expected.extend([7; 5]);
    assert_eq!(fs::read(&path).unwrap(), expected);
}

#[test]
fn offsets_that_no_file_has_are_refused_and_nothing_is_written() {
    let (_directory, path) = file();
    let mut storage = FileStorage::open(&path, Access::Write).unwrap();
    for offset in [i64::MAX as u64, u64::MAX - 1, u64::MAX] {
        let error = storage.write_at(Offset(offset), &[1, 2]).unwrap_err();
        assert_eq!(error.operation, Operation::Write);
        assert_eq!(error.offset, Offset(offset));
        assert_eq!(error.length, 2);
        assert_eq!(error.source.kind(), ErrorKind::FileTooLarge);
    }
    let error = storage.set_len(u64::MAX).unwrap_err();
    assert_eq!(error.operation, Operation::SetLen);
    drop(storage);
    assert_eq!(fs::read(&path).unwrap(), content());
}

#[test]
fn a_write_that_memory_of_a_fixed_size_cannot_hold_names_its_own_bytes() {
    let mut storage = MemoryStorage::fixed(vec![1; 8]);
    let error = storage.write_at(Offset(6), &[2; 4]).expect_err("no room");
    assert_eq!((error.offset, error.length), (Offset(6), 4));
    assert_eq!(error.source.kind(), ErrorKind::StorageFull);
    assert_eq!(storage.bytes(), [1; 8]);
}

#[test]
fn set_len_grows_with_zeros_and_truncates() {
    let (_directory, path) = file();
    let mut storage = FileStorage::open(&path, Access::Write).unwrap();
    storage.set_len(1200).unwrap();
    storage.set_len(1100).unwrap();
    assert_eq!(storage.len(), 1100);
    let mut expected = content();
    expected.resize(1100, 0);
    assert_eq!(fs::read(&path).unwrap(), expected);
}

#[test]
fn discarding_gives_space_back_and_keeps_the_length() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    fs::write(&path, vec![0xaa; 1 << 20]).unwrap();
    let mut storage = FileStorage::open(&path, Access::Write).unwrap();
    storage.flush().unwrap();
    let before = fs::metadata(&path).unwrap().blocks();
    storage.discard(Offset(1 << 18), 1 << 18).unwrap();
    // Reaching past the end, and beyond it altogether, is no error.
    storage.discard(Offset((1 << 20) - 4096), u64::MAX).unwrap();
    storage.discard(Offset(1 << 30), 4096).unwrap();
    storage.discard(Offset(0), 0).unwrap();
    storage.flush().unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!(after.len(), 1 << 20);
    let bytes = fs::read(&path).unwrap();
    assert!(bytes[..1 << 18].iter().all(|&byte| byte == 0xaa));
    assert!(
        bytes[1 << 19..(1 << 20) - 4096]
            .iter()
            .all(|&byte| byte == 0xaa)
    );
    // A filesystem without holes ignores the request; one with them reads zeros and is smaller.
    let punched = bytes[1 << 18..1 << 19].iter().all(|&byte| byte == 0);
    assert_eq!(punched, after.blocks() < before);
}

#[test]
fn reading_leaves_every_timestamp_alone() {
    let (_directory, path) = file();
    // An access time older than the modification time is what a read would normally renew.
    let status = Command::new("touch")
        .args(["-a", "-d", "2001-02-03 04:05:06"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success());
    let before = fs::metadata(&path).unwrap();
    let storage = read_only(&path);
    let mut buffer = vec![0; 1000];
    storage.read_at(Offset(0), &mut buffer).unwrap();
    drop(storage);
    assert_eq!(buffer, content());
    let after = fs::metadata(&path).unwrap();
    assert_eq!(before.mtime(), after.mtime());
    assert_eq!(before.mtime_nsec(), after.mtime_nsec());
    assert_eq!(before.ctime_nsec(), after.ctime_nsec());
    assert_eq!(before.atime(), after.atime());
}

#[test]
fn a_file_without_write_permission_can_be_read_and_a_write_to_it_is_an_error() {
    let (_directory, path) = file();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    let mut storage = read_only(&path);
    assert_eq!(storage.len(), 1000);
    let error = storage.write_at(Offset(0), &[1]).unwrap_err();
    assert_eq!(error.operation, Operation::Write);
    drop(storage);
    assert_eq!(fs::read(&path).unwrap(), content());
}

#[test]
fn what_is_no_image_is_refused_by_name_without_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let socket = directory.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for (path, expected) in [
        (directory.path(), "a directory"),
        (&fifo, "a named pipe"),
        (&socket, "a socket"),
        (Path::new("/dev/null"), "a character device"),
    ] {
        for result in [
            FileStorage::open(path, Access::Read),
            FileStorage::open(path, Access::Write),
        ] {
            match result.unwrap_err() {
                OpenError::Kind { kind, path: named } => {
                    assert_eq!(kind, expected);
                    assert_eq!(named, path);
                }
                other => panic!("{}: {other}", path.display()),
            }
        }
    }
}

#[test]
fn a_missing_file_is_named_in_the_error() {
    let path = Path::new("no such\tdirectory/no such file");
    let error = FileStorage::open(path, Access::Read).unwrap_err();
    let OpenError::Open { source, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(source.kind(), ErrorKind::NotFound);
    let text = error.to_string();
    assert!(text.contains("no such file"), "{text}");
    assert!(text.ends_with("No such file or directory"), "{text}");
}

/// A loop device over a file of 1 MiB.
struct LoopDevice {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl LoopDevice {
    fn attach() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let backing = directory.path().join("device");
        fs::write(&backing, vec![0; 1 << 20]).unwrap();
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(&backing)
            .output()
            .expect("losetup");
        assert!(output.status.success(), "{output:?}");
        let path = String::from_utf8(output.stdout).expect("a path");
        Self {
            path: path.trim().into(),
            _directory: directory,
        }
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

#[needs(loop)]
#[test]
fn a_block_device_has_a_length_and_never_grows() {
    let device = LoopDevice::attach();
    let mut storage = FileStorage::open(&device.path, Access::Write).unwrap();
    assert_eq!(storage.len(), 1 << 20);
    assert_eq!(storage.capacity(), Some(1 << 20));
    storage
        .write_at(Offset((1 << 20) - 4), &[1, 2, 3, 4])
        .unwrap();
    let error = storage
        .write_at(Offset((1 << 20) - 4), &[9; 8])
        .unwrap_err();
    assert_eq!(error.source.kind(), ErrorKind::StorageFull);
    let error = storage.set_len(2 << 20).unwrap_err();
    assert_eq!(error.source.kind(), ErrorKind::StorageFull);
    let error = storage.set_len(1 << 19).unwrap_err();
    assert_eq!(error.source.kind(), ErrorKind::Unsupported);
    storage.discard(Offset(0), 1 << 16).unwrap();
    storage.flush().unwrap();
    let mut tail = [0; 8];
    storage.read_at(Offset((1 << 20) - 4), &mut tail).unwrap();
    assert_eq!(tail, [1, 2, 3, 4, 0, 0, 0, 0]);
}

#[test]
fn an_open_file_is_an_image_as_one_that_is_opened_by_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    fs::write(&path, b"image").unwrap();
    let opened = || fs::OpenOptions::new().read(true).write(true).open(&path);
    let name = Path::new("descriptor 3");
    let mut storage = FileStorage::from_file(opened().unwrap(), name, Access::Write).unwrap();
    storage.write_at(Offset(5), b"!").unwrap();
    let refused = FileStorage::from_file(opened().unwrap(), name, Access::Read).unwrap_err();
    assert!(
        refused.to_string().starts_with("'descriptor 3' is in use"),
        "{refused}"
    );
    drop(storage);
    let storage = FileStorage::from_file(opened().unwrap(), name, Access::Read).unwrap();
    let mut bytes = [0; 6];
    storage.read_at(Offset(0), &mut bytes).unwrap();
    assert_eq!((&bytes, storage.len()), (b"image!", 6));
    let folder = fs::File::open(directory.path()).unwrap();
    let refused = FileStorage::from_file(folder, name, Access::Read).unwrap_err();
    assert!(refused.to_string().contains("is a directory"), "{refused}");
}
