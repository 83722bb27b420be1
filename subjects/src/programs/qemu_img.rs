//! A program with the command line of `qemu-img check`: qemu-img of some version, or recount.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::observed::{Ended, Said};
use serde_json::Value;

use super::program::{self, Limits, Output};
use super::{Bench, Repair, Repaired, Subject};
use crate::error::Result;
use crate::process::which;

/// The file that it works on.
const FILE: &str = "image.qcow2";

/// What a repair has replaced, beside the image.
const UNDO: &str = "image.undo";

/// The secret that every LUKS image of the harness is opened with.
pub const SECRET: &str = "secret,id=key,data=recount";

/// How a program of qemu is told of an image; it opens no encrypted one without its key.
pub fn image_arguments(file: &str, encrypted: bool) -> Vec<String> {
    let key = format!("driver=qcow2,file.filename={file},encrypt.key-secret=key");
    let arguments: &[&str] = if encrypted {
        &["--object", SECRET, "--image-opts", &key]
    } else {
        &["-fqcow2", file]
    };
    arguments.iter().copied().map(str::to_owned).collect()
}

/// A program with `qemu-img check`'s command line.
#[derive(Clone, Debug)]
pub struct Checker {
    path: PathBuf,
    /// Of a qemu-img: major, minor; `None` for recount.
    version: Option<(u32, u32)>,
}

impl Checker {
    /// The program at `path`, whose `--version` says what it is.
    pub fn find(path: &Path) -> Result<Self> {
        // Programs run in folders of their own.
        let whole = which(path, Path::new(""))?;
        let limits = Limits::for_image(0);
        let said = program::run(&whole, ["--version"], Path::new("."), &limits)?;
        let version = qemu_version(&said);
        if version.is_none() && said.ended != Ended::Code(0) {
            return Err(format!("{}: {}", path.display(), said.stderr).into());
        }
        Ok(Self {
            path: whole,
            version,
        })
    }

    /// The program.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it says that it is a qemu-img.
    pub const fn is_qemu(&self) -> bool {
        self.version.is_some()
    }

    /// The version of a qemu-img: major, minor.
    pub fn version(&self) -> (u32, u32) {
        self.version.unwrap_or_default()
    }

    /// Repairs a copy of an image with `--undo`, as only recount can, and undoes that: what comes of
    /// each; of undoing nothing where no undo file was saved.
    pub fn repair_and_undo(
        &self,
        bench: Bench<'_>,
        image: &SparseBytes,
    ) -> Result<(Repaired, Option<Repaired>)> {
        let limits = Limits::for_image(SparseBytes::len(image));
        let run =
            |arguments| program::run(&self.path, arguments, bench.directory, &limits).map(said);
        let mut repair = self.arguments(FILE, bench.encrypted, Repair::All);
        repair.extend(["--undo", UNDO].map(str::to_owned));
        let repaired = bench.in_file(FILE, image, &limits, || run(repair))?;
        let undo = bench.directory.join(UNDO);
        if !undo.exists() {
            return Ok((repaired, None));
        }
        let said = run(vec!["undo".to_owned(), UNDO.to_owned()])?;
        std::fs::remove_file(undo)?;
        let undone = bench.worked_on(FILE, &limits, said)?;
        Ok((repaired, Some(undone)))
    }

    fn arguments(&self, file: &str, encrypted: bool, repair: Repair) -> Vec<String> {
        let mut arguments = vec!["check".to_owned(), "--output=json".to_owned()];
        let is_qemu = self.version.is_some();
        match repair {
            Repair::None => {}
            Repair::Leaks => arguments.push("-rleaks".to_owned()),
            Repair::All | Repair::Alike(_) => arguments.push("-rall".to_owned()),
        }
        if is_qemu {
            // The image need not survive the power cut that no case has.
            arguments.push("-Tunsafe".to_owned());
        }
        // recount never looks inside of an encrypted image.
        arguments.extend(image_arguments(file, encrypted && is_qemu));
        arguments
    }
}

impl Subject for Checker {
    fn name(&self) -> String {
        match self.version {
            Some((major, minor)) => format!("qemu-img {major}.{minor}"),
            None => "recount check".to_owned(),
        }
    }

    fn run(&self, bench: Bench<'_>, image: &SparseBytes, repair: Repair) -> Result<Repaired> {
        let limits = Limits::for_image(SparseBytes::len(image));
        let arguments = self.arguments(FILE, bench.encrypted, repair);
        bench.in_file(FILE, image, &limits, || {
            program::run(&self.path, arguments, bench.directory, &limits).map(said)
        })
    }
}

/// What a program printed, the JSON's numbers by name.
pub(super) fn said(output: Output) -> Said {
    let counters = serde_json::from_str::<BTreeMap<String, Value>>(&output.stdout).ok();
    let number = |(name, value): (String, Value)| Some((name, value.as_i64()?));
    Said {
        counters: counters.map(|all| all.into_iter().filter_map(number).collect()),
        ..super::said(output.ended, output.stderr)
    }
}

/// The version in `qemu-img version 10.0.2 (Debian …)`.
fn qemu_version(output: &Output) -> Option<(u32, u32)> {
    let version = output.stdout.strip_prefix("qemu-img version ")?;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
