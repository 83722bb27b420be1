//! `recount map` draws what lies where: the strip at several widths, colours on a terminal alone, the
//! picture, the data for programs, and that the counts are those of an image that qemu wrote.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::pty::{Winsize, openpty};
use quick_xml::Reader;
use quick_xml::events::Event;
use recount_needs::needs;
use serde_json::Value;

use crate::image::{CLUSTER, CLUSTERS, Image, L1, L2, REFBLOCK, REFTABLE, REFTABLE_CLUSTERS};
use crate::run::{Run, Untouched, command, qemu_img, qemu_tool};

fn map(options: &[&str], file: &Path) -> Run {
    let options = options.iter().map(OsStr::new);
    command(
        [OsStr::new("map")]
            .into_iter()
            .chain(options)
            .chain([file.as_os_str()]),
    )
}

/// What is printed of an image without errors of the run; `FILE` stands for its name.
fn drawn(image: &Image, options: &[&str]) -> Vec<String> {
    let (_directory, path) = image.write();
    let untouched = Untouched::of(&path);
    let run = map(options, &path);
    untouched.assert_still(&path, "map");
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    let name = format!("'{}'", path.display());
    run.stdout
        .lines()
        .map(|line| line.replace(&name, "FILE"))
        .collect()
}

/// Of 120 clusters, most of them free.
fn long() -> Image {
    let mut image = Image::clean();
    image.bytes.resize(120 * CLUSTER, 0);
    image
}

/// The same with everything wrong that can be: cluster 3, the L1 table, is data as well, 4 has too low a
/// refcount, 6 too high a one, 20 to 29 are leaked, and two entries lead past the end.
fn damaged() -> Image {
    let mut image = long();
    image.put64(L2 + 8 * 4, 1 << 63 | L1 as u64);
    image.put64(L2 + 8 * 5, 1 << 63 | (130 * CLUSTER) as u64);
    image.put64(L2 + 8 * 6, 1 << 63 | 1 << 40);
    image.set_refcount(4, 0);
    image.set_refcount(6, 3);
    for cluster in 20..30 {
        image.set_refcount(cluster, 1);
    }
    image
}

fn assert_lines(found: &[String], expected: &str) {
    let expected: Vec<&str> = expected.lines().collect();
    assert_eq!(found, expected, "it is:\n{}", found.join("\n"));
}

#[test]
fn a_strip_is_as_wide_as_it_may_be() {
    for (width, expected) in [
        ("60", include_str!("map/60.txt")),
        ("100", include_str!("map/100.txt")),
        ("200", include_str!("map/200.txt")),
    ] {
        assert_lines(&drawn(&long(), &["--width", width]), expected);
    }
}

#[test]
fn problems_take_the_place_of_uses() {
    assert_lines(&drawn(&damaged(), &[]), include_str!("map/damaged.txt"));
}

#[test]
fn a_plan_is_drawn_below_what_is_there_now() {
    let mut image = long();
    image.bytes[REFBLOCK..][..CLUSTER].fill(0);
    assert_lines(&drawn(&image, &["--plan"]), include_str!("map/plan.txt"));
    // Growing would hide what lies past the end, or there is nothing to do.
    let refused = drawn(&long(), &["--plan"]);
    assert_eq!(
        refused.last().expect("lines"),
        "A repair would write nothing."
    );
}

#[test]
fn a_character_for_many_clusters_shows_the_worst_of_them() {
    let mut image = Image::clean();
    image.bytes.resize(256 * CLUSTER, 0);
    image.set_refcount(100, 1);
    let lines = drawn(&image, &["--width", "24"]);
    assert_eq!(lines[0], "FILE: 256 clusters of 512 bytes, 2 a character");
    // Of header, reftable and refblock one is shown; the 51st is that of the leaked cluster.
    assert_eq!(lines[2], "    0x0 hr2dd...........", "{}", lines.join("\n"));
    assert_eq!(lines[5], " 0xc000 ..L.............", "{}", lines.join("\n"));
}

/// What is printed on a terminal of 60 columns.
fn on_terminal(file: &Path, variable: (&str, &str)) -> String {
    let size = Winsize {
        ws_row: 24,
        ws_col: 60,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let terminal = openpty(&size, None).expect("a terminal");
    let mut program = Command::new(env!("CARGO_BIN_EXE_recount"));
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        program.env_remove(name);
    }
    program.env("TERM", "xterm").env(variable.0, variable.1);
    program
        .arg("map")
        .arg(file)
        .stdout(Stdio::from(terminal.slave));
    let mut child = program.spawn().expect("the program starts");
    // The terminal ends with the last that has it open.
    drop(program);
    let mut bytes = Vec::new();
    // Linux says so by an error.
    let _ = File::from(terminal.master).read_to_end(&mut bytes);
    assert!(child.wait().expect("the program ends").success());
    String::from_utf8(bytes).expect("text")
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let (_directory, path) = damaged().write();
    let coloured = on_terminal(&path, ("LANG", "C"));
    assert!(coloured.contains("\u{1b}[41m"), "{coloured:?}");
    for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let plain = on_terminal(&path, variable);
        assert!(!plain.contains('\u{1b}'), "{variable:?}: {plain:?}");
        let plain = plain.replace("\r\n", "\n");
        // Where a terminal has 60 columns, that is the width.
        assert_eq!(plain, map(&["--width", "60"], &path).stdout, "{variable:?}");
    }
}

/// The number of titles and the number of groups in a well-formed document.
fn titles_and_groups(svg: &str) -> (usize, usize) {
    let mut reader = Reader::from_str(svg);
    let (mut titles, mut groups, mut open) = (0, 0, 0_i32);
    loop {
        match reader.read_event().expect("well-formed XML") {
            Event::Start(element) => {
                open += 1;
                titles += usize::from(element.name().as_ref() == b"title");
                groups += usize::from(element.name().as_ref() == b"g");
            }
            Event::End(_) => open -= 1,
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(open, 0, "every element ends");
    (titles, groups)
}

#[test]
fn a_picture_says_of_every_run_what_it_is() {
    let (directory, path) = damaged().write();
    let svg = directory.path().join("a & <b>.svg");
    let run = map(&["-o", svg.to_str().expect("text")], &path);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    let text = fs::read_to_string(&svg).expect("a picture");
    let (titles, groups) = titles_and_groups(&text);
    assert_eq!((titles, groups), (13, 13), "{text}");
    for said in [
        "<title>cluster 0, at 0x0: header</title>",
        "<title>cluster 3, at 0x600: used twice, L1 table</title>",
        "<title>clusters 20 to 29, from 0x2800 on: leaked</title>",
        "<title>cluster 130, at 0x10400: past the end</title>",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn a_picture_is_bounded_whatever_the_image() {
    // As many clusters as make a cell each, and no two neighbours alike: refcounts of one bit.
    let mut image = Image::clean();
    image.bytes.resize((16 << 10) * CLUSTER, 0);
    image.put32(96, 0);
    image.bytes[REFBLOCK..][..CLUSTER].fill(0x55);
    for refblock in 1..4 {
        let cluster = CLUSTERS + refblock;
        image.put64(REFTABLE + 8 * refblock, (cluster * CLUSTER) as u64);
        image.bytes[cluster * CLUSTER..][..CLUSTER].fill(0x55);
    }
    let (directory, path) = image.write();
    let svg = directory.path().join("map.svg");
    let run = map(&["-o", svg.to_str().expect("text")], &path);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    let text = fs::read_to_string(&svg).expect("a picture");
    assert!(titles_and_groups(&text).0 > 16_000);
    assert!(text.len() < 4 << 20, "{} bytes", text.len());
}

#[test]
fn a_file_that_is_there_is_replaced_only_by_force_and_the_image_never() {
    let (directory, path) = Image::clean().write();
    let other = directory.path().join("other");
    fs::write(&other, "precious").expect("written");
    let output = other.to_str().expect("text");
    let run = map(&["-o", output], &path);
    let message =
        format!("recount: '{output}': there is such a file already; --force replaces it\n");
    assert_eq!((run.code, run.stderr), (Some(1), message));
    assert_eq!(fs::read(&other).expect("there"), b"precious");
    assert_eq!(map(&["-o", output, "--force"], &path).code, Some(0));
    assert!(
        fs::read_to_string(&other)
            .expect("there")
            .starts_with("<svg")
    );

    let untouched = Untouched::of(&path);
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    for output in [&path, &link] {
        let run = map(&["--force", "-o", output.to_str().expect("text")], &path);
        assert_eq!(run.code, Some(1));
        assert!(
            run.stderr.ends_with(": that is the image\n"),
            "{}",
            run.stderr
        );
        untouched.assert_still(&path, "map");
    }
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let (_directory, path) = crate::image::write(b"no image at all");
    let run = map(&[], &path);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    assert!(run.stderr.contains("recount: '"), "{}", run.stderr);
    assert_eq!(map(&[], Path::new("/no/such/file")).code, Some(1));
}

fn json(options: &[&str], file: &Path) -> Value {
    let run = map(&[&["--json"], options].concat(), file);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    serde_json::from_str(&run.stdout).expect("JSON")
}

#[test]
fn programs_get_every_run() {
    let (_directory, path) = damaged().write();
    let map = json(&["--plan"], &path);
    let expected: Value = serde_json::from_str(include_str!("map/damaged.json")).expect("JSON");
    assert_eq!(map["now"], expected, "it is:\n{map:#}");
    assert_eq!(
        (&map["version"], &map["format"]),
        (&1.into(), &"qcow2".into())
    );
    assert_eq!(map["filename"], path.to_str().expect("text"));
}

#[test]
fn a_repair_leaves_nothing_wrong_in_the_map_after_it() {
    let mut image = long();
    image.bytes[REFBLOCK..][..CLUSTER].fill(0);
    let (_directory, path) = image.write();
    let plan = json(&["--plan"], &path);
    assert_eq!(plan["now"]["wrong"]["too-low"], 9);
    assert_eq!(plan["after"]["wrong"], serde_json::json!({}));
    let options = ["check", "-q", "-r", "all"].map(OsStr::new);
    assert_eq!(
        command(options.into_iter().chain([path.as_os_str()])).code,
        Some(0)
    );
    assert_eq!(json(&[], &path)["now"], plan["after"]);
}

#[test]
fn programs_are_told_apart_from_the_data_why_there_is_no_map_of_a_repair() {
    let (_directory, path) = long().write();
    let run = map(&["--json", "--plan"], &path);
    let said = "recount: A repair would write nothing.\n";
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), said));
    let map: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(map["after"], Value::Null);
}

#[test]
fn a_reftable_that_the_header_gives_up_is_no_use() {
    let mut image = long();
    image.put32(REFTABLE_CLUSTERS, 1 << 30);
    let (_directory, path) = image.write();
    let now = &json(&[], &path)["now"];
    // Without refcounts, what is in use has too low a one.
    assert_eq!(now["wrong"], serde_json::json!({"too-low": 7}), "{now:#}");
    assert_eq!(now["uses"]["free"], 113, "{now:#}");
}

#[needs(qemu)]
#[test]
fn counts_are_those_of_an_image_that_qemu_wrote() {
    let directory = tempfile::tempdir().expect("a folder");
    let path = directory.path().join("image");
    let create = ["create", "-q", "-f", "qcow2"];
    let options = create
        .map(OsStr::new)
        .into_iter()
        .chain([path.as_os_str(), OsStr::new("1G")]);
    assert!(
        Command::new("qemu-img")
            .args(options)
            .status()
            .expect("qemu-img")
            .success()
    );
    qemu_tool("qemu-io", &["-c", "write -q -P 90 0 1M"], &path);
    qemu_tool("qemu-img", &["snapshot", "-c", "one"], &path);
    qemu_tool("qemu-io", &["-c", "write -q -P 91 0 128k"], &path);
    qemu_tool("qemu-io", &["-c", "write -q -c -P 92 20M 64k"], &path);
    let now = &json(&[], &path)["now"];
    assert_eq!(now["wrong"], serde_json::json!({}));
    assert_eq!(
        now["uses"],
        serde_json::json!({
            "header": 1, "reftable": 1, "refblock": 1, "l1-table": 2, "l2-table": 2,
            "snapshot-table": 1, "data": 18, "compressed": 1,
        })
    );
    let said = qemu_img(&["--output=json"], &path).expect("qemu-img");
    let said: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(
        said["allocated-clusters"], 17,
        "the first 16, and the compressed one"
    );
    assert_eq!(said["compressed-clusters"], now["uses"]["compressed"]);
    let end = said["image-end-offset"].as_u64().expect("a number");
    let uses = now["uses"].as_object().expect("an object").values();
    let free = now["uses"]["free"].as_u64().unwrap_or(0);
    let all: u64 = uses.filter_map(Value::as_u64).sum();
    assert_eq!(
        all - free,
        end >> 16,
        "all of them are in use up to the end"
    );
}
