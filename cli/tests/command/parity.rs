//! What is printed is what `qemu-img check` prints, byte for byte, and so is the exit code. The
//! results in the table were recorded from qemu-img 10.0; where one is installed, it is asked
//! again.

use std::ffi::OsStr;
use std::path::Path;

use recount_needs::needs;

use crate::image::{self, CLUSTER, CLUSTERS, Image, L1, L2, REFTABLE};
use crate::run::{command, qemu_img, recount};

/// A damage and what comes of it: exit code, corruptions, leaks, check errors.
struct Situation {
    name: &'static str,
    damage: fn(&mut Image),
    result: (i32, u64, u64, u64),
}

const SITUATIONS: &[Situation] = &[
    Situation {
        name: "no damage",
        damage: |_| {},
        result: (0, 0, 0, 0),
    },
    Situation {
        name: "a cluster that nothing refers to",
        damage: |image| {
            image.bytes.resize((CLUSTERS + 1) * CLUSTER, 0xee);
            image.set_refcount(CLUSTERS, 1);
        },
        result: (3, 0, 1, 0),
    },
    Situation {
        name: "a refcount of two for a cluster referred to once",
        damage: |image| image.set_refcount(5, 2),
        result: (2, 1, 1, 0),
    },
    Situation {
        name: "a refcount of zero for a cluster in use",
        damage: |image| image.set_refcount(6, 0),
        result: (2, 2, 0, 0),
    },
    Situation {
        name: "a cluster referred to twice with a refcount of one",
        damage: |image| image.put64(L2 + 64, 1 << 63 | (6 * CLUSTER) as u64),
        result: (2, 1, 0, 0),
    },
    Situation {
        name: "an entry without the COPIED bit",
        damage: |image| image.put64(L2 + 8, (6 * CLUSTER) as u64),
        result: (2, 1, 0, 0),
    },
    Situation {
        name: "an L2 entry with a reserved bit",
        damage: |image| image.put64(L2 + 8, 1 << 63 | 1 << 57 | (6 * CLUSTER) as u64),
        result: (2, 1, 0, 0),
    },
    Situation {
        name: "an L1 entry that leads past the end",
        damage: |image| image.put64(L1, 1 << 63 | 1 << 30),
        result: (2, 2, 5, 0),
    },
    Situation {
        name: "no refblock",
        damage: |image| image.put64(REFTABLE, 0),
        result: (2, 13, 0, 0),
    },
    Situation {
        name: "a reftable entry with reserved bits",
        damage: |image| image.put64(REFTABLE, 2 * CLUSTER as u64 + 2),
        result: (2, 1, 1, 0),
    },
    Situation {
        name: "a reftable entry past the end",
        damage: |image| image.put64(REFTABLE + 8, 1 << 20),
        result: (2, 1, 0, 0),
    },
    Situation {
        name: "data out of order",
        damage: |image| {
            image.put64(L2, 1 << 63 | (8 * CLUSTER) as u64);
            image.put64(L2 + 24, 1 << 63 | (5 * CLUSTER) as u64);
        },
        result: (0, 0, 0, 0),
    },
];

/// Damages that recount repairs otherwise: it keeps what a damaged entry may lead to, and never
/// makes the file grow to where an entry points.
const DIFFERENT_ON_PURPOSE: [&str; 2] = [
    "an L1 entry that leads past the end",
    "a reftable entry past the end",
];

#[test]
fn a_check_prints_and_exits_as_qemu_img_does() {
    for Situation {
        name,
        damage,
        result,
    } in SITUATIONS
    {
        let mut image = Image::clean();
        damage(&mut image);
        let (_directory, path) = image.write();
        let run = recount(&["--output=json"], &path);
        let json: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
        let count = |key: &str| json.get(key).map_or(0, |value| value.as_u64().expect(key));
        let found = (
            run.code.expect("an exit code"),
            count("corruptions"),
            count("leaks"),
            count("check-errors"),
        );
        assert_eq!(found, *result, "{name}: {}", run.stderr);
        for options in [&[][..], &["--output=json"], &["-q"]] {
            let ours = recount(options, &path);
            let Some(theirs) = qemu_img(options, &path) else {
                break;
            };
            // What leaked in a damaged image may be data: it is not said to be no harm.
            let is_damaged = ours.stderr.contains("Mend what is damaged");
            let no_harm = "This means waste of disk space, but no harm to data.\n";
            let mut expected = theirs.stdout.clone();
            if is_damaged {
                expected = expected.replace(no_harm, "");
            }
            assert_eq!(
                (ours.code, &ours.as_of_qemu_img()),
                (theirs.code, &expected),
                "{name} {options:?}: {} against {}",
                ours.stderr,
                theirs.stderr
            );
            // qemu-img names findings with -q too.
            let is_quiet = options == ["-q"] && ours.code != Some(1);
            let is_silent = is_quiet || theirs.stderr.is_empty();
            assert_eq!(ours.stderr.is_empty(), is_silent, "{name}: {ours:?}");
        }
    }
}

#[needs(qemu)]
#[test]
fn a_repair_prints_and_exits_as_qemu_img_does() {
    for Situation { name, damage, .. } in SITUATIONS {
        if DIFFERENT_ON_PURPOSE.contains(name) {
            continue;
        }
        let mut image = Image::clean();
        damage(&mut image);
        for options in [
            &["-r", "all", "--output=json"][..],
            &["-r", "all"],
            &["-r", "leaks"],
            &["-r", "leaks", "--output=json"],
        ] {
            let (_ours_at, ours_path) = image.write();
            let (_theirs_at, theirs) = image.write();
            // The algorithm of qemu-img, because the layout decides where the image ends.
            let ours = recount(&[options, &["--algorithm=first-fit"]].concat(), &ours_path);
            assert!(matches!(ours.code, Some(0..=3)), "{name}: {ours:?}");
            let theirs = qemu_img(options, &theirs).expect("qemu-img");
            if options.contains(&"all") && theirs.code == Some(1) {
                // qemu-img refuses to write where the damaged structures seem to be.
                assert_eq!(ours.code, Some(0), "{name}: {ours:?}");
                assert_eq!(qemu_img(&[], &ours_path).map(|run| run.code), Some(Some(0)));
                continue;
            }
            assert_eq!(
                (ours.code, drop_name(&ours.as_of_qemu_img())),
                (theirs.code, drop_name(&theirs.stdout)),
                "{name} {options:?}: {} against {}",
                ours.stderr,
                theirs.stderr
            );
        }
    }
}

/// The output without the line that names the file.
fn drop_name(output: &str) -> String {
    output
        .lines()
        .filter(|line| !line.contains("\"filename\""))
        .collect::<Vec<_>>()
        .join("\n")
}

#[needs(qemu)]
#[test]
fn an_image_that_qemu_made_is_reported_alike() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("image");
    for options in [
        "compat=1.1",
        "compat=0.10",
        "cluster_size=512",
        "cluster_size=2M",
        "refcount_bits=1",
        "refcount_bits=64,cluster_size=1k",
        "extended_l2=on",
    ] {
        let create = ["create", "-q", "-f", "qcow2", "-o", options];
        let made = std::process::Command::new("qemu-img")
            .args(create)
            .args([path.as_os_str(), "20M".as_ref()])
            .status();
        assert!(made.expect("qemu-img").success(), "{options}");
        for command in ["write 3M 2M", "write -c 10M 2M", "write -z 14M 1M"] {
            crate::run::qemu_tool("qemu-io", &["-f", "qcow2", "-c", command], &path);
        }
        for output in [&[][..], &["--output=json"]] {
            let ours = recount(output, &path);
            let theirs = qemu_img(output, &path).expect("qemu-img");
            assert_eq!(ours.as_of_qemu_img(), theirs.stdout, "{options:?}");
            assert_eq!((ours.code, ours.stderr), (theirs.code, theirs.stderr));
        }
    }
}

#[test]
fn the_data_of_the_test_image_is_where_the_tests_think() {
    let (_directory, path) = Image::clean().write();
    let data = image::data(&path);
    assert_eq!((data[0], data[3 * CLUSTER]), (0xa0, 0xa3));
}

#[test]
fn every_way_in_which_scripts_write_the_options_of_qemu_img_is_understood() {
    let mut leaky = Image::clean();
    leaky.bytes.resize((CLUSTERS + 1) * CLUSTER, 0);
    leaky.set_refcount(CLUSTERS, 1);
    let mut without_refcounts = Image::clean();
    without_refcounts.put64(REFTABLE, 0);
    for line in [
        "check -f qcow2 -r leaks --output json x",
        "check -fqcow2 -rleaks --output=json x",
        "check --format=qcow2 --repair=leaks --output=json x",
        "check x --format qcow2 --repair leaks --out json",
        "check -r all -r leaks -f raw -f qcow2 --output=human --output=json x",
        "check -q -T none -f qcow2 -r leaks --output=json -- x",
    ] {
        let run = |path: &Path| {
            let words = line.split(' ').map(OsStr::new);
            command(words.map(|word| if word == "x" { path.as_os_str() } else { word }))
        };
        let (_directory, path) = leaky.write();
        let repaired = run(&path);
        assert_eq!(repaired.code, Some(0), "{line}: {repaired:?}");
        if line.contains("-q") {
            assert_eq!(repaired.stdout, "", "{line}");
        } else {
            let json: serde_json::Value = serde_json::from_str(&repaired.stdout).expect("JSON");
            assert_eq!(json["leaks-fixed"], 1, "{line}: {repaired:?}");
        }
        assert_eq!(recount(&[], &path).code, Some(0), "{line}: a leak stays");
        // Only leaks: what -r all repairs is refused.
        let (_directory, path) = without_refcounts.write();
        let refused = run(&path);
        assert_eq!(refused.code, Some(1), "{line}: {refused:?}");
        assert!(
            refused.stderr.contains("use `-r all`"),
            "{line}: {refused:?}"
        );
    }
}
