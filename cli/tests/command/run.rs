//! Runs the program and qemu-img, and looks at a file before and after.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};

use recount_needs::required;

/// How a program ended and what it printed.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("text on standard output"),
            stderr: String::from_utf8(output.stderr).expect("text on standard error"),
        }
    }
}

impl Run {
    /// The output as qemu-img has it: JSON without the last field, `recount`, which has to be there.
    pub fn as_of_qemu_img(&self) -> String {
        let is_json = self.stdout.starts_with('{');
        let Some((fields, _)) = self.stdout.split_once(",\n    \"recount\": {") else {
            assert!(!is_json, "{self:?}");
            return self.stdout.clone();
        };
        let json: serde_json::Value = serde_json::from_str(&self.stdout).expect("JSON");
        assert_eq!(json["recount"]["version"], 1, "{self:?}");
        format!("{fields}\n}}\n")
    }
}

/// Runs `recount check`.
pub fn recount(options: &[&str], file: impl AsRef<OsStr>) -> Run {
    let options = options.iter().map(AsRef::as_ref);
    let words = [OsStr::new("check")].into_iter().chain(options);
    command(words.chain([file.as_ref()]))
}

/// Runs the program; a panic of it is a failure wherever it happens.
pub fn command<'a>(words: impl IntoIterator<Item = &'a OsStr>) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_recount"))
        .args(words)
        .output()
        .expect("the program starts");
    let run = Run::from(output);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    assert!(run.code.is_some(), "ended by a signal: {}", run.stderr);
    run
}

/// Runs `qemu-img check`; `None` where it is not installed and need not be.
pub fn qemu_img(options: &[&str], file: impl AsRef<OsStr>) -> Option<Run> {
    let output = Command::new("qemu-img")
        .arg("check")
        .args(options)
        .arg(file.as_ref())
        .output();
    match output {
        Err(error) if required!(qemu) => panic!("qemu-img: {error}"),
        output => output.ok().map(Run::from),
    }
}

/// Runs a tool of qemu's with arguments that must succeed.
pub fn qemu_tool(tool: &str, arguments: &[&str], file: &Path) {
    let output = Command::new(tool).args(arguments).arg(file).output();
    let output = output.unwrap_or_else(|error| panic!("{tool}: {error}"));
    assert!(
        output.status.success(),
        "{tool}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What must stay the same when nothing is written: the bytes and the times of a file.
#[derive(PartialEq, Eq)]
pub struct Untouched {
    bytes: Vec<u8>,
    times: [i64; 4],
}

impl Untouched {
    pub fn of(file: &Path) -> Self {
        let bytes = fs::read(file).expect("a readable file");
        let metadata = fs::metadata(file).expect("a file");
        Self {
            bytes,
            times: [
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.ctime(),
                metadata.ctime_nsec(),
            ],
        }
    }

    pub fn assert_still(&self, file: &Path, what: &str) {
        let now = Self::of(file);
        assert!(now.bytes == self.bytes, "{what}: bytes were written");
        assert_eq!(now.times, self.times, "{what}: the file was touched");
    }
}
