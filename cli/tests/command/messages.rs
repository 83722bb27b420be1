//! What is said of an image: first what it comes to, then what was found, with where it is.

use std::fs;
use std::path::Path;
use std::process::Command;

use recount::Cluster;
use recount::finding::Miscount;
use recount_needs::needs;

use crate::image::{CLUSTER, CLUSTERS, Image, L1, L2, REFBLOCK};
use crate::run::recount;

/// The incompatible features (specification, "Header").
const FEATURES: usize = 72;

fn without_refcounts() -> Image {
    let mut image = Image::clean();
    image.bytes[REFBLOCK..][..CLUSTER].fill(0);
    image
}

/// What a check writes to standard error; `FILE` stands for the name of the image.
fn said(image: &Image, options: &[&str]) -> Vec<String> {
    let (_directory, path) = image.write();
    said_of(&path, options)
}

fn said_of(path: &Path, options: &[&str]) -> Vec<String> {
    let name = format!("'{}'", path.display());
    let run = recount(options, path);
    let lines = run.stderr.lines();
    lines.map(|line| line.replace(&name, "FILE")).collect()
}

#[test]
fn nothing_is_said_of_an_image_without_errors() {
    assert_eq!(said(&Image::clean(), &[]), [""; 0]);
}

#[test]
fn a_check_says_what_is_wrong_what_it_means_and_what_to_do() {
    let entry = 0x8000_0000_0000_0800_u64;
    assert_eq!(
        said(&without_refcounts(), &[]),
        [
            "recount: FILE: found 9 clusters in use with too low a refcount, 5 wrong COPIED bits.",
            "All guest data can be read, but the next write to the image may destroy some: let \
             nothing write to it before it is repaired.",
            "`recount check --plan FILE` shows what a repair would write, \
             `recount check -r all --undo NEW-FILE FILE` repairs.",
            "ERROR clusters 0 to 8: refcount 0, 1 reference each",
            &format!(
                "ERROR OFLAG_COPIED of L1 entry 0, {entry:#x}: L2 table with refcount=0 (guest 0 \
                 to 16383)"
            ),
            "ERROR OFLAG_COPIED of L2 entries 0 to 3 of the table at 0x800: data clusters with \
             refcount=0 (guest 0 to 2047)",
        ]
    );
}

#[test]
fn leaked_clusters_are_no_risk() {
    let mut image = Image::clean();
    image.bytes.resize((CLUSTERS + 1) * CLUSTER, 0);
    image.set_refcount(CLUSTERS, 1);
    assert_eq!(
        said(&image, &[]),
        [
            "recount: FILE: found 1 leaked cluster.",
            "No data is at risk: space is wasted.",
            "`recount check --plan FILE` shows what a repair would write, \
             `recount check -r leaks --undo NEW-FILE FILE` repairs.",
            "Leaked cluster 9: refcount 1, 0 references",
        ]
    );
}

#[test]
fn of_a_file_whose_end_is_missing_it_is_said_which_data_is_lost() {
    let mut image = Image::clean();
    image.bytes.truncate(6 * CLUSTER);
    let said = said(&image, &[]);
    let expected = [
        "recount: FILE: found 3 damaged entries.",
        "Guest data is missing, and the next write may destroy more: keep a copy of the file, and \
         let nothing write to it.",
        "The file ends at byte 3072, and tables and entries lead up to byte 4608.",
        "    1536 bytes of the active layer lead to what is not in the file, at these bytes of the \
         virtual disk:",
        "      512 to 2047",
    ];
    assert_eq!(said[..5], expected);
    assert_eq!(
        said[6..],
        [
            "ERROR data clusters of L2 entries 1 to 3 of the table at 0x800 lie past the end of the \
             file (guest 512 to 2047)"
        ]
    );
}

#[test]
fn the_dirty_and_the_corrupt_bit_are_named() {
    for (bit, named) in [(1, "the dirty bit is set"), (2, "the corrupt bit is set")] {
        let mut image = Image::clean();
        image.put64(FEATURES, bit);
        let said = said(&image, &[]);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with(&format!("recount: FILE: {named}")),
            "{said:?}"
        );
    }
}

#[test]
fn quiet_says_nothing_of_an_image() {
    let mut cut = Image::clean();
    cut.bytes.truncate(6 * CLUSTER);
    for image in [without_refcounts(), cut] {
        let (_directory, path) = image.write();
        for options in [&["-q"][..], &["-q", "--plan"], &["-q", "-r", "all"]] {
            let run = recount(options, &path);
            assert_eq!(
                (run.stdout.as_str(), run.stderr.as_str()),
                ("", ""),
                "{options:?}"
            );
        }
    }
}

#[test]
fn with_all_detail_each_finding_has_a_line_in_the_words_of_qemu_img() {
    let said = said(&without_refcounts(), &["-v"]);
    for (cluster, line) in said[..CLUSTERS].iter().enumerate() {
        let finding = Miscount {
            cluster: Cluster(cluster as u64),
            refcount: 0,
            references: 1,
        };
        assert_eq!(*line, format!("ERROR {finding}"));
    }
}

#[test]
fn of_a_kind_20_lines_are_shown_and_how_many_are_left_out() {
    let mut image = Image::clean();
    // Every other cluster behind the image is a leak.
    image.bytes.resize((CLUSTERS + 60) * CLUSTER, 0);
    let leaks = (CLUSTERS..CLUSTERS + 60).step_by(2);
    leaks.for_each(|cluster| image.set_refcount(cluster, 2));
    let line = |number: usize| {
        let cluster = CLUSTERS + 2 * number;
        format!("Leaked cluster {cluster}: refcount 2, 0 references")
    };
    let mut expected: Vec<String> = (0..20).map(line).collect();
    let next = line(20);
    expected.push(format!("... and 10 more (-v shows all), the first: {next}"));
    assert_eq!(said(&image, &[])[3..], expected);
    let all = said(&image, &["-v"]);
    let all = all.iter().filter(|line| line.starts_with("Leaked "));
    assert_eq!(all.count(), 30);
}

#[test]
fn the_worst_comes_first() {
    let mut image = Image::clean();
    image.bytes.resize((CLUSTERS + 1) * CLUSTER, 0);
    image.set_refcount(CLUSTERS, 1);
    image.set_refcount(5, 0);
    image.put64(L1 + 8, 1 << 9);
    image.put64(L2 + 8 * 3, 1 << 63 | 1 << 40);
    let said = said(&image, &[]);
    let starts = [
        "ERROR data cluster of L2 entry 3",
        "ERROR cluster 5",
        "ERROR OFLAG",
        "Leaked",
    ];
    let places = starts.map(|start| said.iter().position(|line| line.starts_with(start)));
    assert!(places[0].is_some() && places.is_sorted(), "{said:#?}");
}

#[test]
fn of_a_table_in_whose_place_there_is_text_that_is_said() {
    let mut image = Image::clean();
    let line = b"2026-11-28 server started\n";
    for at in (L2..L2 + CLUSTER - line.len()).step_by(line.len()) {
        image.put(at, line);
    }
    image.bytes[L2 + CLUSTER - 18..][..18].fill(b'\n');
    let said = said(&image, &[]);
    let expected = "ERROR the L2 table at 0x800 does not look like one: it holds text, which begins \
                    with '2026-11-28 server started' (guest 0 to 16383)";
    assert!(said.iter().any(|line| line == expected), "{said:#?}");
}

#[needs(qemu)]
#[test]
fn a_snapshot_is_named_by_its_id_and_name() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("image");
    let image = path.to_str().expect("text");
    let commands = [
        &["qemu-img", "create", "-q", "-f", "qcow2", image, "64M"][..],
        &["qemu-io", "-c", "write -q 0 64k", image],
        &["qemu-img", "snapshot", "-c", "before update", image],
        &["qemu-io", "-c", "write -q 0 64k", image],
    ];
    for command in commands {
        let status = Command::new(command[0]).args(&command[1..]).status();
        assert!(status.is_ok_and(|status| status.success()), "{command:?}");
    }
    // Reserved bits in the first entry of the snapshot's L1 table.
    let mut bytes = fs::read(&path).expect("the image");
    let number = |bytes: &[u8], at: usize| {
        let word = bytes[at..at + 8].try_into().expect("8 bytes");
        usize::try_from(u64::from_be_bytes(word)).expect("in memory")
    };
    let table = number(&bytes, number(&bytes, 64));
    bytes[table + 7] |= 1;
    fs::write(&path, bytes).expect("written");
    let said = said_of(&path, &[]);
    let end = " (guest 0 to 67108863 of snapshot 1 \"before update\")";
    assert!(said.iter().any(|line| line.ends_with(end)), "{said:#?}");
}
