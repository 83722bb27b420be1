//! What is refused, and that nothing is written then.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use recount::undo::{UndoError, UndoFile};
use recount::{MemoryStorage, Offset, Storage as _};

use crate::hostile::{BODY, close, records};
use crate::kit::{Case, Failing, directory, image, save, undo, writes};

/// The error of undoing on an image that fails the test when it is changed in any way.
fn refused(path: &Path, image: MemoryStorage) -> UndoError {
    let before = image.clone();
    let mut storage = Failing {
        inner: image,
        left: usize::MAX,
        torn_at: 0,
    };
    let error = undo(path, &mut storage).unwrap_err();
    assert!(storage.left == usize::MAX, "changed in spite of: {error}");
    assert!(storage.inner == before);
    error
}

#[test]
fn every_truncation_is_refused() {
    let case = Case::new();
    let whole = fs::read(&case.undo).unwrap();
    let path = case.copy();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let error = UndoFile::open(&path).unwrap_err();
        assert!(matches!(error, UndoError::Damaged), "{length}: {error}");
    }
    fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
    let error = refused(&path, case.repaired());
    assert!(matches!(error, UndoError::Damaged), "{error}");
}

#[test]
fn every_changed_byte_is_refused() {
    let case = Case::new();
    let whole = fs::read(&case.undo).unwrap();
    let path = case.copy();
    for (at, flip) in (0..whole.len()).flat_map(|at| [(at, 1), (at, 0x80)]) {
        let mut bytes = whole.clone();
        bytes[at] ^= flip;
        fs::write(&path, &bytes).unwrap();
        let error = UndoFile::open(&path).unwrap_err();
        let is_expected = match error {
            UndoError::NotUndo => at < 16,
            UndoError::Damaged => at >= 16,
            _ => false,
        };
        assert!(is_expected, "byte {at}: {error}");
    }
}

#[test]
fn records_whose_checksums_fit_and_that_are_in_another_order_are_refused() {
    let case = Case::new();
    let whole = fs::read(&case.undo).unwrap();
    // Two records change places, and all checksums are made to fit.
    let records = records(&whole);
    let (first, second) = (&records[0], &records[1]);
    let swapped = [
        &whole[..first.start],
        &whole[second.clone()],
        &whole[first.clone()],
        &whole[second.end..],
    ];
    let path = case.copy();
    let mut swapped = swapped.concat();
    close(&mut swapped);
    fs::write(&path, swapped).unwrap();
    let error = refused(&path, case.repaired());
    assert!(matches!(error, UndoError::Damaged), "{error}");
}

#[test]
fn records_of_another_undo_file_are_refused() {
    let (case, other) = (Case::new(), Case::new());
    let mut image = MemoryStorage::growing(case.old.clone());
    image.write_at(Offset(20_000), &[0xee]).unwrap();
    fs::remove_file(&other.undo).unwrap();
    save(&other.undo, &image, "/some/image", &writes()).unwrap();
    let (header, body) = (
        fs::read(&case.undo).unwrap(),
        fs::read(&other.undo).unwrap(),
    );
    assert_eq!(header.len(), body.len());
    let path = case.copy();
    fs::write(&path, [&header[..BODY], &body[BODY..]].concat()).unwrap();
    let error = refused(&path, case.repaired());
    assert!(matches!(error, UndoError::Damaged), "{error}");
}

#[test]
fn another_version_is_refused_by_its_number() {
    let case = Case::new();
    let mut bytes = fs::read(&case.undo).unwrap();
    bytes[23] = 1;
    close(&mut bytes);
    fs::write(&case.undo, bytes).unwrap();
    let error = refused(&case.undo, case.repaired());
    assert!(matches!(error, UndoError::Version(1)), "{error}");
}

#[test]
fn an_undo_file_is_put_back_once() {
    let case = Case::new();
    let mut storage = case.repaired();
    undo(&case.undo, &mut storage).unwrap();
    let error = refused(&case.undo, storage);
    assert!(matches!(error, UndoError::Applied), "{error}");
    // Opened before, and put back by another meanwhile.
    let case = Case::new();
    let file = UndoFile::open(&case.undo).unwrap();
    undo(&case.undo, &mut case.repaired()).unwrap();
    let error = file.restore(&mut case.repaired(), None).unwrap_err();
    assert!(matches!(error, UndoError::Applied), "{error}");
}

#[test]
fn an_existing_file_is_never_written_over() {
    let directory = directory();
    let path = directory.path().join("undo");
    fs::write(&path, "mine").unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(directory.path().join("nowhere"), &link).unwrap();
    for name in [&path, &link] {
        let storage = MemoryStorage::growing(image());
        let error = save(name, &storage, "x", &writes()).unwrap_err();
        assert!(matches!(error, UndoError::Exists), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    assert!(!directory.path().join("nowhere").exists());
}

#[test]
fn saving_that_fails_leaves_no_file() {
    let directory = directory();
    let path = directory.path().join("undo");
    let storage = MemoryStorage::growing(image());
    for offset in [i64::MAX as u64 - 4, u64::MAX - 4, u64::MAX] {
        let mut writes = writes();
        writes.push((Offset(offset), vec![1; 8]));
        let error = save(&path, &storage, "x", &writes).unwrap_err();
        assert!(matches!(error, UndoError::TooMuch(_)), "{error}");
        assert!(!path.exists());
    }
}

#[test]
fn an_image_that_differs_in_any_byte_that_matters_is_refused() {
    let case = Case::new();
    // All sectors of an image this small are looked at.
    for at in (0..case.repaired().bytes().len()).step_by(37) {
        let mut bytes = case.repaired().bytes().to_vec();
        bytes[at] ^= 1;
        let error = refused(&case.undo, MemoryStorage::growing(bytes));
        let UndoError::OtherImage(offset) = error else {
            panic!("byte {at}: {error}");
        };
        assert_eq!(offset.0 as usize, at / 512 * 512);
    }
    let other = MemoryStorage::growing(vec![0; case.old.len()]);
    let error = refused(&case.undo, other);
    assert!(matches!(error, UndoError::OtherImage(_)), "{error}");
}

#[test]
fn an_image_of_another_length_is_refused() {
    let case = Case::new();
    for length in [0, case.old.len() - 1, 34_701, 1 << 20] {
        let mut storage = case.repaired();
        storage.set_len(length as u64).unwrap();
        let error = refused(&case.undo, storage);
        assert!(matches!(error, UndoError::ImageLength(..)), "{error}");
    }
    // A device of the new length cannot be given the old one.
    let storage = MemoryStorage::fixed(case.repaired().bytes().to_vec());
    let error = refused(&case.undo, storage);
    assert!(matches!(error, UndoError::ImageLength(..)), "{error}");
}

#[test]
fn an_image_modified_after_the_repair_is_refused_by_its_time() {
    let case = Case::new();
    let file = UndoFile::open(&case.undo).unwrap();
    let time = SystemTime::now();
    file.seal(time).unwrap();
    let again = file.seal(time).unwrap_err();
    assert!(matches!(again, UndoError::Sealed), "{again}");
    let mut storage = case.repaired();
    let later = time + Duration::from_nanos(1);
    let error = file.restore(&mut storage, Some(later)).unwrap_err();
    assert!(matches!(error, UndoError::ModifiedSince), "{error}");
    assert!(storage == case.repaired());
    let file = UndoFile::open(&case.undo).unwrap();
    file.restore(&mut storage, Some(time)).unwrap();
    assert_eq!(storage.bytes(), case.old);
}

#[test]
fn what_is_no_undo_file_is_refused() {
    let case = Case::new();
    let path = case.copy();
    fs::write(&path, image()).unwrap();
    for path in [&path, path.parent().unwrap(), Path::new("/dev/zero")] {
        let error = refused(path, case.repaired());
        assert!(matches!(error, UndoError::NotUndo), "{error}");
    }
    let error = refused(Path::new("no such file"), case.repaired());
    assert!(matches!(error, UndoError::File(_)), "{error}");
}

#[test]
fn an_undo_file_that_was_not_finished_says_that_the_repair_had_not_begun() {
    let case = Case::new();
    let mut bytes = fs::read(&case.undo).unwrap();
    bytes[24..504].fill(0);
    bytes.truncate(1500);
    close(&mut bytes[..512]);
    fs::write(&case.undo, bytes).unwrap();
    let error = refused(&case.undo, case.repaired());
    assert!(matches!(error, UndoError::Unfinished), "{error}");
}
