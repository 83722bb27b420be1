//! `recount undo`: an image in a file comes back, and every refusal says why and exits with 1.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;

use recount::storage::{Access, FileStorage};
use recount::undo::{OnWrite, UndoFile, save};
use recount::{MemoryStorage, Offset, Storage as _};

use crate::image::Image;
use crate::run::{Run, Untouched, command, recount};

fn undo<const N: usize>(words: [&dyn AsRef<OsStr>; N]) -> Run {
    let words = words.iter().map(AsRef::as_ref);
    command([OsStr::new("undo")].into_iter().chain(words))
}

/// An image, what it was, and the undo file of writes that have been made to it; the image's time
/// of modification is in the undo file.
struct Repaired {
    image: PathBuf,
    old: Vec<u8>,
    undo: PathBuf,
    directory: tempfile::TempDir,
}

impl Repaired {
    fn new() -> Self {
        let (directory, image) = Image::clean().write();
        let undo = directory.path().join("undo");
        let old = fs::read(&image).expect("the image");
        let end = old.len() as u64;
        let writes = [(Offset(1000), vec![1; 600]), (Offset(end), vec![2; 1024])];
        // In memory: the locks of an open file are inherited by what other tests start meanwhile.
        let mut storage = MemoryStorage::growing(old.clone());
        let each = |write: &mut OnWrite<'_>| {
            let mut writes = writes.iter();
            writes.try_for_each(|(offset, bytes)| write(*offset, bytes))
        };
        let file = save(&undo, &storage, &image, &each).expect("saved");
        for (offset, bytes) in &writes {
            storage.write_at(*offset, bytes).expect("written");
        }
        fs::write(&image, storage.bytes()).expect("written");
        let modified = fs::metadata(&image).and_then(|metadata| metadata.modified());
        file.seal(modified.expect("a time")).expect("sealed");
        Self {
            image,
            old,
            undo,
            directory,
        }
    }

    /// Undoing fails, and says each of `parts`; nothing is written.
    fn assert_refused(&self, run: impl Fn() -> Run, parts: &[&str]) {
        let before = Untouched::of(&self.image);
        let run = run();
        before.assert_still(&self.image, parts[0]);
        assert_eq!(run.code, Some(1), "{run:?}");
        assert_eq!(run.stdout, "");
        for part in parts.iter().chain(&["recount: "]) {
            assert!(run.stderr.contains(part), "{part}: {run:?}");
        }
    }
}

#[test]
fn the_image_comes_back_from_where_it_was_once() {
    let case = Repaired::new();
    let run = undo([&case.undo]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(run.stderr, "");
    for part in ["as it was before the repair", "'"] {
        assert!(run.stdout.contains(part), "{run:?}");
    }
    assert!(fs::read(&case.image).expect("the image") == case.old);
    let parts = ["put back already", "nothing was written"];
    case.assert_refused(|| undo([&case.undo]), &parts);
}

#[test]
fn an_image_that_was_moved_is_given_by_its_path() {
    let case = Repaired::new();
    let moved = case.directory.path().join("moved");
    fs::rename(&case.image, &moved).expect("moved");
    let run = undo([&case.undo]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("give its path"), "{run:?}");
    let run = undo([&case.undo, &moved]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(fs::read(&moved).expect("the image") == case.old);
}

#[test]
fn an_image_that_was_written_to_since_is_refused() {
    let case = Repaired::new();
    let bytes = fs::read(&case.image).expect("the image");
    fs::write(&case.image, &bytes).expect("written");
    let parts = ["modified after the repair", "nothing was written"];
    case.assert_refused(|| undo([&case.undo]), &parts);
    let mut other = bytes;
    other[0] ^= 1;
    fs::write(&case.image, &other).expect("written");
    let parts = ["offset 0x0", "another image", "nothing was written"];
    case.assert_refused(|| undo([&case.undo]), &parts);
}

#[test]
fn an_image_in_use_is_refused() {
    let case = Repaired::new();
    let writer = FileStorage::open(&case.image, Access::Write).expect("opened");
    case.assert_refused(|| undo([&case.undo]), &["in use"]);
    drop(writer);
    UndoFile::open(&case.undo).expect("as it was");
}

#[test]
fn what_is_no_undo_file_is_refused() {
    let case = Repaired::new();
    let parts = ["is not an undo file", "nothing was written"];
    case.assert_refused(|| undo([&case.image, &case.image]), &parts);
    case.assert_refused(|| undo([&"/dev/null", &case.image]), &parts);
    let missing = [&"missing" as &dyn AsRef<OsStr>, &case.image];
    case.assert_refused(|| undo(missing), &["could not open", "No such file"]);
    let bytes = fs::read(&case.undo).expect("the undo file");
    fs::write(&case.undo, &bytes[..bytes.len() - 1]).expect("written");
    case.assert_refused(|| undo([&case.undo]), &["cut short", "whole copy"]);
}

#[test]
fn help_explains_what_is_undone_and_wrong_options_exit_1() {
    let run = undo([&"--help"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    for part in ["UNDO-FILE", "[IMAGE]", "Exit codes", "Examples"] {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }
    assert!(run.stdout.lines().all(|line| line.chars().count() <= 100));
    for run in [undo([]), undo([&"--nothing"]), undo([&"a", &"b", &"c"])] {
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stderr.contains("Usage"), "{run:?}");
    }
}

#[test]
fn an_undo_file_belongs_to_a_repair() {
    let (directory, path) = Image::clean().write();
    let before = Untouched::of(&path);
    let undo = directory.path().join("undo");
    let undo = undo.to_str().expect("text");
    for (options, why) in [
        (&["--undo", undo][..], "--repair"),
        (&["--undo", undo, "--plan"], "--repair"),
        (&["--undo", undo, "--plan", "-r", "all"], "cannot be used"),
    ] {
        let run = recount(options, &path);
        assert_eq!(run.code, Some(1), "{run:?}");
        assert_eq!(run.stdout, "");
        assert!(run.stderr.contains(why), "{run:?}");
    }
    before.assert_still(&path, "wrong options");
    assert!(!directory.path().join("undo").exists());
}

#[test]
fn an_undo_file_that_is_taken_for_the_image_is_told_apart() {
    let case = Repaired::new();
    let before = Untouched::of(&case.undo);
    for options in [&[][..], &["--plan"], &["-r", "all"], &["-f", "qcow2"]] {
        let run = recount(options, &case.undo);
        assert_eq!(run.code, Some(1), "{options:?}: {run:?}");
        assert_eq!(run.stdout, "");
        for part in ["undo file of recount", "`recount undo FILE`"] {
            assert!(run.stderr.contains(part), "{part}: {run:?}");
        }
    }
    before.assert_still(&case.undo, "an undo file");
}
