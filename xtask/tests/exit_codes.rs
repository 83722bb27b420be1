//! A command that cannot run says why and exits with 2, so that no script takes it for a result.

use std::process::{Command, Output};

fn xtask(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(arguments).output().unwrap()
}

fn assert_cannot_run(arguments: &[&str], message: &str) {
    let output = xtask(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(message), "{said}");
}

#[test]
fn an_unknown_task_cannot_run() {
    assert_cannot_run(&["differental"], "differental");
}

#[test]
fn a_missing_qemu_img_that_is_required_cannot_run() {
    let arguments = [
        "differential",
        "--require-qemu",
        "--qemu-img",
        "/no/such/qemu-img",
    ];
    assert_cannot_run(&arguments, "apt-get install qemu-utils");
}

#[test]
fn a_case_of_a_seed_cannot_run_without_qemu_img() {
    let arguments = [
        "differential",
        "--only",
        "1:2",
        "--qemu-img",
        "/no/such/qemu-img",
    ];
    assert_cannot_run(&arguments, "/no/such/qemu-img");
}

#[test]
fn what_is_no_qemu_img_is_not_taken_for_one() {
    let arguments = ["differential", "--qemu-img", "/bin/true"];
    assert_cannot_run(&arguments, "/bin/true is no qemu-img");
}

#[test]
fn a_missing_recount_cannot_run() {
    let arguments = ["differential", "--recount", "/no/such/recount"];
    assert_cannot_run(&arguments, "/no/such/recount");
}

#[test]
fn a_missing_subject_cannot_run() {
    let arguments = [
        "differential",
        "--synthetic",
        "100",
        "--subject",
        "mine=no-such-tool --repair {image}",
    ];
    assert_cannot_run(&arguments, "no-such-tool");
}

#[test]
fn a_subject_without_an_image_cannot_run() {
    assert_cannot_run(&["differential", "--subject", "mine=tool"], "{image}");
}

#[test]
fn two_subjects_of_one_name_cannot_run() {
    let mut arguments = vec!["differential"];
    arguments.extend(["--subject", "a=true {image}"].repeat(2));
    assert_cannot_run(&arguments, "`a`");
}

#[test]
fn a_shard_that_is_none_cannot_run() {
    assert_cannot_run(&["differential", "--shard", "4/3"], "K/N");
}

#[test]
fn a_malformed_case_cannot_run() {
    assert_cannot_run(&["differential", "--only", "1-2"], "SEED:INDEX");
}

#[test]
fn a_recorded_case_that_is_none_cannot_run() {
    let file = env!("CARGO_MANIFEST_DIR").to_owned() + "/Cargo.toml";
    let arguments = ["differential", "--recount", "true", "--case", &file];
    assert_cannot_run(&arguments, "Cargo.toml:1:1: missing field `version`");
}
