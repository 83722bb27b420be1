//! Starting programs: cargo, git, qemu-img, fuzz targets.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Access;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
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

/// Waits for a child with a process group of its own, and ends what is left of the group; `None` when
/// the time was up.
pub fn wait(child: &mut Child, time: Duration) -> Result<Option<ExitStatus>> {
    let pid = Pid::from_child(child);
    let in_time = ends_within(pid, time);
    // Until it is waited for, the number of its group is nobody else's.
    let _ = kill_process_group(pid, Signal::KILL);
    let status = child.wait()?;
    Ok(in_time?.then_some(status))
}

fn ends_within(pid: Pid, limit: Duration) -> Result<bool> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left)?;
        let mut waiting = [PollFd::new(&pidfd, PollFlags::IN)];
        match poll(&mut waiting, Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The file that a shell in the folder `directory` would run.
pub fn which(program: &Path, directory: &Path) -> Result<PathBuf> {
    let runs = |path: &Path| rustix::fs::access(path, Access::EXEC_OK).is_ok() && path.is_file();
    let missing = || format!("cannot run {}: there is no such program", program.display());
    if program.components().count() > 1 {
        let path = directory.join(program);
        return Ok(path
            .canonicalize()
            .ok()
            .filter(|path| runs(path))
            .ok_or_else(missing)?);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A program may look at the name that it was called by.
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(program));
    Ok(places.find(|path| runs(path)).ok_or_else(missing)?)
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
            "--package",
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
    Ok(program.ok_or("cargo build --package recount failed")?)
}

/// Builds the program `recount` of this tree, as it is measured.
pub fn build_release() -> Result<PathBuf> {
    build_recount("release", Path::new("."), None)
}
