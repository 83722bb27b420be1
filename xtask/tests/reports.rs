//! Reports: what a folder may hold, that a run goes on where it stopped, and that shards joined are
//! the whole. All images are laid out by the harness; qemu-img takes part where it is installed.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn xtask(arguments: &[&str], report: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(arguments).arg(report).output().unwrap()
}

fn run(arguments: &[&str], report: &Path) -> Output {
    let fixed = ["differential", "--synthetic", "100", "--seed", "4"];
    xtask(&[&fixed, arguments, &["--report"]].concat(), report)
}

fn json(report: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(report.join("report.json")).unwrap()).unwrap()
}

/// The report without what differs from run to run.
fn results(report: &Path) -> Value {
    let mut json = json(report);
    json.as_object_mut().unwrap().remove("runs");
    json
}

#[test]
fn a_report_is_three_files() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("new/report");
    let output = run(&["--cases", "8"], &report);
    assert_ne!(output.status.code(), Some(2));
    let xml = std::fs::read_to_string(report.join("junit.xml")).unwrap();
    assert!(xml.contains("<testsuite name=\"recount\""), "{xml}");
    let page = std::fs::read_to_string(report.join("index.html")).unwrap();
    assert!(page.starts_with("<!doctype html>"), "{page}");
    assert_eq!(json(&report)["cases"], 8);
}

#[test]
fn a_folder_that_is_not_empty_is_refused_unless_it_may_be_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("precious"), "").unwrap();
    let refused = run(&["--cases", "1"], folder.path());
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("not empty") && said.contains("--overwrite"),
        "{said}"
    );
    let written = run(&["--cases", "1", "--overwrite"], folder.path());
    assert_ne!(written.status.code(), Some(2));
    assert!(folder.path().join("precious").exists());
}

#[test]
fn shards_joined_are_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let whole = at("whole");
    run(&["--cases", "40"], &whole);
    for shard in ["1/3", "2/3", "3/3"] {
        run(&["--cases", "40", "--shard", shard], &at(&shard[..1]));
    }
    let parts = [at("1"), at("2"), at("3")];
    let parts = parts.each_ref().map(|path| path.to_str().unwrap());
    let merge = [&["report", "merge"], &parts[..], &["--output"]].concat();
    let merged = xtask(&merge, &at("merged"));
    assert_ne!(merged.status.code(), Some(2), "{merged:?}");
    assert_eq!(json(&at("merged"))["runs"].as_array().unwrap().len(), 3);
    let (whole, merged) = (results(&whole), results(&at("merged")));
    for part in [
        "cases",
        "synthetic",
        "properties",
        "comparisons",
        "on_purpose",
    ] {
        assert_eq!(whole[part], merged[part], "{part}");
    }
    assert_eq!(whole["cases"], 40);
}

#[test]
fn a_run_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (stopped, whole) = (folder.path().join("stopped"), folder.path().join("whole"));
    run(&["--cases", "16"], &stopped);
    let resume = [
        "differential",
        "--synthetic",
        "100",
        "--cases",
        "40",
        "--resume",
        "--report",
    ];
    let output = xtask(&resume, &stopped);
    assert_ne!(output.status.code(), Some(2), "{output:?}");
    run(&["--cases", "40"], &whole);
    assert_eq!(
        results(&stopped)["properties"],
        results(&whole)["properties"]
    );
    assert_eq!(results(&stopped)["cases"], 40);
    assert_eq!(
        json(&stopped)["runs"][0]["done"],
        json(&whole)["runs"][0]["done"]
    );
}

#[test]
fn what_is_no_report_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("merged");
    let merge = |from: &Path| {
        let from = from.to_str().unwrap();
        xtask(&["report", "merge", from, "--output"], &output)
    };
    let missing = merge(&folder.path().join("none"));
    assert_eq!(missing.status.code(), Some(2));
    std::fs::write(folder.path().join("report.json"), "{\"version\": 99}").unwrap();
    let other = merge(folder.path());
    assert_eq!(other.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&other.stderr).contains("version 99"));
}
