//! `recount info`: what is shown of a small image, byte for byte; of damaged ones, in which the rest is
//! shown all the same; and of what qemu-img makes.

use std::ffi::OsStr;
use std::path::Path;

use recount_needs::needs;
use serde_json::{Value, json};

use crate::image::{CLUSTER_BITS, Image, SNAPSHOTS, SNAPSHOTS_OFFSET, write};
use crate::run::{Run, Untouched, command, qemu_tool};

/// The incompatible features (specification, "Header").
const FEATURES: usize = 72;

fn info(options: &[&str], file: &Path) -> Run {
    let before = Untouched::of(file);
    let options = options.iter().map(OsStr::new);
    let words = [OsStr::new("info")].into_iter().chain(options);
    let run = command(words.chain([file.as_os_str()]));
    before.assert_still(file, "info");
    run
}

/// What is printed for people, but for the first line, which names the image.
fn shown(file: &Path) -> String {
    let run = info(&[], file);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    let (image, rest) = run.stdout.split_once('\n').expect("lines");
    assert_eq!(image, format!("image             '{}'", file.display()));
    assert!(
        rest.lines()
            .all(|line| line.chars().count() <= 60 || line.contains('\'')),
        "{rest}"
    );
    rest.to_owned()
}

fn of_image(image: &Image) -> String {
    let (_directory, path) = image.write();
    shown(&path)
}

fn json_of(file: &Path) -> Value {
    let run = info(&["--output=json"], file);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    serde_json::from_str(&run.stdout).expect("JSON")
}

const CLEAN: &str = "\
format            qcow2, version 3
virtual size      16384 bytes (16.00 KiB)
cluster size      512 bytes
refcounts         16 bits
compression       zlib
encryption        none
features          none
L1 table          at 0x600, 1 entry
refcount table    at 0x200, 1 cluster
snapshot table    none
bitmap directory  none

file length       4608 bytes (4.50 KiB)
check             no errors
clusters          4 of 32 allocated, 0 fragmented, 0
                  compressed
image end offset  4608
";

#[test]
fn a_small_image_is_shown_line_by_line() {
    assert_eq!(of_image(&Image::clean()), CLEAN);
}

#[test]
fn programs_get_all_fields() {
    let (_directory, path) = Image::clean().write();
    let expected = json!({
        "version": 1, "filename": path, "format": "qcow2", "format-version": 3,
        "virtual-size": 16384, "cluster-size": 512, "refcount-bits": 16,
        "compression": "zlib", "encryption": "none", "features": [],
        "backing-file": null, "backing-format": null, "data-file": null,
        "tables": {
            "l1": {"offset": 0x600, "entries": 1},
            "refcount-table": {"offset": 0x200, "clusters": 1},
            "snapshots": null, "bitmaps": null, "luks": null,
        },
        "snapshots": [], "bitmaps": [], "file-length": 4608,
        "check": {
            "check-errors": 0, "corruptions": 0, "leaks": 0, "total-clusters": 32,
            "allocated-clusters": 4, "fragmented-clusters": 0, "compressed-clusters": 0,
            "image-end-offset": 4608,
        },
        "problems": [],
    });
    assert_eq!(json_of(&path), expected);
}

#[test]
fn an_image_that_cannot_be_opened_is_shown_all_the_same() {
    let mut image = Image::clean();
    image.put64(FEATURES, 1 << 63 | 2);
    let opened = "cannot be opened  incompatible_features (bytes 72 to 79) has
                  the unknown bits 0x8000000000000000: a
                  newer program is needed for this image
";
    let features = "corrupt bit (incompatible bit 1)
                  unknown (incompatible bit 63)
";
    let (until, _) = CLEAN.split_once("none\nL1 table").expect("features");
    let (tables, counters) = CLEAN.split_once("check ").expect("a check");
    let tables = &tables[until.len() + "none\n".len()..];
    assert!(counters.starts_with(' '), "{counters}");
    let check = "check             it did not complete: incompatible_features
                  (bytes 72 to 79) has the unknown bits
                  0x8000000000000000: a newer program is
                  needed for this image
";
    assert_eq!(
        of_image(&image),
        [opened, until, features, tables, check].concat()
    );
}

#[test]
fn what_cannot_be_read_is_said_in_its_place() {
    let mut unaligned = Image::clean();
    unaligned.put32(SNAPSHOTS, 3);
    unaligned.put64(SNAPSHOTS_OFFSET, 100);
    let shown = of_image(&unaligned);
    assert!(
        shown.contains("snapshot table    at 0x64, 3 snapshots\n"),
        "{shown}"
    );
    let why = "\nsnapshots\n  the snapshot table of 3 entries at offset 0x64 (header\n";
    assert!(shown.contains(why), "{shown}");
    assert!(shown.contains("\nfile length       4608 bytes"), "{shown}");
    // Zeros are no snapshot.
    let mut blank = Image::clean();
    blank.bytes.resize(10 * 512, 0);
    blank.put32(SNAPSHOTS, 1);
    blank.put64(SNAPSHOTS_OFFSET, 9 * 512);
    let (_directory, path) = blank.write();
    let json = json_of(&path);
    assert_eq!(json["snapshots"], json!([]));
    let problem = json!([{"part": "snapshots", "text": "1 more cannot be read"}]);
    assert_eq!(json["problems"], problem);
}

#[test]
fn a_header_that_cannot_be_read_is_an_error() {
    let mut image = Image::clean();
    image.put32(CLUSTER_BITS, 40);
    let (_directory, path) = image.write();
    let run = info(&[], &path);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    assert!(run.stderr.contains("cluster_bits is 40"), "{run:?}");
    let (_directory, path) = write(b"#!/bin/sh\n");
    let run = info(&["--output=json"], &path);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    assert!(run.stderr.contains("not a qcow2 image"), "{run:?}");
}

#[needs(qemu)]
#[test]
fn snapshots_bitmaps_and_the_backing_file_have_their_names() {
    let directory = tempfile::tempdir().expect("a directory");
    let (base, path) = (directory.path().join("base"), directory.path().join("vm"));
    let create = ["create", "-q", "-f", "qcow2"];
    qemu_tool(
        "qemu-img",
        &[&create[..], &["-o", "size=1M"]].concat(),
        &base,
    );
    let options = "size=1M,backing_file=base,backing_fmt=qcow2,lazy_refcounts=on";
    qemu_tool("qemu-img", &[&create[..], &["-o", options]].concat(), &path);
    qemu_tool("qemu-img", &["snapshot", "-c", "first one"], &path);
    let file = path.to_str().expect("text");
    for (options, name) in [(&["-g", "65536"][..], "on"), (&["--disable"], "off")] {
        let words = [&["bitmap", "--add"], options, &[file]].concat();
        qemu_tool("qemu-img", &words, Path::new(name));
    }
    let said = shown(&path);
    for part in [
        "features          lazy refcounts (compatible bit 0)\n                  bitmaps (autoclear bit 0)\n",
        "backing file      'base'\n                  format qcow2\nL1 table ",
        "\nsnapshots\n  1 \"first one\"\n    made 20",
        "Z\n    disk 1048576 bytes (1.00 MiB)\n    VM state 0 bytes\n    L1 table at 0x",
        "\nbitmaps\n  \"on\"\n    granularity 65536 bytes (64.00 KiB), enabled\n  \"off\"\n",
        ", disabled\n\nfile length ",
        "check             no errors\n",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    std::fs::remove_file(&base).expect("removed");
    let said = shown(&path);
    let missing = format!("                  it is not there: '{}'\n", base.display());
    assert!(said.contains(&missing), "{said}");
    let json = json_of(&path);
    assert_eq!(json["problems"][0]["part"], "backing-file");
    assert_eq!(json["snapshots"][0]["name"], "first one");
    assert_eq!(json["bitmaps"][1]["enabled"], false);
}

#[needs(qemu)]
#[test]
fn an_external_data_file_and_encryption_are_shown() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("vm");
    let data = format!(
        "size=1M,data_file={}",
        directory.path().join("data").display()
    );
    qemu_tool(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-o", &data],
        &path,
    );
    let said = shown(&path);
    for part in [
        "external data file (incompatible bit 2)\n",
        "\nexternal data     '",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let luks = "size=1M,encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10,compression_type=zstd";
    let secret = ["--object", "secret,id=key,data=key"];
    let create = ["create", "-q", "-f", "qcow2", "-o", luks];
    qemu_tool(
        "qemu-img",
        &[&create[..1], &secret, &create[1..]].concat(),
        &path,
    );
    let said = shown(&path);
    for part in [
        "encryption        LUKS\n",
        "compression       zstd\n",
        "\nLUKS header       at 0x",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
