//! Starting programs: cargo, git, fuzz targets.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::error::{At as _, Result};

/// The cargo that started this program, if one did.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Whether a command can be run and succeeds; it says nothing.
pub fn succeeds(command: &mut Command) -> bool {
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a command that has to succeed, and says what it says.
pub fn check(command: &mut Command) -> Result<()> {
    let status = command.status().at(format!("{command:?}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("{command:?} failed").into())
}

/// Installs a command of cargo where it is missing.
pub fn have(command: &str) -> Result<()> {
    if succeeds(Command::new("cargo").args([command, "--version"])) {
        return Ok(());
    }
    eprintln!("cargo-{command} is missing; installing it");
    let name = format!("cargo-{command}");
    check(Command::new("cargo").args(["install", "--locked", &name]))
}

/// The output of a command that has to succeed.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().at(command.get_program().display())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.trim().lines().last().unwrap_or_default();
        return Err(format!("{command:?}: {}: {last}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Builds the program `recount` of a tree by a profile of cargo, in a target directory of its own if
/// one is given; where it is.
pub fn build_recount(profile: &str, tree: &Path, target: Option<&Path>) -> Result<PathBuf> {
    let mut command = cargo();
    if let Some(target) = target {
        command.env("CARGO_TARGET_DIR", std::path::absolute(target)?);
    }
    command
        .current_dir(tree)
        .args([
            "build",
            "--quiet",
            "--workspace",
            "--bin",
            "recount",
            "--profile",
            profile,
        ])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit());
    let output = command.output().at("cargo")?;
    // Each line of output is one message; that of the program names it.
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut messages = messages.lines().flat_map(serde_json::from_str::<Value>);
    let program = messages.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    Ok(program.ok_or("cargo build --bin recount failed")?)
}

/// Builds the program `recount` of this tree, as it is measured.
pub fn build_release() -> Result<PathBuf> {
    build_recount("release", Path::new("."), None)
}
