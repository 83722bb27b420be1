//! Runs a program under limits of time, memory and file size. It gets a process group of its own,
//! which is ended as a whole.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use recount_oracle::case::observed::Ended;

use crate::error::{At as _, Result};
use crate::process::{wait, which};

/// How long one program may take over one image.
pub const TIME: Duration = Duration::from_secs(20);
/// The signal that ends a program which exceeds the file size limit (SIGXFSZ).
pub const FILE_SIZE_EXCEEDED: i32 = 25;
/// The memory that a program may ask for, in bytes.
const MEMORY: u64 = 4 << 30;
/// How much longer a file may become than the image was, in bytes: room for every refcount
/// structure there can be. A reftable entry that leads far past the end makes qemu-img grow the
/// file to there.
const GROWTH: u64 = 256 << 20;
/// So much of what a program says is read, in bytes.
const SAID: u64 = 64 << 20;
/// Sets the limits, which hold from a program's first instruction on, and becomes the program.
/// Blocks are 512 bytes, memory is in KiB (POSIX, `ulimit`).
const LIMITED: &str = r#"ulimit -f "$1" && ulimit -v "$2" && ulimit -c 0 && shift 2 && exec "$@""#;

/// What a program may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From start to end.
    pub time: Duration,
    /// Length of each file that it writes, in bytes.
    pub file: u64,
    /// Memory that it may ask for, in bytes.
    pub memory: u64,
}

impl Limits {
    /// For work on an image of so many bytes.
    pub const fn for_image(length: u64) -> Self {
        Allowance::DEFAULT.for_image(length)
    }
}

/// What a program may use up over one image, whatever its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// From start to end.
    pub time: Duration,
    /// Memory that it may ask for, in bytes.
    pub memory: u64,
    /// How much longer each file may become than the image is, in bytes.
    pub growth: u64,
}

impl Allowance {
    /// What everyone may use up of whom nothing else is said.
    pub const DEFAULT: Self = Self {
        time: TIME,
        memory: MEMORY,
        growth: GROWTH,
    };

    /// For an image of so many bytes.
    pub const fn for_image(self, length: u64) -> Limits {
        let file = length.saturating_add(self.growth);
        Limits {
            time: self.time,
            // What the shell counts in.
            file: file.saturating_add(511) / 512 * 512,
            memory: self.memory,
        }
    }
}

/// What a program said and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub ended: Ended,
    /// What it said on standard output.
    pub stdout: String,
    /// What it said on standard error.
    pub stderr: String,
}

/// Runs `program` in the folder `directory`.
pub fn run<S: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = S>,
    directory: &Path,
    limits: &Limits,
) -> Result<Output> {
    // The shell would say so as well, but not apart from what a program says.
    which(program, directory)?;
    // Files, not pipes: nobody has to empty them while the program runs.
    let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut child = Command::new("sh")
        .args(["-c", LIMITED, "sh"])
        .arg((limits.file / 512).to_string())
        .arg((limits.memory / 1024).to_string())
        .arg(program)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        .process_group(0)
        .spawn()
        .at(program.display())?;
    let ended = match wait(&mut child, limits.time)? {
        None => Ended::TimedOut,
        Some(status) => status.code().map_or_else(
            || Ended::Signal(status.signal().unwrap_or_default()),
            Ended::Code,
        ),
    };
    Ok(Output {
        ended,
        stdout: content(stdout)?,
        stderr: content(stderr)?,
    })
}

fn content(mut file: File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(SAID).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_program_that_overstays_is_ended_with_its_group() {
        let folder = tempfile::tempdir().unwrap();
        let working = folder.path().canonicalize().unwrap();
        let limits = Limits {
            time: Duration::from_millis(500),
            ..Limits::for_image(0)
        };
        // The inner `timeout` starts `sleep`; both are in the group of the outer one.
        let arguments = "--foreground 1000 timeout --foreground 1000 sleep 987".split(' ');
        let output = run(Path::new("timeout"), arguments, &working, &limits).unwrap();
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
    fn a_program_that_fills_the_disk_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits {
            file: 1 << 20,
            ..Limits::for_image(0)
        };
        let arguments = ["if=/dev/zero", "of=filled", "bs=64k"];
        let output = run(Path::new("dd"), arguments, folder.path(), &limits).unwrap();
        assert_eq!(output.ended, Ended::Signal(FILE_SIZE_EXCEEDED));
        let filled = std::fs::metadata(folder.path().join("filled")).unwrap();
        assert_eq!(filled.len(), limits.file);
    }

    #[test]
    fn what_a_program_says_and_its_exit_code_come_back() {
        let limits = Limits::for_image(0);
        let output = run(Path::new("cat"), ["absent"], Path::new("."), &limits).unwrap();
        assert_eq!(output.ended, Ended::Code(1));
        assert!(output.stdout.is_empty() && output.stderr.contains("absent"));
    }
}
