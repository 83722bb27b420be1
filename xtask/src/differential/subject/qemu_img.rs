//! A program with the command line of `qemu-img check`: qemu-img of some version, or recount.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::observed::{Counters, Ended, Said};
use serde_json::Value;

use super::program::{self, CannotRun, Limits, Output};
use super::{Bench, CaseError, Repair, Repaired, Subject};

/// The file that it works on.
const FILE: &str = "image.qcow2";

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

impl Checker {
    /// The program at `path`, whose `--version` says what it is.
    pub fn find(path: &Path) -> Result<Self, CannotRun> {
        // Programs run in folders of their own.
        let path = &if path.components().count() > 1 {
            path.canonicalize().map_err(|source| CannotRun {
                program: path.to_owned(),
                source,
            })?
        } else {
            path.to_owned()
        };
        let limits = Limits::for_image(0);
        let said = program::run(path, ["--version"], Path::new("."), &limits)?;
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

    /// The program.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name and version, for people.
    pub fn describe(&self) -> String {
        match self.kind {
            Kind::QemuImg { version } => format!("qemu-img {}.{}", version.0, version.1),
            Kind::Recount => "recount check".to_owned(),
        }
    }

    /// The version of a qemu-img: major, minor.
    pub const fn version(&self) -> (u32, u32) {
        match self.kind {
            Kind::QemuImg { version } => version,
            Kind::Recount => (0, 0),
        }
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

impl Subject for Checker {
    fn name(&self) -> String {
        self.describe()
    }

    fn run(
        &self,
        bench: Bench<'_>,
        image: &SparseBytes,
        repair: Repair,
    ) -> Result<Repaired, CaseError> {
        let limits = Limits::for_image(image.len());
        let arguments = self.arguments(FILE, bench.encrypted, repair);
        bench.in_file(FILE, image, || {
            program::run(&self.path, arguments, bench.directory, &limits).map(said)
        })
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
