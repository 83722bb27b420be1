//! What one qemu-img says about a damaged image and does to it: run now, or recorded earlier.

use std::io;
use std::path::{Path, PathBuf};

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::damage::find::be32;
use recount_oracle::case::observed::{Layout, Observed, Said};

use super::disk;
use super::program::CannotRun;
use super::tools::{Checker, Repair};

/// qemu-img says this on standard error, and only when it rebuilds.
const REBUILDING: &str = "Rebuilding refcount structure";

/// What a qemu-img built without zstd says of an image with it.
const WITHOUT_ZSTD: &str = "unknown compression type: 1";

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
    pub said: Said,
    /// The image.
    pub image: SparseBytes,
}

impl Bench<'_> {
    /// Checks a file as it is.
    pub fn check(&self, by: &Checker, file: &str, repair: Repair) -> Result<Said, CaseError> {
        Ok(by.check(self.directory, file, self.encrypted, repair)?)
    }

    /// Checks, or repairs, a fresh copy of the damaged image.
    pub fn run(&self, by: &Checker, file: &str, repair: Repair) -> Result<Repaired, CaseError> {
        let path = self.directory.join(file);
        disk::store(&path, self.damaged).map_err(|source| self.io(source))?;
        let said = self.check(by, file, repair)?;
        let image = disk::load(&path).map_err(|source| self.io(source))?;
        Ok(Repaired { said, image })
    }

    fn io(&self, source: io::Error) -> CaseError {
        let directory = self.directory.to_owned();
        CaseError::Io { directory, source }
    }
}

/// How many snapshots the header counts (specification, "Header").
fn snapshots(image: &SparseBytes) -> u32 {
    be32(image, 60).unwrap_or_default()
}

/// Runs qemu-img in all the ways that are compared; `None` where it was built without what the
/// image needs.
pub fn observe(by: &Checker, bench: Bench<'_>) -> Result<Option<Observed>, CaseError> {
    let check = bench.run(by, "damaged.qcow2", Repair::None)?.said;
    if check.stderr.contains(WITHOUT_ZSTD) {
        return Ok(None);
    }
    let leaks = bench.run(by, THEIRS, Repair::Leaks)?.said;
    let all = bench.run(by, THEIRS, Repair::All)?;
    let settled = bench.check(by, THEIRS, Repair::None)?;
    let rebuilds = all.said.stderr.contains(REBUILDING);
    let complete = rebuilds && all.said.counters.is_some();
    Ok(Some(Observed {
        qemu: by.version(),
        rebuilds,
        loses_snapshots: snapshots(bench.damaged) > 0 && snapshots(&all.image) == 0,
        check,
        leaks,
        settled,
        layout: complete.then(|| Layout::read(&all.image)).flatten(),
        all: all.said,
    }))
}
