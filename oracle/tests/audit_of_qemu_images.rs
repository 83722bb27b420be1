//! Images that qemu-img and qemu-io make, of every kind: the audit finds what `qemu-img check`
//! counts and what `qemu-img map` maps. One such image is recorded with what qemu said of it, so
//! that something is compared where qemu-img is not installed.

mod common;

use std::fs::File;
use std::process::Command;

use common::{Check, Scratch};
use recount_needs::needs;
use recount_oracle::audit::{Audit, LayerId, Mapping, audit, counters};
use serde_json::Value;

const RECORDED: &[u8] = include_bytes!("data/recorded.qcow2");
const RECORDED_CHECK: &str = include_str!("data/recorded.check.json");
const RECORDED_MAP: &str = include_str!("data/recorded.map.json");
/// Subclusters of an extended cluster; others are looked at in as many parts.
const PARTS: u64 = 32;
const SECRET: &str = "secret,id=key,data=recount";

/// How to make an image: options of `qemu-img create`, and what is done then.
struct Recipe {
    name: &'static str,
    options: &'static str,
    steps: &'static [Step],
}

enum Step {
    /// A command of qemu-io.
    Io(&'static str),
    /// `qemu-img snapshot -c`.
    Snapshot(&'static str),
    /// `qemu-img bitmap --add`.
    Bitmap(&'static str),
}

use Step::{Bitmap, Io, Snapshot};

const MIXED: &[Step] = &[
    Io("write -P 1 0 300k"),
    Io("write -c -P 2 512k 256k"),
    Io("write -z 320k 64k"),
    Snapshot("first"),
    Io("write -P 3 128k 64k"),
    Io("write -c -P 4 1M 64k"),
    Snapshot("second"),
    Io("write -P 5 1900k 8k"),
    Io("discard 0 64k"),
];

const PLAIN: &[Step] = &[
    Io("write -P 1 0 300k"),
    Io("write -z 320k 64k"),
    Io("write -P 5 1900k 8k"),
];

const LARGE: &[Step] = &[
    Io("write -P 1 0 300k"),
    Snapshot("first"),
    Io("write -P 3 128k 64k"),
];

const OLD: &[Step] = &[
    Io("write -P 1 0 300k"),
    Snapshot("first"),
    Io("write -P 3 128k 64k"),
    Io("write -c -P 4 640k 64k"),
];

const BITMAPS: &[Step] = &[
    Bitmap("one"),
    Io("write -P 1 0 300k"),
    Bitmap("two"),
    Io("write -P 2 1M 4k"),
];

const RECIPES: &[Recipe] = &[
    recipe("small clusters", "cluster_size=512", MIXED),
    recipe(
        "small clusters, wide",
        "cluster_size=512,refcount_bits=64",
        MIXED,
    ),
    recipe("2-bit refcounts", "cluster_size=1k,refcount_bits=2", OLD),
    recipe("1-bit refcounts", "cluster_size=4k,refcount_bits=1", PLAIN),
    recipe("4-bit refcounts", "cluster_size=4k,refcount_bits=4", OLD),
    recipe("8-bit refcounts", "cluster_size=16k,refcount_bits=8", MIXED),
    recipe(
        "32-bit refcounts",
        "cluster_size=32k,refcount_bits=32",
        MIXED,
    ),
    recipe("the default", "compat=1.1", MIXED),
    recipe("large clusters", "cluster_size=2M", LARGE),
    recipe("version 2", "compat=0.10", OLD),
    recipe("version 2, small", "compat=0.10,cluster_size=512", OLD),
    recipe("extended L2", "extended_l2=on,cluster_size=64k", MIXED),
    recipe(
        "extended L2, small",
        "extended_l2=on,cluster_size=16k",
        MIXED,
    ),
    recipe(
        "preallocated",
        "preallocation=metadata,cluster_size=4k",
        PLAIN,
    ),
    recipe("zstd", "compression_type=zstd,cluster_size=8k", MIXED),
    recipe("bitmaps", "cluster_size=4k", BITMAPS),
    recipe("bitmaps, small", "cluster_size=512", BITMAPS),
    recipe(
        "external data",
        "data_file=DIRECTORY/data.raw,cluster_size=4k",
        PLAIN,
    ),
    recipe(
        "LUKS",
        "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10,cluster_size=4k",
        PLAIN,
    ),
];

const fn recipe(name: &'static str, options: &'static str, steps: &'static [Step]) -> Recipe {
    Recipe {
        name,
        options,
        steps,
    }
}

/// Runs a tool.
fn run(program: &str, arguments: &[&str]) -> Check {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    Check {
        exit: output.status.code(),
        json: serde_json::from_slice(&output.stdout).unwrap_or_default(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Makes an image and gives what check and map say of it.
fn make(scratch: &Scratch, recipe: &Recipe) -> (File, Check, Check) {
    let path = scratch.path("image.qcow2");
    let directory = path.parent().unwrap().to_str().unwrap();
    let options = recipe.options.replace("DIRECTORY", directory);
    let path = path.to_str().unwrap();
    let luks = recipe.options.contains("luks");
    let image = if luks {
        format!("driver=qcow2,encrypt.key-secret=key,file.filename={path}")
    } else {
        format!("driver=qcow2,file.filename={path}")
    };
    let secret = ["--object", SECRET];
    let fine = |tool: &str, arguments: &[&str]| {
        let done = run(tool, arguments);
        assert_eq!(
            done.exit,
            Some(0),
            "{}: {arguments:?}: {}",
            recipe.name,
            done.stderr
        );
    };
    let create = ["create", "-q", "-f", "qcow2", "-o", &options, path, "2M"];
    fine("qemu-img", &[&create[..2], &secret, &create[2..]].concat());
    for step in recipe.steps {
        match step {
            Io(command) => {
                let io = ["--image-opts", &image, "-c", command];
                fine("qemu-io", &[&secret[..], &io].concat());
            }
            Snapshot(name) => fine("qemu-img", &["snapshot", "-c", name, path]),
            Bitmap(name) => fine("qemu-img", &["bitmap", "--add", path, name]),
        }
    }
    let ask = |verb| {
        let head = [verb, "--output=json"];
        let tail = ["--image-opts", &image];
        run("qemu-img", &[&head[..], &secret, &tail].concat())
    };
    let (check, map) = (ask("check"), ask("map"));
    (File::open(path).unwrap(), check, map)
}

fn assert_counters(name: &str, audit: &Audit, exit: i32, json: &Value) {
    let figures = counters(audit);
    assert_eq!(figures.exit_code(), exit, "{name}: {:?}", audit.mismatches);
    for (counter, value) in figures.named() {
        let expected = json[counter].as_u64().unwrap_or(0);
        assert_eq!(value, expected, "{name}: {counter}");
    }
}

/// What a part of a guest cluster is: present, zero, compressed, offset.
type Part = (bool, bool, bool, Option<u64>);

fn part(mapping: Option<&Mapping>, part: u64, inside: u64) -> Part {
    let nothing = (false, true, false, None);
    match mapping {
        Some(Mapping::Data { offset }) => (true, false, false, Some(offset + inside)),
        Some(Mapping::Preallocated { .. } | Mapping::Zero) => (true, true, false, None),
        Some(Mapping::Compressed { .. }) => (true, false, true, None),
        Some(&Mapping::Subclusters { zero, .. }) if zero >> part & 1 == 1 => {
            (true, true, false, None)
        }
        Some(&Mapping::Subclusters {
            offset, allocated, ..
        }) if allocated >> part & 1 == 1 => (true, false, false, Some(offset + inside)),
        Some(Mapping::Subclusters { .. }) | None => nothing,
    }
}

fn assert_map(name: &str, audit: &Audit, map: &Value) {
    assert_eq!(audit.layers[0].id, LayerId::Active);
    let cluster_size = audit.header.cluster_size();
    let size = cluster_size / PARTS;
    let mut seen = 0;
    for extent in map.as_array().unwrap() {
        let number = |field: &str| extent[field].as_u64().unwrap();
        let flag = |field: &str| extent[field].as_bool().unwrap();
        let (start, length) = (number("start"), number("length"));
        for at in (start..start + length).step_by(usize::try_from(size).unwrap()) {
            let inside = at % cluster_size;
            let mapping = audit.layers[0].map.get(&(at / cluster_size));
            let ours = part(mapping, inside / size, inside);
            // qemu-img looks into the file as well: data in a hole of it is zeros.
            let hole = ours.3.is_some() && flag("zero") && flag("present");
            let zero = ours.1 || hole;
            assert_eq!(
                (ours.0, zero, ours.2),
                (flag("present"), flag("zero"), extent["compressed"] == true),
                "{name}: guest offset {at}: {mapping:?}, {extent}"
            );
            if let (Some(offset), Some(theirs)) = (ours.3, extent["offset"].as_u64()) {
                assert_eq!(offset, theirs + (at - start), "{name}: guest offset {at}");
                seen += 1;
            }
        }
    }
    // qemu-img names no offset of what is encrypted.
    let encrypted = audit.header.luks.is_some();
    assert_eq!(seen > 0, !encrypted, "{name}: {seen} offsets compared");
}

#[needs(qemu)]
#[test]
fn counters_and_map_are_those_of_qemu_img() {
    let scratch = Scratch::new();
    for recipe in RECIPES {
        let (file, check, map) = make(&scratch, recipe);
        let audit = audit(&file).unwrap_or_else(|error| panic!("{}: {error}", recipe.name));
        assert!(!check.json.is_null(), "{}: {}", recipe.name, check.stderr);
        assert_counters(recipe.name, &audit, check.exit.unwrap(), &check.json);
        assert_map(recipe.name, &audit, &map.json);
        let bitmaps = recipe.steps.iter().filter(|step| matches!(step, Bitmap(_)));
        assert_eq!(audit.bitmaps.len(), bitmaps.count(), "{}", recipe.name);
        let snapshots = recipe
            .steps
            .iter()
            .filter(|step| matches!(step, Snapshot(_)));
        assert_eq!(
            audit.snapshots.entries.len(),
            snapshots.count(),
            "{}",
            recipe.name
        );
        std::fs::remove_file(scratch.path("image.qcow2")).unwrap();
    }
}

#[test]
fn a_recorded_image_of_qemu_img_is_found_to_be_what_qemu_img_said() {
    let audit = audit(&RECORDED).unwrap();
    let check: Value = serde_json::from_str(RECORDED_CHECK).unwrap();
    assert_counters("recorded", &audit, 0, &check);
    assert_map(
        "recorded",
        &audit,
        &serde_json::from_str(RECORDED_MAP).unwrap(),
    );
    assert_eq!((audit.snapshots.entries.len(), audit.bitmaps.len()), (1, 1));
    assert_eq!(audit.bitmaps[0].name, b"seen");
    assert_ne!(audit.layers[0].map, audit.layers[1].map);
}
