//! Runs a program under a time limit and a memory limit. A program that overstays is ended with its
//! whole process group.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use recount_oracle::case::observed::Ended;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, kill_process_group, pidfd_open, prlimit,
};

/// The memory that a program may ask for, in bytes: a reftable entry in the wrong place makes
/// qemu-img grow the file, and count its clusters, without end.
const MOST_MEMORY: u64 = 4 << 30;

/// What a program said and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub ended: Ended,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// A program could not be run at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot run {}: {source}", program.display())]
pub struct CannotRun {
    /// Which.
    pub program: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Runs `program` in the folder `directory` for at most `limit`.
pub fn run<S: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = S>,
    directory: &Path,
    limit: Duration,
) -> Result<Output, CannotRun> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory);
    execute(&mut command, limit).map_err(|source| CannotRun {
        program: program.to_owned(),
        source,
    })
}

fn execute(command: &mut Command, limit: Duration) -> io::Result<Output> {
    // Files, not pipes: nobody has to empty them while the program runs.
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        .process_group(0)
        .spawn()?;
    let ended = supervise(&mut child, limit);
    if ended.is_err() {
        child.kill()?;
        child.wait()?;
    }
    Ok(Output {
        ended: ended?,
        stdout: content(&mut stdout)?,
        stderr: content(&mut stderr)?,
    })
}

fn supervise(child: &mut Child, limit: Duration) -> io::Result<Ended> {
    let pid = Pid::from_child(child);
    let memory = Rlimit {
        current: Some(MOST_MEMORY),
        maximum: Some(MOST_MEMORY),
    };
    // It may have ended already.
    let _ = prlimit(Some(pid), Resource::As, memory);
    if !ends_within(pid, limit)? {
        kill_process_group(pid, Signal::KILL)?;
        child.wait()?;
        return Ok(Ended::TimedOut);
    }
    let status = child.wait()?;
    Ok(status.code().map_or_else(
        || Ended::Signal(status.signal().unwrap_or_default()),
        Ended::Code,
    ))
}

fn ends_within(pid: Pid, limit: Duration) -> io::Result<bool> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut waiting = [PollFd::new(&pidfd, PollFlags::IN)];
        match poll(&mut waiting, Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn content(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> &'static Path {
        Path::new(".")
    }

    #[test]
    fn a_program_that_overstays_is_ended() {
        let begin = Instant::now();
        let limit = Duration::from_millis(50);
        let output = run(Path::new("sleep"), ["1000"], here(), limit).unwrap();
        assert_eq!(output.ended, Ended::TimedOut);
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn the_group_of_a_program_that_overstays_is_ended_too() {
        let folder = tempfile::tempdir().unwrap();
        let working = folder.path().canonicalize().unwrap();
        let limit = Duration::from_millis(500);
        // The inner `timeout` starts `sleep`; both are in the group of the outer one.
        let arguments = [
            "--foreground",
            "1000",
            "timeout",
            "--foreground",
            "1000",
            "sleep",
            "987",
        ];
        let output = run(Path::new("timeout"), arguments, &working, limit).unwrap();
        assert_eq!(output.ended, Ended::TimedOut);
        // Killed, but perhaps not gone yet: nobody here is its parent.
        let deadline = Instant::now() + Duration::from_secs(10);
        while sleeps_in(&working) > 0 {
            assert!(Instant::now() < deadline, "a grandchild is still there");
            std::thread::yield_now();
        }
    }

    fn sleeps_in(folder: &Path) -> usize {
        let processes = std::fs::read_dir("/proc").unwrap();
        let sleeps = processes.filter_map(|entry| {
            let process = entry.ok()?.path();
            let command = std::fs::read(process.join("cmdline")).ok()?;
            let here = std::fs::read_link(process.join("cwd")).ok()?;
            (here == folder && command.starts_with(b"sleep\0")).then_some(())
        });
        sleeps.count()
    }

    #[test]
    fn what_a_program_says_and_its_exit_code_come_back() {
        let output = run(
            Path::new("cat"),
            ["absent"],
            here(),
            Duration::from_secs(10),
        )
        .unwrap();
        assert_eq!(output.ended, Ended::Code(1));
        assert!(output.stdout.is_empty() && output.stderr.contains("absent"));
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let missing = run(
            Path::new("./no-such"),
            ["x"],
            here(),
            Duration::from_secs(1),
        );
        assert!(missing.unwrap_err().to_string().contains("./no-such"));
    }
}
