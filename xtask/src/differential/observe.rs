//! What one qemu-img says about a damaged image and does to it: run now, or recorded earlier.

use std::io;
use std::path::{Path, PathBuf};

use recount_oracle::case::damage::SparseBytes;
use serde::{Deserialize, Serialize};

use super::disk;
use super::layout::Layout;
use super::program::CannotRun;
use super::tools::{Algorithm, Checker, Repair};
use super::verdict::Verdict;

/// qemu-img says this on standard error, and only when it rebuilds.
const REBUILDING: &str = "Rebuilding refcount structure";

/// The file that qemu-img repairs; it is left as repaired.
pub const THEIRS: &str = "theirs.qcow2";

/// Why a case could not be run.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// A checker could not be run.
    #[error(transparent)]
    CannotRun(#[from] CannotRun),
    /// A file could not be read or written.
    #[error("cannot work in {}: {source}", directory.display())]
    Io {
        /// The folder.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A damaged image and where to work on it.
#[derive(Clone, Copy)]
pub struct Bench<'a> {
    /// The folder, in which its backing or data file is.
    pub directory: &'a Path,
    /// Whether qemu-img needs the key.
    pub encrypted: bool,
    /// The image.
    pub damaged: &'a SparseBytes,
}

/// An image after a repair, and what the repair said.
pub struct Repaired {
    /// What it said.
    pub verdict: Verdict,
    /// The image.
    pub image: SparseBytes,
}

impl Bench<'_> {
    /// Checks a file as it is.
    pub fn check(&self, by: &Checker, file: &str, repair: Repair) -> Result<Verdict, CaseError> {
        Ok(by.check(self.directory, file, self.encrypted, repair)?)
    }

    /// Checks, or repairs, a fresh copy of the damaged image.
    pub fn run(&self, by: &Checker, file: &str, repair: Repair) -> Result<Repaired, CaseError> {
        let path = self.directory.join(file);
        disk::store(&path, self.damaged).map_err(|source| self.io(source))?;
        let verdict = self.check(by, file, repair)?;
        let image = disk::load(&path).map_err(|source| self.io(source))?;
        Ok(Repaired { verdict, image })
    }

    fn io(&self, source: io::Error) -> CaseError {
        let directory = self.directory.to_owned();
        CaseError::Io { directory, source }
    }
}

/// Everything that a comparison needs to know of one qemu-img.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Observation {
    /// Its version: major, minor.
    pub version: (u32, u32),
    /// Whether `-r all` rebuilt.
    pub rebuilds: bool,
    /// A check without repair.
    pub check: Verdict,
    /// `-r leaks`.
    pub leaks: Verdict,
    /// `-r all`.
    pub all: Verdict,
    /// A check after `-r all`.
    pub settled: Verdict,
    /// The refcount structure after `-r all`, where that rebuilt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
}

impl Observation {
    /// Runs qemu-img in all the ways that are compared.
    pub fn make(by: &Checker, bench: Bench<'_>) -> Result<Self, CaseError> {
        let leaks = bench.run(by, THEIRS, Repair::Leaks)?.verdict;
        let all = bench.run(by, THEIRS, Repair::All(None))?;
        let settled = bench.check(by, THEIRS, Repair::None)?;
        // The copy is as damaged; a check without repair writes nothing.
        let check = bench.run(by, "damaged.qcow2", Repair::None)?.verdict;
        let rebuilds = all.verdict.stderr.contains(REBUILDING);
        let complete = rebuilds && all.verdict.counters.is_some();
        Ok(Self {
            version: by.version(),
            rebuilds,
            check,
            leaks,
            settled,
            layout: complete.then(|| Layout::read(&all.image)).flatten(),
            all: all.verdict,
        })
    }

    /// The algorithm that this version rebuilds with.
    pub fn algorithm(&self) -> Algorithm {
        if self.version >= (7, 1) {
            Algorithm::FirstFit
        } else {
            Algorithm::Tail
        }
    }
}
