//! `recount mend`: what it says of an entry, what it refuses and why, that it writes the one entry and
//! nothing else, and that all data of an image is back whose first L1 entry was lost.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use recount_needs::needs;

use crate::find::find;
use crate::image::{CLUSTER, CLUSTERS, Image, L1, L2, REFBLOCK};
use crate::run::{Run, Untouched, command, qemu_tool, recount};

const COPIED: u64 = 1 << 63;

fn mend(options: &[&str], file: &Path) -> Run {
    let options = options.iter().map(OsStr::new);
    let words = [OsStr::new("mend"), file.as_os_str()].into_iter();
    command(words.chain(options))
}

fn without_l1_entry() -> Image {
    let mut image = Image::clean();
    image.put64(L1, 0);
    image
}

/// What stands in for the entry that was lost.
const SHOWN: &str = "\
L1 entry 0 of the active layer, at 0x600:
    now 0x0, empty, then 0x8000000000000800
    for guest 0 to 16383
    L2 table at 0x800: 4 of 4 clusters are whole, 4 used by nothing else
";

#[test]
fn what_would_be_read_is_shown_and_nothing_is_written() {
    let (_directory, path) = without_l1_entry().write();
    let before = Untouched::of(&path);
    for options in [
        ["--l1", "0=0x800"],
        ["--l1", "0=2048"],
        ["--entry", "1536=0x8000000000000800"],
    ] {
        let run = mend(&options, &path);
        let next = "Nothing was written; --yes --undo NEW-FILE writes it.\n";
        assert_eq!(run.stdout, [SHOWN, next].concat());
        assert_eq!(
            (run.code, run.stderr.as_str()),
            (Some(0), ""),
            "{options:?}"
        );
    }
    before.assert_still(&path, "mend");
}

#[test]
fn the_entry_is_written_alone_and_can_be_taken_back() {
    let lost = without_l1_entry();
    for yes in ["--yes", "-r"] {
        let (directory, path) = lost.write();
        let undo = directory.path().join("undo");
        let name = undo.to_str().expect("text");
        let run = mend(&["--l1", "0=0x800", yes, "--undo", name], &path);
        let next = format!(
            "The entry was written, and `recount undo '{name}'` takes it back.\n\
             Next: `recount check -r all --undo NEW-FILE '{}'`, so that refcounts and COPIED bits \
             fit.\n",
            path.display()
        );
        assert_eq!(run.stdout, [SHOWN, &next].concat());
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
        assert!(fs::read(&path).expect("an image") == Image::clean().bytes);
        let again = mend(&["--l1", "0=0x800"], &path);
        assert!(
            again.stderr.contains("as it should be already"),
            "{again:?}"
        );
        let run = command([OsStr::new("undo"), undo.as_os_str()]);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(fs::read(&path).expect("an image") == lost.bytes);
    }
}

#[test]
fn what_cannot_be_meant_is_refused_also_with_force() {
    let (directory, path) = without_l1_entry().write();
    let before = Untouched::of(&path);
    let undo = directory.path().join("undo");
    let undo = undo.to_str().expect("text");
    for (option, value, why) in [
        (
            "--l1",
            "1=0x800",
            "there is no L1 entry 1: the table has 1 entry",
        ),
        ("--l1", "0=0x801", "0x801 is not cluster aligned"),
        (
            "--l1",
            "0=0x10000",
            "0x10000 lies past the end of the file, which has 4608 bytes",
        ),
        (
            "--l1",
            "0=0xfffffffffffffe00",
            "lies past the end of the file",
        ),
        ("--l1", "0=0", "at offset 0 is the header"),
        ("--entry", "0x601=0x800", "0x601 is no place of an entry"),
        ("--entry", "40=0x800", "in the header's cluster"),
        (
            "--entry",
            "0xfffffffffffffff8=0",
            "lies past the end of the file",
        ),
        (
            "--entry",
            "0x600=0x10000",
            "0x10000 lies past the end of the file",
        ),
        // Guest data, and the refblock.
        (
            "--entry",
            "0xa00=0x800",
            "no L1 or L2 table in use has an entry at 0xa00",
        ),
        (
            "--entry",
            "0x400=0x800",
            "no L1 or L2 table in use has an entry at 0x400",
        ),
        ("--entry", "0x600=0", "as it should be already"),
    ] {
        for force in [&[][..], &["--force", "--yes", "--undo", undo]] {
            let run = mend(&[&[option, value], force].concat(), &path);
            assert_eq!(
                (run.code, run.stdout.as_str()),
                (Some(1), ""),
                "{value}: {run:?}"
            );
            assert!(run.stderr.contains(why), "{value}: {run:?}");
            assert!(
                run.stderr.ends_with("; nothing was written\n"),
                "{value}: {run:?}"
            );
        }
    }
    before.assert_still(&path, "mend");
    assert!(!Path::new(undo).exists());
}

#[test]
fn what_speaks_against_an_entry_is_passed_over_by_force_alone() {
    let mut empty_table = without_l1_entry();
    empty_table.bytes[L2..][..CLUSTER].fill(0);
    let mut two_entries = Image::clean();
    two_entries.put32(crate::image::L1_SIZE, 2);
    for (image, option, value, why) in [
        (
            without_l1_entry(),
            "--l1",
            "0=0xa00",
            "0xa00 does not read as an L2 table",
        ),
        (
            empty_table,
            "--l1",
            "0=0x800",
            "no entry of what is at 0x800 leads to data",
        ),
        (
            two_entries,
            "--l1",
            "1=0x800",
            "cluster 4 is in use already, and its refcount is 1",
        ),
        (
            Image::clean(),
            "--l1",
            "0=0xa00",
            "the entry leads to something now",
        ),
        (
            Image::clean(),
            "--entry",
            "0x800=0xc00",
            "the entry leads to something now",
        ),
        (
            Image::clean(),
            "--entry",
            "0x800=0xc00",
            "cluster 6 is in use already",
        ),
        (
            Image::clean(),
            "--entry",
            "0x820=0x8000000000001004",
            "reserved bits set",
        ),
    ] {
        let (directory, path) = image.write();
        let before = Untouched::of(&path);
        let undo = directory.path().join("undo");
        let undo = undo.to_str().expect("text");
        let words = [option, value, "--yes", "--undo", undo];
        let run = mend(&words, &path);
        assert_eq!(run.code, Some(1), "{value}: {run:?}");
        assert!(run.stderr.contains(why), "{value}: {run:?}");
        let end = "; --force writes all the same; nothing was written\n";
        assert!(run.stderr.ends_with(end), "{value}: {run:?}");
        before.assert_still(&path, value);
        let run = mend(&[&words[..], &["--force"]].concat(), &path);
        assert_eq!(
            (run.code, run.stderr.as_str()),
            (Some(0), ""),
            "{value}: {run:?}"
        );
        assert!(fs::read(&path).expect("an image") != image.bytes, "{value}");
    }
}

#[test]
fn a_bit_that_flipped_in_an_entry_is_put_right_without_force() {
    let mut image = Image::clean();
    image.put64(L1, COPIED | L2 as u64 | 1 << 3);
    image.put64(L2, COPIED | (5 * CLUSTER) as u64 | 1 << 3);
    let (directory, path) = image.write();
    for (option, value, undo) in [
        ("--l1", "0=0x800", "one"),
        ("--entry", "0x800=0x8000000000000a00", "two"),
    ] {
        let undo = directory.path().join(undo);
        let undo = undo.to_str().expect("text");
        let run = mend(&[option, value, "--yes", "--undo", undo], &path);
        assert_eq!(run.code, Some(0), "{run:?}");
    }
    assert!(fs::read(&path).expect("an image") == Image::clean().bytes);
}

#[test]
fn a_table_that_lost_its_refcount_is_put_back_and_repaired() {
    let mut image = without_l1_entry();
    image.bytes[REFBLOCK..][..CLUSTER].fill(0);
    let (directory, path) = image.write();
    let undo = directory.path().join("undo");
    let undo = undo.to_str().expect("text");
    let run = mend(&["--l1", "0=0x800", "--yes", "--undo", undo], &path);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(recount(&["-q", "-r", "all"], &path).code, Some(0));
    let repaired = fs::read(&path).expect("an image");
    assert!(repaired[5 * CLUSTER..CLUSTERS * CLUSTER] == image.bytes[5 * CLUSTER..]);
    assert_eq!(repaired[L1..][..8], (COPIED | L2 as u64).to_be_bytes());
}

#[test]
fn an_undo_file_is_needed_and_none_is_written_over() {
    let (directory, path) = without_l1_entry().write();
    let before = Untouched::of(&path);
    let undo = directory.path().join("undo");
    fs::write(&undo, "mine").expect("written");
    let undo = undo.to_str().expect("text");
    let entry = ["--l1", "0=0x800"];
    for (options, why) in [
        (&["--yes"][..], "--undo"),
        (&["--undo", undo], "--yes"),
        (&["--yes", "--undo", undo], "it exists already"),
        (&["--entry", "0=0"], "cannot be used with"),
    ] {
        let run = mend(&[&entry, options].concat(), &path);
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stderr.contains(why), "{why}: {run:?}");
    }
    for (options, why) in [
        (&[][..], "--l1"),
        (&["--l1", "7"], "no '='"),
        (&["--l1", "x=7"], "'x'"),
    ] {
        let run = mend(options, &path);
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
        assert!(run.stderr.contains(why), "{why}: {run:?}");
    }
    before.assert_still(&path, "mend");
    assert_eq!(fs::read(undo).expect("a file"), b"mine");
}

#[test]
fn unknown_autoclear_bits_are_a_matter_of_a_repair() {
    let mut image = without_l1_entry();
    image.put64(88, 1 << 40);
    let (_directory, path) = image.write();
    let run = mend(&["--l1", "0=0x800"], &path);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    assert!(run.stderr.contains("autoclear feature bits"), "{run:?}");
}

/// What the guest reads, as raw bytes.
fn guest_data(image: &Path) -> Vec<u8> {
    let raw = image.with_extension("raw");
    let name = image.to_str().expect("text");
    qemu_tool(
        "qemu-img",
        &["convert", "-f", "qcow2", "-O", "raw", name],
        &raw,
    );
    fs::read(&raw).expect("raw bytes")
}

#[needs(qemu)]
#[test]
fn from_a_lost_l1_entry_to_all_data_being_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("vm");
    let create = [
        "create",
        "-q",
        "-f",
        "qcow2",
        "-o",
        "size=64M,cluster_size=4k",
    ];
    qemu_tool("qemu-img", &create, &path);
    for (at, pattern) in [
        ("0", "0x11"),
        ("1M", "0x22"),
        ("3M", "0x33"),
        ("40M", "0x44"),
    ] {
        let write = format!("write -q -P {pattern} {at} 700k");
        qemu_tool("qemu-io", &["-c", &write], &path);
    }
    let (data, mut bytes) = (guest_data(&path), fs::read(&path).expect("an image"));
    let l1 = u64::from_be_bytes(bytes[40..48].try_into().expect("8 bytes")) as usize;
    let entry = u64::from_be_bytes(bytes[l1..][..8].try_into().expect("8 bytes"));
    let table = entry & !COPIED;
    let whole = bytes.clone();
    bytes[l1..][..8].fill(0);
    fs::write(&path, &bytes).expect("written");
    // A repair keeps what leaked.
    let run = recount(&["-r", "all"], &path);
    assert_eq!(run.code, Some(3), "{run:?}");
    assert!(fs::read(&path).expect("an image") == bytes);
    let said = find(&[], &path).stdout;
    for part in [
        format!(
            "L2 table at {table:#x}: 350 of 350 clusters are whole, 350 used by nothing else\n"
        ),
        "entry 0 of the active layer is empty (guest 0 to 2097151)\n".to_owned(),
    ] {
        assert!(said.contains(&part), "{part}: {said}");
    }
    let undo = directory.path().join("undo");
    let undo = undo.to_str().expect("text");
    let lead = format!("0={table}");
    let run = mend(&["--l1", &lead, "--yes", "--undo", undo], &path);
    assert_eq!(run.code, Some(0), "{run:?}");
    let run = recount(&["-r", "all"], &path);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(fs::read(&path).expect("an image") == whole);
    assert!(guest_data(&path) == data);
}
