//! Whatever checks and repairs images: a qemu-img of any version, recount by its command line or in
//! process, any other program that repairs an image in place.

mod command;
pub mod disk;
mod engine;
mod maker;
pub mod program;
mod qemu_img;
pub mod recipe;

use std::path::{Path, PathBuf};

use recount_oracle::case::Algorithm;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::observed::{Ended, Said};
use recount_oracle::disk::Trace;
use recount_oracle::subject::Outcome;

use crate::error::{At as _, Result};
use program::Limits;

pub use command::{Command, CommandLine, shell_line};
pub use engine::Engine;
pub use maker::Maker;
pub use qemu_img::{Checker, SECRET, image_arguments};

/// What a check may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Nothing.
    None,
    /// Leaks only (`-r leaks`).
    Leaks,
    /// `-r all`, as the program does it by itself.
    All,
    /// `-r all` by the algorithm of a qemu-img.
    Alike(Algorithm),
}

/// The rebuild algorithm that reproduces that of a version of qemu-img: major, minor.
pub fn algorithm_of(version: (u32, u32)) -> Algorithm {
    if version >= (7, 1) {
        Algorithm::FirstFit
    } else {
        Algorithm::Tail
    }
}

/// Where images are worked on.
#[derive(Clone, Copy)]
pub struct Bench<'a> {
    /// The folder, in which an image's backing or data file is.
    pub directory: &'a Path,
    /// Whether qemu-img needs the key.
    pub encrypted: bool,
}

impl Bench<'_> {
    /// Writes an image into a file, lets `work` at it within the limits, and reads it again.
    fn in_file(
        &self,
        file: &str,
        image: &SparseBytes,
        limits: &Limits,
        work: impl FnOnce() -> Result<Said>,
    ) -> Result<Repaired> {
        self.store(file, image)?;
        let said = work()?;
        self.worked_on(file, limits, said)
    }

    /// What a file is after work within the limits.
    fn worked_on(&self, file: &str, limits: &Limits, said: Said) -> Result<Repaired> {
        let image = self.load(file, limits.file)?;
        Ok(Repaired {
            said,
            is_too_long: image.len() >= limits.file,
            image,
            trace: None,
            outcome: None,
        })
    }

    /// Writes a file here anew.
    pub fn store(&self, file: &str, image: &SparseBytes) -> Result<PathBuf> {
        let path = self.directory.join(file);
        image.store(&path).at(path.display())?;
        Ok(path)
    }

    /// Reads a file here; of one that is `limit` bytes long or longer, the length only.
    pub fn load(&self, file: &str, limit: u64) -> Result<SparseBytes> {
        let path = self.directory.join(file);
        disk::load(&path, limit).at(path.display())
    }
}

/// An image after a repair, and what the repair said.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// What was said.
    pub said: Said,
    /// The image afterwards.
    pub image: SparseBytes,
    /// Whether a program made the file as long as it was allowed to, or longer.
    pub is_too_long: bool,
    /// What was done to the disk, in order, where that is known.
    pub trace: Option<Trace>,
    /// How it ended, where what it says is known in the words of the harness.
    pub outcome: Option<Outcome>,
}

/// What is said without counters.
pub const fn said(ended: Ended, stderr: String) -> Said {
    Said {
        ended,
        counters: None,
        stderr,
    }
}

/// Something that repairs images.
pub trait Subject: Send + Sync {
    /// Its name, for people, the same in every run.
    fn name(&self) -> String;

    /// Whether it can say what is wrong with an image without repairing it.
    fn is_checker(&self) -> bool {
        true
    }

    /// Checks or repairs a copy of an image.
    fn run(&self, bench: Bench<'_>, image: &SparseBytes, repair: Repair) -> Result<Repaired>;

    /// What it finds in an image. Only for [checkers](Self::is_checker).
    fn check(&self, bench: Bench<'_>, image: &SparseBytes) -> Result<Said> {
        Ok(self.run(bench, image, Repair::None)?.said)
    }
}
