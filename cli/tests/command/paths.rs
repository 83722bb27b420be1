//! What the path can be, and wrong options.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use recount_needs::needs;

use crate::image::Image;
use crate::run::{Run, Untouched, command, qemu_img, recount};

#[test]
fn paths_of_any_bytes_are_opened_and_printed_as_text() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for name in [
        b"with space".to_vec(),
        b"new\nline".to_vec(),
        b"quote\"and\\backslash'".to_vec(),
        "caf\u{e9}\u{1f980}".as_bytes().to_vec(),
        b"not utf-8 \xff\xfe".to_vec(),
        b"\x1b[31mred".to_vec(),
    ] {
        let path = directory.path().join(OsString::from_vec(name));
        fs::write(&path, Image::clean().bytes).expect("written");
        let run = recount(&["--output=json"], &path);
        assert_eq!(run.code, Some(0), "{run:?}");
        let json: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
        assert_eq!(json["filename"], *path.to_string_lossy());
        fs::remove_file(&path).expect("removed");
        let run = recount(&[], &path);
        assert_eq!(run.code, Some(1));
        let controls = run.stderr.trim_end().chars().filter(|c| c.is_control());
        assert_eq!(controls.count(), 0, "{run:?}");
    }
}

#[test]
fn a_path_that_begins_with_a_dash_comes_after_two() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("-r"), Image::clean().bytes).expect("written");
    let status = Command::new(env!("CARGO_BIN_EXE_recount"))
        .args(["check", "-q", "--", "-r"])
        .current_dir(directory.path())
        .status()
        .expect("the program starts");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_symbolic_link_leads_to_the_image() {
    let (directory, path) = Image::clean().write();
    let link = directory.path().join("link");
    symlink(&path, &link).expect("linked");
    assert_eq!(recount(&[], &link).code, Some(0));
    let loop_ = directory.path().join("loop");
    symlink(&loop_, &loop_).expect("linked");
    assert_eq!(recount(&[], &loop_).code, Some(1));
}

#[test]
fn what_cannot_be_opened_is_named_with_the_reason() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let missing = directory.path().join("missing");
    for (path, reason) in [
        (missing.as_os_str(), "No such file or directory"),
        (directory.path().as_os_str(), "is a directory"),
        (OsStr::new("/dev/null"), "is a character device"),
    ] {
        for options in [&[][..], &["-r", "all"], &["-f", "qcow2"]] {
            let run = recount(options, path);
            assert_eq!(run.code, Some(1), "{run:?}");
            assert_eq!(run.stdout, "");
            assert!(run.stderr.contains(reason), "{run:?}");
            assert!(run.stderr.contains(&*path.to_string_lossy()), "{run:?}");
        }
    }
}

#[test]
fn a_file_that_may_not_be_written_can_be_checked() {
    let (_directory, path) = Image::clean().write();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).expect("changed");
    let before = Untouched::of(&path);
    let run = recount(&[], &path);
    assert_eq!(run.code, Some(0), "{run:?}");
    before.assert_still(&path, "a check");
}

#[test]
fn wrong_options_exit_1_as_qemu_img_does() {
    let (_directory, path) = Image::clean().write();
    let before = Untouched::of(&path);
    for options in [
        &["-r", "everything"][..],
        &["--output=xml"],
        &["--no-such-option"],
        &["-U", "-r", "all"],
        &["-f", "nosuch"],
        &["another-file"],
    ] {
        let run = recount(options, &path);
        assert_eq!(run.code, Some(1), "{options:?}: {run:?}");
        assert_eq!(run.stdout, "", "{options:?}");
        assert!(!run.stderr.is_empty(), "{options:?}");
        if let Some(theirs) = qemu_img(options, &path) {
            assert_eq!(theirs.code, Some(1), "{options:?}: {theirs:?}");
        }
    }
    before.assert_still(&path, "wrong options");
    let run = recount(&["-f", "raw"], &path);
    assert_eq!(run.code, Some(63), "{run:?}");
}

#[test]
fn help_goes_to_standard_output_and_explains_exit_codes_and_keeping() {
    let run = recount(&["--help"], "x");
    assert_eq!(run.code, Some(0));
    for part in ["Exit codes", "Examples", "What is kept", "-r leaks", "63"] {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }
    assert!(run.stdout.lines().all(|line| line.chars().count() <= 100));
}

#[needs(qemu)]
#[test]
fn names_of_images_are_those_of_qemu_img() {
    let (_directory, path) = Image::clean().write();
    let path = path.to_str().expect("text");
    let names = [
        vec![format!("file:{path}")],
        vec![format!(
            r#"json:{{"driver":"qcow2","file":{{"driver":"file","filename":"{path}"}}}}"#
        )],
        vec![format!(r#"json:{{"file.filename":"{path}"}}"#)],
        vec![
            "--image-opts".to_owned(),
            format!("driver=qcow2,file.filename={path}"),
        ],
    ];
    for name in names {
        let words = ["check".to_owned(), "--output=json".to_owned()];
        let words: Vec<String> = words.into_iter().chain(name).collect();
        let ours = command(words.iter().map(OsStr::new));
        let theirs = Command::new("qemu-img").args(&words).output();
        let theirs = Run::from(theirs.expect("qemu-img"));
        assert_eq!(
            (ours.code, ours.as_of_qemu_img()),
            (theirs.code, theirs.stdout)
        );
    }
    let elsewhere = recount(&[], "nbd://localhost/disk");
    assert_eq!(elsewhere.code, Some(1));
    assert!(
        elsewhere
            .stderr
            .ends_with("(drivers qcow2, file and host_device), not nbd\n")
    );
}
