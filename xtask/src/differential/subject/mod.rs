//! Whatever checks and repairs images: a qemu-img of any version, recount by its command line or in
//! process, any other program that repairs an image in place.

mod command;
mod engine;
pub mod program;
mod qemu_img;

use std::io;
use std::path::{Path, PathBuf};

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::observed::{Ended, Said};
use recount_oracle::disk::Trace;
use recount_oracle::judge;

use super::disk;
use program::{CannotRun, Limits};

pub use command::Command;
pub use engine::Engine;
pub use qemu_img::{Checker, SECRET};

/// What a check may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Nothing.
    None,
    /// `-r leaks`.
    Leaks,
    /// `-r all`, as the program does it by itself.
    All,
    /// `-r all` by the algorithm of a qemu-img.
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

/// Why a case could not be run.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// A program could not be run.
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

/// Where images are worked on.
#[derive(Clone, Copy)]
pub struct Bench<'a> {
    /// The folder, in which an image's backing or data file is.
    pub directory: &'a Path,
    /// Whether qemu-img needs the key.
    pub encrypted: bool,
}

impl Bench<'_> {
    /// Writes an image into a file, lets `work` at it, and reads it again.
    fn in_file(
        &self,
        file: &str,
        image: &SparseBytes,
        work: impl FnOnce() -> Result<Said, CannotRun>,
    ) -> Result<Repaired, CaseError> {
        let path = self.directory.join(file);
        disk::store(&path, image).map_err(|source| self.failed(source))?;
        let said = work()?;
        let limit = Limits::for_image(image.len()).file;
        let image = disk::load(&path, limit).map_err(|source| self.failed(source))?;
        Ok(Repaired {
            said,
            image,
            trace: None,
            ended: None,
        })
    }

    /// That something went wrong with a file here.
    pub fn failed(&self, source: io::Error) -> CaseError {
        let directory = self.directory.to_owned();
        CaseError::Io { directory, source }
    }
}

/// An image after a repair, and what the repair said.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// What it said.
    pub said: Said,
    /// The image.
    pub image: SparseBytes,
    /// What was done to the disk, in order, where that is known.
    pub trace: Option<Trace>,
    /// How it ended, as the specification puts it, where that is known.
    pub ended: Option<judge::Ended>,
}

/// No refcount structures of the images that are repaired are as long, in bytes; they may have to lie
/// behind what entries lead to past the end of the file.
const MOST_GROWTH: u64 = program::GROWTH / 4;

/// How a run of a subject ended, whatever it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// By itself.
    Ended,
    /// It was ended because it took too long.
    TimedOut,
    /// It was killed by this signal.
    Crashed(i32),
    /// It made a file longer than any repair needs, and was ended for it.
    RunawayFile,
}

impl Repaired {
    /// How the run on an image of `before` bytes ended, whose entries lead to `past_end` bytes past its
    /// end.
    pub fn conduct(&self, before: u64, past_end: u64) -> Conduct {
        let grown = self.image.len().saturating_sub(before);
        match self.said.ended {
            _ if grown >= MOST_GROWTH.saturating_add(past_end) => Conduct::RunawayFile,
            Ended::TimedOut => Conduct::TimedOut,
            Ended::Signal(program::FILE_SIZE_EXCEEDED) => Conduct::RunawayFile,
            Ended::Signal(signal) => Conduct::Crashed(signal),
            Ended::Code(_) => Conduct::Ended,
        }
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
    fn run(
        &self,
        bench: Bench<'_>,
        image: &SparseBytes,
        repair: Repair,
    ) -> Result<Repaired, CaseError>;

    /// What it finds in an image. Only for [checkers](Self::is_checker).
    fn check(&self, bench: Bench<'_>, image: &SparseBytes) -> Result<Said, CaseError> {
        Ok(self.run(bench, image, Repair::None)?.said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_grow_behind_what_leads_past_its_end_but_not_without_reason() {
        let of_length = |length| {
            let mut image = SparseBytes::default();
            image.set_len(length);
            let said = Said {
                ended: Ended::Code(0),
                counters: None,
                stderr: String::new(),
            };
            Repaired {
                said,
                image,
                trace: None,
                ended: None,
            }
        };
        let before = 1 << 20;
        let grown = of_length(before + MOST_GROWTH);
        assert_eq!(grown.conduct(before, 0), Conduct::RunawayFile);
        assert_eq!(grown.conduct(before, 512), Conduct::Ended);
        let shorter = of_length(before + MOST_GROWTH - 1);
        assert_eq!(shorter.conduct(before, 0), Conduct::Ended);
    }
}
