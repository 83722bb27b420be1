//! The folders that a report has about a program's failures: each is there, leads to the image that the
//! program got, and is led to by the report; a report leads with what came of each subject.

mod browser;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use recount_needs::needs;
use serde_json::Value;

/// Nothing is wrong with it. Its refcounts are in cluster 7.
const CASE: &str = r#"
version = 1

[case.image.synthetic]
version = 3
cluster_bits = 9
guest = [{ clusters = 4, content = "data" }]
"#;

/// Says that the header's cluster is free.
const BREAKS_COUNTS: &str = "it=dd if=/dev/zero of={image} bs=2 seek=1792 count=1 conv=notrunc";
/// Has the header lead to no refcount table.
const LOSES_TABLE: &str = "it=dd if=/dev/zero of={image} bs=8 seek=6 count=1 conv=notrunc";

fn xtask(arguments: &[&str], report: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(arguments).arg(report).output().unwrap()
}

/// Runs the case above; the output.
fn judged(folder: &Path, report: &Path) -> Output {
    let case = folder.join("case.toml");
    fs::write(&case, CASE).unwrap();
    let case = case.to_str().unwrap();
    let run = ["differential", "--subject", BREAKS_COUNTS, "--case", case];
    let output = xtask(&[&run[..], &["--report"]].concat(), report);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    output
}

/// The folders of a report's findings, which have to be those that its failures name.
fn findings(report: &Path) -> Vec<PathBuf> {
    let json = fs::read(report.join("report.json")).unwrap();
    let json: Value = serde_json::from_slice(&json).unwrap();
    let failures = json["failures"].as_array().unwrap().iter();
    let mut named: Vec<&str> = failures.filter_map(|one| one["finding"].as_str()).collect();
    named.sort_unstable();
    let folders = fs::read_dir(report.join("findings")).unwrap();
    let mut folders: Vec<PathBuf> = folders.map(|one| one.unwrap().path()).collect();
    folders.sort();
    let names = folders.iter().map(|path| path.file_name().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), named);
    folders
}

/// Runs the script of a finding elsewhere: it has to build the image.
fn assert_builds(finding: &Path) {
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.arg(finding.join("make.sh"));
    let output = command.current_dir(elsewhere.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let read = |folder: &Path| fs::read(folder.join("image.qcow2")).unwrap();
    let same = read(elsewhere.path()) == read(finding);
    assert!(same, "{}: other bytes", finding.display());
}

#[test]
fn a_report_leads_with_a_verdict_and_to_each_finding() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let output = judged(folder.path(), &report);
    let verdict = "it is not safe to use: it breaks 1 of 1 image with nothing wrong";
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(verdict), "{said}");
    let page = fs::read_to_string(report.join("index.html")).unwrap();
    let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text}: {page}"));
    assert!(place(verdict) < place("Properties by subjects"));
    let folders = findings(&report);
    assert_eq!(folders.len(), 2, "{folders:?}");
    for finding in &folders {
        let name = finding.file_name().unwrap().to_string_lossy();
        assert!(page.contains(&format!("href=\"findings/{name}/index.html\"")));
        assert_builds(finding);
    }
}

#[test]
fn a_finding_tells_what_was_run_and_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    judged(folder.path(), &report);
    let folders = findings(&report);
    let healthy = folders
        .iter()
        .find(|path| path.ends_with("it-healthy-stays-healthy-case-toml"));
    let readme = fs::read_to_string(healthy.unwrap().join("README.md")).unwrap();
    for said in [
        "# `it` breaks an image that has nothing wrong",
        "    dd if=/dev/zero of=image.qcow2 bs=2 seek=1792 count=1 conv=notrunc",
        "Nothing is wrong with it.",
        "cluster 0 has refcount 0 and 1 references",
        "Section \"Host cluster management\"",
        "records out",
    ] {
        assert!(readme.contains(said), "{said}: {readme}");
    }
    assert!(
        !readme.contains("recount") && !readme.contains("cargo"),
        "{readme}"
    );
}

#[test]
fn a_joined_report_has_the_findings_of_its_parts() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    judged(folder.path(), &at("part"));
    let part = at("part");
    let merge = ["report", "merge", part.to_str().unwrap(), "--output"];
    let joined = xtask(&merge, &at("joined"));
    assert_eq!(joined.status.code(), Some(1), "{joined:?}");
    let folders = findings(&at("joined"));
    assert_eq!(folders.len(), findings(&part).len());
    assert_builds(&folders[0]);
}

#[needs(qemu)]
#[test]
fn a_finding_of_an_image_of_qemu_repeats_its_commands() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    // A healthy image with a snapshot.
    let run = [
        "differential",
        "--only",
        "5:8",
        "--subject",
        LOSES_TABLE,
        "--report",
    ];
    let output = xtask(&run, &report);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let folders = findings(&report);
    assert!(!folders.is_empty());
    for finding in &folders {
        let script = fs::read_to_string(finding.join("make.sh")).unwrap();
        assert!(script.contains("    qemu-img create "), "{script}");
        assert!(script.contains("    qemu-img snapshot -c "), "{script}");
        assert_builds(finding);
    }
}

#[needs(qemu)]
#[test]
fn what_fails_with_clusters_of_64_kib_is_shown_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let run = ["differential", "--cases", "3", "--seed", "5"];
    let run = [&run[..], &["--only-subject", "--subject", LOSES_TABLE]].concat();
    let output = xtask(&[&run[..], &["--report"]].concat(), &report);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let folders = findings(&report);
    assert!(!folders.is_empty());
    for finding in &folders {
        let image = finding.join("image.qcow2");
        assert_eq!(fs::read(&image).unwrap()[20..24], [0, 0, 0, 16]);
        assert!(fs::metadata(&image).unwrap().blocks() * 512 <= 64 << 10);
    }
}

#[needs(browser)]
#[test]
fn the_page_of_a_finding_fits_wide_and_narrow_windows() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    judged(folder.path(), &report);
    let page = findings(&report)[0].join("index.html");
    let measure = r#"<script>document.title = "measured:" + JSON.stringify({
  overflows: document.documentElement.scrollWidth > window.innerWidth,
  wrong: document.querySelectorAll("tr.bad").length,
}) + ":end";</script>"#;
    let html = fs::read_to_string(&page).unwrap();
    assert!(!html.contains("<script"), "{html}");
    fs::write(&page, html + measure).unwrap();
    for width in [1_400, 520] {
        let seen = browser::measured(&page, width, &[]);
        assert_eq!(seen["overflows"], false, "{width} wide: {seen}");
        assert_eq!(seen["wrong"], 1, "one cluster is wrong afterwards: {seen}");
    }
}
