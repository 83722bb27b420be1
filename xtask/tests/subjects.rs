//! Programs that do not do what they should are found out, each under its right name: they repair
//! an image without refcount structures, laid out by the harness, so that no qemu-img is needed.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

use recount_needs::needs;
use serde_json::Value;
use tempfile::TempDir;

/// 512-byte clusters; cluster 5 is the second of four data clusters.
const CASE: &str = r#"
version = 1

[case.image.synthetic]
version = 3
cluster_bits = 9
structures = "absent"
guest = [{ clusters = 4, content = "data" }]
"#;

/// Runs the case with a subject named `it` alone; the output and the report.
fn judged(command: &str) -> (Output, Value) {
    judged_with(&["--only-subject", "--subject", &format!("it={command}")])
}

/// The same image, with its refcount structures.
fn undamaged() -> String {
    CASE.replace("structures = \"absent\"\n", "")
}

/// Runs the case with these options; the output and the report.
fn judged_with(options: &[&str]) -> (Output, Value) {
    judged_on(CASE, options)
}

/// Runs a case with these options; the output and the report.
fn judged_on(text: &str, options: &[&str]) -> (Output, Value) {
    let folder = TempDir::new().unwrap();
    let case = folder.path().join("case.toml");
    fs::write(&case, text).unwrap();
    let report = folder.path().join("report");
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["differential", "--subject-time", "3s", "--case"])
        .arg(&case)
        .args(options)
        .arg("--report")
        .arg(&report)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let json = fs::read(report.join("report.json"));
    let json = json.unwrap_or_else(|error| panic!("{error}: {said}"));
    (output, serde_json::from_slice(&json).unwrap())
}

/// What is said of a subject under this property.
fn story<'a>(report: &'a Value, subject: &str, property: &str) -> &'a str {
    let failures = report["failures"].as_array().unwrap().iter();
    let mut of_it =
        failures.filter(|failure| failure["subject"] == subject && failure["counts"] == true);
    let found = of_it.find(|failure| failure["what"] == property);
    found.map_or("", |failure| failure["story"].as_str().unwrap())
}

fn assert_found_out(command: &str, property: &str, name: &str) {
    let (output, report) = judged(command);
    assert_eq!(output.status.code(), Some(1), "{command}");
    let story = story(&report, "it", property);
    assert!(story.contains(name), "{command}: {property}: {story:?}");
}

#[test]
fn a_subject_that_copies_the_image_repairs_nothing() {
    let copy = "sh -c 'cp \"$1\" copy && cp copy \"$1\"' sh {image}";
    assert_found_out(copy, "repairs", "repairs nothing");
}

#[test]
fn a_subject_that_fails_after_it_has_written_has_not_declined() {
    let append = "sh -c 'echo >>\"$1\"; echo no idea; exit 1' sh {image}";
    assert_found_out(append, "repairs", "changed the image and failed then");
    // Whatever it said is part of the story.
    assert_found_out(append, "repairs", "no idea");
}

#[test]
fn a_subject_that_cuts_the_file_is_told_what_that_breaks() {
    let (output, report) = judged_on(&undamaged(), &["--subject", "it=truncate -s 4096 {image}"]);
    assert_eq!(output.status.code(), Some(1));
    let broken = story(&report, "it", "healthy-stays-healthy");
    assert!(broken.contains("past the end of the file"), "{broken:?}");
}

#[test]
fn a_subject_that_declines_every_image_was_not_judged() {
    let (output, report) = judged("/bin/false {image}");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("it declined every image"), "{said}");
    assert_eq!(report["properties"]["it"]["repairs"]["declined"], 1);
    assert_eq!(story(&report, "it", "repairs"), "");
    let (output, report) = judged_with(&["--subject", "it=/bin/false {image}", "--must-repair"]);
    assert_eq!(output.status.code(), Some(1));
    let story = story(&report, "it", "repairs");
    assert!(story.contains("repairs nothing"), "{story:?}");
}

#[test]
fn a_subject_that_breaks_an_undamaged_image_is_told_so() {
    // The first refcount of the refblock, which is cluster 7.
    let zero = "it=dd if=/dev/zero of={image} bs=2 seek=1792 count=1 conv=notrunc";
    let (output, report) = judged_on(&undamaged(), &["--subject", zero]);
    assert_eq!(output.status.code(), Some(1));
    let broken = story(&report, "it", "healthy-stays-healthy");
    assert!(
        broken.contains("an undamaged image is broken"),
        "{broken:?}"
    );
    // One that changes nothing and says so is as good as one that finds nothing to do.
    let (_, report) = judged_on(&undamaged(), &["--subject", "it=/bin/true {image}"]);
    let healthy = &report["properties"]["it"]["healthy-stays-healthy"];
    assert_eq!(healthy["passed"], 1, "{report:#}");
}

#[needs(qemu)]
#[test]
fn a_refcount_that_is_too_low_is_shown_to_lose_data() {
    let more = "content = \"data\" }, { skip = 8, clusters = 1, content = \"data\" }";
    let image = undamaged().replace("content = \"data\" }", more);
    // That of cluster 6, which is guest cluster 3, in the refblock, which is cluster 8.
    let zero = "it=dd if=/dev/zero of={image} bs=2 seek=2054 count=1 conv=notrunc";
    let (_, report) = judged_on(&image, &["--subject", zero]);
    let wrong = story(&report, "it", "counts-every-cluster");
    let lost =
        "once qemu-io has written to the image: guest cluster 3 of the active layer had data";
    assert!(wrong.contains(lost), "{wrong:?}");
}

#[test]
fn a_subject_is_judged_without_a_qemu_img_as_well() {
    let programs = TempDir::new().unwrap();
    for name in ["true", "sh"] {
        std::os::unix::fs::symlink(format!("/bin/{name}"), programs.path().join(name)).unwrap();
    }
    let recount = recount();
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["differential", "--cases", "16", "--seed", "1", "--recount"])
        .arg(recount)
        .args(["--subject", "it=true {image}"])
        .args(["--subject", "other=sh -c 'exit 1' {image}", "--report"])
        .arg(programs.path().join("report"))
        .env("PATH", programs.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said} {output:?}");
    assert!(said.contains("no qemu-img"), "{said}");
    assert!(said.contains("it: repairs, and "), "{said}");
    assert!(said.contains(" more alike"), "{said}");
    // A command to run a case again names the one program concerned.
    let mut reruns = said.lines().filter(|line| line.contains("rerun: "));
    assert!(reruns.clone().count() > 0, "{said}");
    let names_it_alone = |line: &str| line.contains("it=") && !line.contains("other=");
    assert!(reruns.all(names_it_alone), "{said}");
    assert!(said.contains("16 cases (16 synthetic)"), "{said}");
}

#[test]
fn a_subject_that_zeroes_a_data_cluster_damages_data() {
    let zero = "dd if=/dev/zero of={image} bs=512 seek=5 count=1 conv=notrunc";
    assert_found_out(zero, "keeps-guest-data", "damages data");
}

#[test]
fn a_subject_that_changes_a_setting_of_the_header_is_told_which() {
    let lazy = r#"sh -c 'printf "\001" | dd of="$1" bs=1 seek=87 conv=notrunc' sh {image}"#;
    assert_found_out(lazy, "keeps-header-settings", "lazy refcounts");
}

#[test]
fn a_subject_that_sleeps_is_a_timeout() {
    assert_found_out("sh -c 'sleep 987' sh {image}", "ends", "timeout");
}

#[test]
fn a_subject_may_ask_for_as_much_memory_as_it_is_given() {
    // The shell's own limit, in KiB: what it could not have it could not start a program with.
    let asks = "it=sh -c 'test $(ulimit -v) = 524288 || echo no >\"$1\"' sh {image}";
    let (_, report) = judged_with(&["--subject", asks, "--subject-memory", "512"]);
    assert_eq!(story(&report, "it", "keeps-guest-data"), "");
    let (_, report) = judged_with(&["--subject", asks]);
    assert_ne!(story(&report, "it", "keeps-guest-data"), "");
}

#[test]
fn a_subject_that_fills_the_disk_makes_a_runaway_file() {
    let fill = "sh -c 'cat /dev/zero >> \"$1\"' sh {image}";
    assert_found_out(fill, "ends", "runaway file");
}

#[test]
fn a_subject_that_kills_itself_crashes() {
    let kill = "sh -c 'kill -9 $$' sh {image}";
    assert_found_out(kill, "ends", "crash: killed by signal 9");
}

#[test]
fn a_recount_that_does_not_put_back_all_it_has_replaced_is_found_out() {
    let folder = TempDir::new().unwrap();
    let program = folder.path().join("recount");
    let real = recount();
    let undoes = "case $1 in undo) \"$recount\" \"$@\"; echo >>image.qcow2; exit;; esac";
    let script = format!(
        "#!/bin/sh\nrecount='{}'\n{undoes}\nexec \"$recount\" \"$@\"\n",
        real.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let (output, report) = judged_with(&["--recount", program.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = story(&report, "recount", "undo-restores");
    assert!(
        said.contains("the image differs by"),
        "{said:?}: {report:#}"
    );
}

#[test]
fn a_subject_that_repairs_is_not_blamed() {
    let recount = recount();
    let subject = format!("it={} check -q -r all {{image}}", recount.display());
    let (output, report) = judged_with(&["--subject", &subject]);
    let failures = &report["failures"];
    assert_eq!(output.status.code(), Some(0), "{failures:#}");
    let properties = &report["properties"]["it"];
    assert_eq!(
        properties["counts-every-cluster"]["passed"], 1,
        "{properties}"
    );
    assert_eq!(properties["repairs"]["passed"], 1);
    let properties = &report["properties"]["recount"];
    assert_eq!(properties["undo-restores"]["passed"], 1, "{properties}");
}

/// Data in four ranges, all refcounts of the first two of which are the largest there are.
fn two_bad_refblocks() -> String {
    let spread = "allocation = { one-a-range = { place = 7 } }\nguest";
    let ones = |refblock| {
        format!("[[case.damage]]\nrefblock = {{ refblock = {refblock}, becomes = \"ones\" }}\n")
    };
    undamaged().replace("guest", spread) + &ones(0) + &ones(1)
}

#[test]
fn a_subject_that_repairs_the_first_refblock_only_is_told_what_is_left() {
    // Refblocks begin with cluster 1.
    let first = format!(
        "sh -c 'cp \"$1\" whole; {} check -q -r all whole; \
         dd if=whole of=\"$1\" bs=512 skip=1 seek=1 count=1 conv=notrunc' sh {{image}}",
        recount().display()
    );
    let subject = ["--subject", &format!("it={first}")];
    let (output, report) = judged_on(&two_bad_refblocks(), &subject);
    assert_eq!(output.status.code(), Some(1));
    let said = story(&report, "it", "counts-every-cluster");
    assert!(
        said.contains("the refcount of cluster 263 is 65535"),
        "{said:?}"
    );
}

#[test]
fn a_subject_that_is_slow_and_right_is_not_blamed() {
    let slow = format!(
        "it=sh -c 'sleep 1; {} check -q -r all \"$1\"' sh {{image}}",
        recount().display()
    );
    let (output, report) = judged_on(&two_bad_refblocks(), &["--subject", &slow]);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!(report["properties"]["it"]["ends"]["passed"], 1);
}

/// What a check is found to say of an image.
fn checked(image: &str, command: &str) -> (Output, Value) {
    let check = format!("it={command}");
    judged_on(image, &["--only-subject", "--subject-check", &check])
}

#[test]
fn a_check_that_says_what_is_not_so_is_found_out() {
    let changes = "sh -c 'printf x >>\"$1\"' sh {image}";
    let counts = "sh -c 'echo {\\\"corruptions\\\": 1}; exit 2' sh {image}";
    let undamaged = undamaged();
    for (image, command, says) in [
        (CASE, "true {image}", "the check finds nothing wrong, but"),
        (CASE, counts, "the check counts 1 corruptions; there are 12"),
        (&*undamaged, changes, "the check changed the image"),
        (
            &undamaged,
            "sh -c 'exit 2' {image}",
            "an undamaged image is broken",
        ),
        (
            &undamaged,
            "sh -c 'sleep 987' sh {image}",
            "did not end by itself",
        ),
    ] {
        let (output, report) = checked(image, command);
        assert_eq!(output.status.code(), Some(1), "{command}");
        let said = story(&report, "it", "checks-rightly");
        assert!(said.contains(says), "{command}: {said:?}");
    }
}

#[test]
fn a_check_that_is_right_or_that_declines_is_not_blamed() {
    let check = format!("{} check --output=json {{image}}", recount().display());
    for image in [CASE, &undamaged()] {
        let (output, report) = checked(image, &check);
        assert_eq!(output.status.code(), Some(0), "{report:#}");
        assert_eq!(report["properties"]["it"]["checks-rightly"]["passed"], 1);
        let properties = report["properties"].as_object().unwrap();
        assert!(!properties.contains_key("recount"), "it was left out");
    }
    let (_, report) = checked(&undamaged(), "sh -c 'echo no such feature; exit 1' {image}");
    assert_eq!(report["properties"]["it"]["checks-rightly"]["declined"], 1);
}

#[test]
fn a_program_with_every_algorithm_takes_part_three_times() {
    let line = format!(
        "it={} check -q -r all --algorithm {{algorithm}} {{image}}",
        recount().display()
    );
    let (output, report) = judged_with(&["--only-subject", "--subject", &line]);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    for name in ["it planned", "it first-fit", "it tail"] {
        assert_eq!(report["properties"][name]["repairs"]["passed"], 1, "{name}");
    }
}

#[test]
fn a_subject_may_make_the_file_longer_by_as_much_as_it_is_given() {
    let grows = ["--subject", "it=truncate -s +2M {image}"];
    let (_, report) = judged_with(&grows);
    assert_eq!(story(&report, "it", "ends"), "");
    let (_, report) = judged_with(&[&grows[..], &["--subject-growth", "1"]].concat());
    assert!(story(&report, "it", "ends").contains("runaway file"));
}

#[needs(loop)]
#[test]
fn a_subject_that_takes_devices_is_given_one() {
    let works = format!("works={} check -q -r all {{image}}", recount().display());
    let fails = "fails=sh -c 'test ! -b \"$1\"' sh {image}";
    let subjects = ["--subject", &works, "--subject", fails, "--subject-device"];
    let spread = "allocation = { one-a-range = { place = 7 } }\nguest";
    let (_, report) = judged_on(&CASE.replace("guest", spread), &subjects);
    let fits = |name: &str| &report["properties"][name]["fits-when-possible"];
    assert_eq!(fits("works")["failed"], 0, "{report:#}");
    assert_eq!(fits("works")["passed"], 1, "{report:#}");
    assert_eq!(fits("fails")["failed"], 1, "{report:#}");
}

#[needs(fuse)]
#[test]
fn power_cuts_are_judged_of_any_program() {
    let safe = format!("safe={} check -q -r all {{image}}", recount().display());
    // The reftable's place is written first and flushed, then the reftable, in cluster 7.
    let torn = r#"torn=sh -c 'w() { dd of="$1" bs=1 seek=$2 conv=notrunc,fsync status=none; }
        printf "\0\0\0\0\0\0\016\0\0\0\0\001" | w "$1" 48
        printf "\0\0\0\0\0\0\020\0" | w "$1" 3584
        printf "\0\1\0\1\0\1\0\1\0\1\0\1\0\1\0\1\0\1" | w "$1" 4096
        truncate -s 4608 "$1"' sh {image}"#;
    let (_, report) = judged_with(&["--subject", &safe, "--subject", torn]);
    let cuts = |name: &str| &report["properties"][name]["crash-atomic"];
    assert_eq!(cuts("safe")["passed"], 1, "{report:#}");
    assert_eq!(cuts("torn")["failed"], 1, "{report:#}");
}

/// The program, built like this test: by `cargo test` beside it, or now where it is older than its
/// source. Built alone it takes a minute, as its dependencies then have other features.
fn recount() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_xtask")).with_file_name("recount");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/src");
    let built = modified(&beside);
    if built.is_none() || built < newest(&source) {
        let mut build = Command::new(std::env::var_os("CARGO").expect("started by cargo"));
        build.args(["build", "--quiet", "--workspace", "--bin", "recount"]);
        assert!(build.status().is_ok_and(|status| status.success()));
    }
    beside
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|found| found.modified()).ok()
}

/// When something in the folder was changed last.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = folder.read_dir().ok()?.flatten();
    let times = entries.map(|entry| match entry.path() {
        path if path.is_dir() => newest(&path),
        path => modified(&path),
    });
    times.max().flatten()
}
