//! The programs that are compared: qemu-img of some version, and recount.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use recount_oracle::case::observed::{Counters, Ended, Said};
use serde_json::Value;

use super::program::{self, CannotRun, Output};

/// How long one program may take over one image.
pub const LIMIT: Duration = Duration::from_secs(20);

/// The secret that every LUKS image of the harness is opened with.
pub const SECRET: &str = "secret,id=key,data=recount";

/// What kind of program a checker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    QemuImg { version: (u32, u32) },
    Recount,
}

/// A program with `qemu-img check`'s command line.
#[derive(Clone, Debug)]
pub struct Checker {
    path: PathBuf,
    kind: Kind,
}

/// What a check may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Nothing.
    None,
    /// `-r leaks`. recount keeps nothing for what it cannot follow, as qemu-img.
    Leaks,
    /// `-r all`, as the program does it by itself.
    All,
    /// `-r all` as qemu-img does it, by this algorithm, keeping nothing.
    Alike(Algorithm),
}

/// A rebuild algorithm that reproduces qemu-img's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// qemu-img 7.1 and later.
    FirstFit,
    /// qemu-img up to 7.0.
    Tail,
}

impl Algorithm {
    /// That of a version of qemu-img: major, minor.
    pub const fn of_qemu((major, minor): (u32, u32)) -> Self {
        if major > 7 || major == 7 && minor >= 1 {
            Self::FirstFit
        } else {
            Self::Tail
        }
    }

    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FirstFit => "first-fit",
            Self::Tail => "tail",
        }
    }
}

impl Checker {
    /// The program at `path`, whose `--version` says what it is.
    pub fn find(path: &Path) -> Result<Self, CannotRun> {
        let said = program::run(path, ["--version"], Path::new("."), LIMIT)?;
        let kind = match qemu_version(&said) {
            Some(version) => Kind::QemuImg { version },
            None if said.ended == Ended::Code(0) => Kind::Recount,
            None => {
                return Err(CannotRun {
                    program: path.to_owned(),
                    source: io::Error::other(said.stderr),
                });
            }
        };
        let path = path.to_owned();
        Ok(Self { path, kind })
    }

    /// Its name and version, for people.
    pub fn describe(&self) -> String {
        match self.kind {
            Kind::QemuImg { version } => format!("qemu-img {}.{}", version.0, version.1),
            Kind::Recount => "recount".to_owned(),
        }
    }

    /// The version of a qemu-img: major, minor.
    pub const fn version(&self) -> (u32, u32) {
        match self.kind {
            Kind::QemuImg { version } => version,
            Kind::Recount => (0, 0),
        }
    }

    /// Checks the image `file` in `directory`.
    pub fn check(
        &self,
        directory: &Path,
        file: &str,
        encrypted: bool,
        repair: Repair,
    ) -> Result<Said, CannotRun> {
        let arguments = self.arguments(file, encrypted, repair);
        program::run(&self.path, arguments, directory, LIMIT).map(said)
    }

    /// The arguments of a check.
    fn arguments(&self, file: &str, encrypted: bool, repair: Repair) -> Vec<String> {
        let mut arguments = vec!["check".to_owned(), "--output=json".to_owned()];
        let is_qemu = self.kind != Kind::Recount;
        match repair {
            Repair::None => {}
            Repair::Leaks => arguments.push("-rleaks".to_owned()),
            Repair::All | Repair::Alike(_) => arguments.push("-rall".to_owned()),
        }
        if let (Repair::Alike(algorithm), false) = (repair, is_qemu) {
            arguments.push(format!("--algorithm={}", algorithm.name()));
        }
        if matches!(repair, Repair::Leaks | Repair::Alike(_)) && !is_qemu {
            arguments.push("--release-unreachable".to_owned());
        }
        if is_qemu {
            // The image need not survive the power cut that no case has.
            arguments.push("-Tunsafe".to_owned());
        }
        if encrypted && is_qemu {
            // qemu-img opens no encrypted image without its key; recount never looks inside.
            let options = format!("driver=qcow2,file.filename={file},encrypt.key-secret=key");
            arguments.extend(["--object", SECRET, "--image-opts", &options].map(str::to_owned));
        } else {
            arguments.extend(["-fqcow2", file].map(str::to_owned));
        }
        arguments
    }
}

/// What a program printed, the JSON's numbers by name.
fn said(output: Output) -> Said {
    let counters = serde_json::from_str::<BTreeMap<String, Value>>(&output.stdout).ok();
    let number = |(name, value): (String, Value)| value.as_i64().map(|value| (name, value));
    Said {
        ended: output.ended,
        counters: counters.map(|all| Counters(all.into_iter().filter_map(number).collect())),
        stderr: output.stderr,
    }
}

/// The version in `qemu-img version 10.0.2 (Debian …)`.
fn qemu_version(output: &Output) -> Option<(u32, u32)> {
    let version = output.stdout.strip_prefix("qemu-img version ")?;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
