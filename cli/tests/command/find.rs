//! `recount find`: what is said of clusters that nothing refers to, byte for byte on small images in which
//! each kind of them is there, and on what qemu-img makes.

use std::ffi::OsStr;
use std::path::Path;

use recount_needs::needs;
use serde_json::{Value, json};

use crate::image::{CLUSTER, CLUSTERS, Image, L1, L1_SIZE, L2, REFBLOCK, REFTABLE, SIZE};
use crate::run::{Run, Untouched, command, qemu_tool};

const COPIED: u64 = 1 << 63;
/// What comes after entries that are idle.
const NEXT: &str = "`recount mend FILE --l1 INDEX=OFFSET` shows what one of them would lead to.";

pub fn find(options: &[&str], file: &Path) -> Run {
    let before = Untouched::of(file);
    let options = options.iter().map(OsStr::new);
    let words = [OsStr::new("find")].into_iter().chain(options);
    let run = command(words.chain([file.as_os_str()]));
    before.assert_still(file, "find");
    run
}

/// The lines that are printed of an image.
fn found(image: &Image, options: &[&str]) -> Vec<String> {
    let (_directory, path) = image.write();
    let run = find(options, &path);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
    let name = format!("'{}'", path.display());
    let lines = run.stdout.lines();
    lines.map(|line| line.replace(&name, "FILE")).collect()
}

/// With one more cluster, which is allocated and holds these bytes.
fn with_lost(bytes: &[u8]) -> Image {
    let mut image = Image::clean();
    image.bytes.resize((CLUSTERS + 1) * CLUSTER, 0);
    image.put(CLUSTERS * CLUSTER, bytes);
    image.set_refcount(CLUSTERS, 1);
    image
}

fn without_l1_entry() -> Image {
    let mut image = Image::clean();
    image.put64(L1, 0);
    image
}

#[test]
fn where_everything_is_referred_to_nothing_is_found() {
    let expected = ["There is no cluster in use that nothing refers to."];
    assert_eq!(found(&Image::clean(), &[]), expected);
}

#[test]
fn a_table_whose_l1_entry_was_lost_is_found_and_the_entry_is_named() {
    let clusters = [
        "There are 5 clusters in use that nothing refers to:",
        "L2 table at 0x800: 4 of 4 clusters are whole, 4 used by nothing else",
        "clusters 5 to 8: data",
        "",
        "These L1 entries lead to no L2 table:",
    ];
    let empty = "entry 0 of the active layer is empty (guest 0 to 16383)";
    let said = found(&without_l1_entry(), &[]);
    assert_eq!(said, [&clusters[..], &[empty, NEXT]].concat());
    // Past the end, and to a cluster of data.
    for entry in [0xff_0000, 0xa00] {
        let mut image = Image::clean();
        image.put64(L1, entry);
        let damaged = "entry 0 of the active layer is damaged (guest 0 to 16383)";
        let said = found(&image, &[]);
        assert!(
            said.ends_with(&[damaged.to_owned(), NEXT.to_owned()]),
            "{entry:#x}: {said:?}"
        );
    }
}

#[test]
fn programs_get_the_same() {
    let (_directory, path) = without_l1_entry().write();
    let run = find(&["--output=json"], &path);
    let json: Value = serde_json::from_str(&run.stdout).expect("JSON");
    let expected = json!({
        "version": 1, "filename": path, "cluster-size": 512, "total": 5,
        "l2-tables": [{"offset": 0x800, "entries": 4, "whole": 4, "lost": 4}],
        "clusters": [
            {"content": "L2 table", "first": 4, "count": 1},
            {"content": "data", "first": 5, "count": 4},
        ],
        "l1-entries": [{
            "layer": "the active layer", "first": 0, "count": 1, "state": "empty",
            "guest": {"start": 0, "end": 16384},
        }],
        "left-out": {},
    });
    assert_eq!(json, expected);
}

#[test]
fn of_a_table_it_is_said_how_much_of_its_data_is_in_the_file() {
    let mut image = without_l1_entry();
    image.bytes.truncate(7 * CLUSTER);
    let said = found(&image, &[]);
    let table = "L2 table at 0x800: 2 of 4 clusters are whole, 2 used by nothing else";
    assert_eq!(said[1], table, "{said:?}");
}

#[test]
fn a_table_is_found_where_the_refcounts_are_lost() {
    let mut image = without_l1_entry();
    image.bytes[REFBLOCK..][..CLUSTER].fill(0);
    let said = found(&image, &[]);
    let table = "L2 table at 0x800: 4 of 4 clusters are whole, 4 used by nothing else";
    assert_eq!(said[1..3], [table, "clusters 5 to 8: data"], "{said:?}");
}

#[test]
fn other_structures_and_zeros_are_told_apart() {
    let clean = Image::clean();
    let l1_table = (COPIED | L2 as u64).to_be_bytes();
    let reftable = (REFBLOCK as u64).to_be_bytes();
    // An entry with 16 bytes of extra data, the ID "1" and the name "one".
    let mut snapshot = [0; 64];
    snapshot[..8].copy_from_slice(&(L1 as u64).to_be_bytes());
    (snapshot[11], snapshot[13], snapshot[15], snapshot[39]) = (1, 1, 3, 16);
    snapshot[56..60].copy_from_slice(b"1one");
    let text = b"#!/bin/sh\n";
    for (bytes, expected) in [
        (&l1_table[..], "L1 table"),
        (&reftable, "refcount table"),
        (&snapshot, "snapshot table"),
        (text, "data"),
        (&[], "zeros"),
        // The first bytes are zeros, as those of a table with few entries.
        (&[&[0; 400][..], text].concat(), "data"),
    ] {
        let said = found(&with_lost(bytes), &[]);
        let one = "There is 1 cluster in use that nothing refers to:";
        assert_eq!(said, [one.to_owned(), format!("cluster 9: {expected}")]);
    }
    // A refblock is told where enough is counted.
    let mut image = with_lost(&[]);
    image.bytes.resize(20 * CLUSTER, 0xa5);
    for cluster in 10..20 {
        image.put64(L2 + 8 * (cluster - 6), COPIED | (cluster * CLUSTER) as u64);
        image.set_refcount(cluster, 1);
    }
    let refblock = image.bytes[REFBLOCK..][..CLUSTER].to_vec();
    image.put(CLUSTERS * CLUSTER, &refblock);
    assert_eq!(found(&image, &[])[1..], ["cluster 9: refcount block"]);
    assert_eq!(clean.bytes[REFTABLE..][..8], reftable);
}

#[test]
fn compressed_data_is_told_by_the_table_that_leads_to_it() {
    let mut image = without_l1_entry();
    // One sector, from the beginning of cluster 6.
    image.put64(L2 + 8, 1 << 62 | (6 * CLUSTER) as u64);
    let said = found(&image, &[]);
    let expected = [
        "L2 table at 0x800: 4 of 4 clusters are whole, 4 used by nothing else",
        "cluster 5: data",
        "clusters 7 to 8: data",
        "cluster 6: compressed data",
    ];
    assert_eq!(said[1..5], expected, "{said:?}");
}

#[test]
fn of_each_kind_there_are_20_lines_and_with_v_all() {
    let mut image = Image::clean();
    image.bytes.resize(60 * CLUSTER, 0xa5);
    for cluster in (10..60).step_by(2) {
        image.set_refcount(cluster, 1);
    }
    let lines: Vec<_> = (10..60)
        .step_by(2)
        .map(|cluster| format!("cluster {cluster}: data"))
        .collect();
    let said = found(&image, &[]);
    assert_eq!(said[1..21], lines[..20]);
    assert_eq!(said[21..], ["... and 5 more (-v shows all)"]);
    assert_eq!(found(&image, &["-v"])[1..], lines);
    let (_directory, path) = image.write();
    let json = find(&["--output=json"], &path).stdout;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["left-out"], json!({"data": 5}));
}

#[test]
fn entries_of_l1_side_by_side_share_a_line() {
    let mut image = without_l1_entry();
    // Four entries, of which the third leads to what is no table; two more are for nothing.
    image.put64(SIZE, 128 << 10);
    image.put32(L1_SIZE, 6);
    image.put64(L1 + 16, 0xff_0000);
    let said = found(&image, &[]);
    let expected = [
        "entries 0 to 1 of the active layer are empty (guest 0 to 65535)",
        "entry 2 of the active layer is damaged (guest 65536 to 98303)",
        "entries 3 to 5 of the active layer are empty (guest 98304 to 131071)",
        NEXT,
    ];
    assert_eq!(said[5..], expected, "{said:?}");
}

#[test]
fn what_is_no_image_is_an_error() {
    let (_directory, path) = crate::image::write(b"#!/bin/sh\n");
    let run = find(&[], &path);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    assert!(run.stderr.contains("not a qcow2 image"), "{run:?}");
}

#[needs(qemu)]
#[test]
fn the_table_of_a_snapshot_is_found_that_lost_its_l1_table() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("vm");
    let create = ["create", "-q", "-f", "qcow2", "-o", "size=4G"];
    qemu_tool("qemu-img", &create, &path);
    qemu_tool("qemu-io", &["-c", "write -q -P 0x5a 0 1M"], &path);
    qemu_tool("qemu-img", &["snapshot", "-c", "one"], &path);
    qemu_tool("qemu-io", &["-c", "write -q -P 0x5b 0 1M"], &path);
    let said = find(&[], &path).stdout;
    assert_eq!(said, "There is no cluster in use that nothing refers to.\n");
    // The header no longer knows of the snapshot.
    let mut bytes = std::fs::read(&path).expect("an image");
    bytes[60..64].fill(0);
    std::fs::write(&path, &bytes).expect("written");
    let said = find(&[], &path).stdout;
    for part in [
        "16 of 16 clusters are whole, 16 used by nothing else\n",
        ": L1 table\n",
        ": snapshot table\n",
        ": data\n",
        "entries 1 to 7 of the active layer are empty (guest 536870912 to 4294967295)\n",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
