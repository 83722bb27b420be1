//! An image that somebody else has open.

use recount::storage::{Access, FileStorage};

use crate::image::Image;
use crate::run::recount;

#[test]
fn an_image_that_is_written_is_refused_and_checked_with_force_share() {
    let (_directory, path) = Image::clean().write();
    let writer = FileStorage::open(&path, Access::Write).expect("nobody else has it");
    for options in [&[][..], &["-r", "all"], &["--plan"]] {
        let run = recount(options, &path);
        assert_eq!(run.code, Some(1), "{run:?}");
        assert_eq!(run.stdout, "");
        assert!(run.stderr.contains("in use"), "{run:?}");
        assert!(run.stderr.contains("for writing"), "{run:?}");
    }
    let shared = recount(&["-U"], &path);
    assert_eq!(shared.code, Some(0), "{shared:?}");
    drop(writer);
}

#[test]
fn an_image_that_is_read_can_be_checked_and_planned_for_but_not_repaired() {
    let (_directory, path) = Image::clean().write();
    let _reader = FileStorage::open(&path, Access::Read).expect("opened");
    assert_eq!(recount(&[], &path).code, Some(0));
    assert_eq!(recount(&["--plan"], &path).code, Some(0));
    let run = recount(&["-r", "leaks"], &path);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("for reading"), "{run:?}");
    assert!(!run.stderr.contains("-U"), "a repair cannot share: {run:?}");
}
