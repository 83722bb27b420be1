//! What comes back.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use recount::storage::{Access, FileStorage};
use recount::undo::UndoFile;
use recount::{MemoryStorage, Offset, Storage as _};

use crate::kit::{Case, apply, directory, image, save, undo, writes};

#[test]
fn a_whole_repair_with_overlapping_writes_and_growth_is_undone_bit_for_bit() {
    let case = Case::new();
    let mut storage = case.repaired();
    assert_ne!(storage.bytes(), case.old);
    let file = UndoFile::open(&case.undo).unwrap();
    assert_eq!(file.image(), Path::new("/some/image"));
    let restored = file.restore(&mut storage, None).unwrap();
    assert_eq!(restored.length, (34_700, case.old.len() as u64));
    assert_eq!(storage.bytes(), case.old);
}

#[test]
fn an_image_that_was_never_written_is_left_alone() {
    let case = Case::new();
    let mut storage = MemoryStorage::growing(case.old.clone());
    let file = UndoFile::open(&case.undo).unwrap();
    assert_eq!(file.restore(&mut storage, None).unwrap().bytes_written, 0);
    assert_eq!(storage.bytes(), case.old);
}

#[test]
fn a_device_is_restored_within_its_size() {
    let directory = directory();
    let path = directory.path().join("undo");
    let mut old = image();
    old.resize(40_960, 0xdd);
    let mut storage = MemoryStorage::fixed(old.clone());
    save(&path, &storage, "/dev/some", &writes()).unwrap();
    apply(&writes(), &mut storage).unwrap();
    undo(&path, &mut storage).unwrap();
    assert_eq!(storage.bytes(), old);
}

#[test]
fn an_empty_image_and_a_repair_without_writes_have_undo_files() {
    let directory = directory();
    let path = directory.path().join("empty");
    let mut storage = MemoryStorage::growing(Vec::new());
    save(&path, &storage, "x", &writes()).unwrap();
    apply(&writes(), &mut storage).unwrap();
    undo(&path, &mut storage).unwrap();
    assert_eq!(storage.len(), 0);

    let path = directory.path().join("nothing");
    let mut storage = MemoryStorage::growing(image());
    save(&path, &storage, "x", &[]).unwrap();
    undo(&path, &mut storage).unwrap();
    assert_eq!(storage.bytes(), image());
}

#[test]
fn more_writes_than_are_followed_at_once_are_undone() {
    let directory = directory();
    let path = directory.path().join("undo");
    // 40 MiB in two phases, back to front, the second within sectors.
    let mut old: Vec<u8> = (0..20 << 20).map(|index: u32| (index >> 9) as u8).collect();
    old.extend_from_slice(&[0x55; 99]);
    let whole = (0..40)
        .rev()
        .map(|index| (index << 20, vec![0xab; 1 << 20]));
    let parts = (0..40)
        .rev()
        .map(|index| ((index << 20) + 700, vec![0xcd; 70_000]));
    let writes: Vec<_> = whole
        .chain(parts)
        .map(|(offset, bytes)| (Offset(offset), bytes))
        .collect();
    let mut storage = MemoryStorage::growing(old.clone());
    save(&path, &storage, "x", &writes).unwrap();
    apply(&writes, &mut storage).unwrap();
    undo(&path, &mut storage).unwrap();
    assert!(storage.bytes() == old);
}

#[test]
fn a_file_is_restored_and_the_undo_file_is_for_its_owner_alone() {
    let directory = directory();
    let (path, undo) = (
        directory.path().join("image"),
        directory.path().join("undo"),
    );
    fs::write(&path, image()).unwrap();
    let mut storage = FileStorage::open(&path, Access::Write).unwrap();
    let file = save(&undo, &storage, "x", &writes()).unwrap();
    let mode = fs::metadata(&undo).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    apply(&writes(), &mut storage).unwrap();
    file.seal(storage.modified().unwrap().unwrap()).unwrap();
    drop(storage);

    let mut storage = FileStorage::open(&path, Access::Write).unwrap();
    let modified = storage.modified().unwrap();
    let file = UndoFile::open(&undo).unwrap();
    file.restore(&mut storage, modified).unwrap();
    drop(storage);
    assert!(fs::read(&path).unwrap() == image());
}

#[test]
fn a_sealed_undo_file_whose_restoration_was_interrupted_ignores_the_time() {
    let case = Case::new();
    let file = UndoFile::open(&case.undo).unwrap();
    let time = SystemTime::UNIX_EPOCH - Duration::from_nanos(1);
    file.seal(time).unwrap();
    let mut failing = crate::kit::Failing {
        inner: case.repaired(),
        left: 2,
        torn_at: 0,
    };
    file.restore(&mut failing, Some(time)).unwrap_err();
    let file = UndoFile::open(&case.undo).unwrap();
    let mut storage = failing.inner;
    file.restore(&mut storage, Some(SystemTime::now())).unwrap();
    assert_eq!(storage.bytes(), case.old);
}
