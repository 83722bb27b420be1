//! The locks are qemu's own: two of our storages and real qemu processes keep each other away
//! from an image in the same way, in both directions; and so do two storages of ours, without
//! qemu.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use recount::storage::{Access, FileStorage, OpenError};
use recount_needs::needs;

fn image() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image.qcow2");
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(&path)
        .arg("1M")
        .status();
    if !made.is_ok_and(|status| status.success()) {
        std::fs::write(&path, [0; 4096]).unwrap();
    }
    (directory, path)
}

const WRITER: bool = true;
const READER: bool = false;

/// Who has the image open, and whether it can be shared.
fn holder(result: Result<FileStorage, OpenError>) -> (bool, bool) {
    match result.unwrap_err() {
        OpenError::Locked {
            by_writer,
            can_share,
            ..
        } => (by_writer, can_share),
        other => panic!("{other}"),
    }
}

fn read_only(path: &Path) -> Result<FileStorage, OpenError> {
    FileStorage::open(path, Access::Read)
}

#[test]
fn readers_share() {
    let (_held, path) = image();
    let first = read_only(&path).unwrap();
    let second = read_only(&path).unwrap();
    assert_eq!(
        recount::Storage::len(&first),
        recount::Storage::len(&second)
    );
}

#[test]
fn a_writer_keeps_readers_and_writers_away_until_it_is_dropped() {
    let (_held, path) = image();
    let writer = FileStorage::open(&path, Access::Write).unwrap();
    assert_eq!(holder(read_only(&path)), (WRITER, true));
    let second = FileStorage::open(&path, Access::Write);
    assert_eq!(holder(second), (WRITER, false));
    FileStorage::open(&path, Access::ReadUnlocked).unwrap();
    drop(writer);
    read_only(&path).unwrap();
}

#[test]
fn a_reader_keeps_writers_away_unless_it_ignores_locks() {
    let (_held, path) = image();
    let reader = read_only(&path).unwrap();
    let writer = FileStorage::open(&path, Access::Write);
    assert_eq!(holder(writer), (READER, false));
    drop(reader);
    let _careless = FileStorage::open(&path, Access::ReadUnlocked).unwrap();
    FileStorage::open(&path, Access::Write).unwrap();
}

/// A process that a thread starts has every open file of this one for the instant between its fork
/// and its exec, and with the file its locks.
#[test]
fn locks_end_when_the_storage_is_dropped_though_other_threads_start_processes() {
    let (_held, path) = image();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    Command::new("true").status().unwrap();
                }
            });
        }
        let opened = (0..4000).map(|_| FileStorage::open(&path, Access::Write).map(drop));
        let refused = opened.filter(Result::is_err).count();
        done.store(true, Ordering::Relaxed);
        assert_eq!(refused, 0);
    });
}

/// A `qemu-io` that has the image open; ends when dropped.
struct QemuIo(Child);

impl QemuIo {
    fn open(path: &Path, read_only: bool) -> Self {
        let mut child = Command::new("qemu-io")
            .args(["-f", "qcow2"])
            .args(read_only.then_some("-r"))
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("qemu-io");
        // An answer to a command means that the image is open.
        writeln!(child.stdin.as_mut().unwrap(), "length").unwrap();
        let mut answer = String::new();
        let mut output = BufReader::new(child.stdout.as_mut().unwrap());
        output.read_line(&mut answer).unwrap();
        assert!(answer.contains("1 MiB"), "{answer}");
        Self(child)
    }
}

impl Drop for QemuIo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[needs(qemu)]
#[test]
fn an_image_that_qemu_writes_is_refused_and_can_be_read_without_locks() {
    let (_held, path) = image();
    let qemu = QemuIo::open(&path, false);
    assert_eq!(holder(read_only(&path)), (WRITER, true));
    let writer = FileStorage::open(&path, Access::Write);
    assert_eq!(holder(writer), (WRITER, false));
    FileStorage::open(&path, Access::ReadUnlocked).unwrap();
    drop(qemu);
    FileStorage::open(&path, Access::Write).unwrap();
}

#[needs(qemu)]
#[test]
fn an_image_that_qemu_reads_can_be_checked_but_not_repaired() {
    let (_held, path) = image();
    let _qemu = QemuIo::open(&path, true);
    read_only(&path).unwrap();
    let writer = FileStorage::open(&path, Access::Write);
    assert_eq!(holder(writer), (READER, false));
}

/// How `qemu-img check`, with options, ends on the image: its exit code and messages.
fn qemu_check(path: &Path, options: &[&str]) -> (Option<i32>, String) {
    let output = Command::new("qemu-img")
        .args(["check", "-f", "qcow2"])
        .args(options)
        .arg(path)
        .output()
        .expect("qemu-img");
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), messages)
}

#[needs(qemu)]
#[test]
fn qemu_refuses_an_image_under_repair_and_reads_it_with_force_share() {
    let (_held, path) = image();
    let writer = FileStorage::open(&path, Access::Write).unwrap();
    let (code, messages) = qemu_check(&path, &[]);
    assert_eq!(code, Some(1));
    assert!(messages.contains("lock"), "{messages}");
    assert_eq!(qemu_check(&path, &["-r", "all"]).0, Some(1));
    assert_eq!(qemu_check(&path, &["-U"]).0, Some(0));
    drop(writer);
    assert_eq!(qemu_check(&path, &["-r", "all"]).0, Some(0));
}

#[needs(qemu)]
#[test]
fn qemu_may_check_but_not_repair_an_image_that_is_being_checked() {
    let (_held, path) = image();
    let _reader = read_only(&path).unwrap();
    let (code, messages) = qemu_check(&path, &[]);
    assert_eq!(code, Some(0), "{messages}");
    let (code, messages) = qemu_check(&path, &["-r", "all"]);
    assert_eq!(code, Some(1));
    assert!(messages.contains("lock"), "{messages}");
}
