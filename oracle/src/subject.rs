//! Who is judged: a program that checks and repairs images; what it is asked, and how that ends.

use std::path::Path;

use crate::audit::Counters;
use crate::case::model::Model;
use crate::case::{Algorithm, StorageLimit};
use crate::disk::Disk;
use crate::placement::{NoPlacement, Placement};
use crate::spec::Refused;

/// A program under test.
pub trait Subject: Sync {
    /// Where an algorithm puts new structures in a toy, on such storage.
    fn place(
        &self,
        algorithm: Algorithm,
        toy: &Model,
        storage: StorageLimit,
    ) -> Result<Placement, NoPlacement>;

    /// Its repair of images.
    fn images(&self, options: Options) -> Box<dyn Repair + '_>;

    /// Its undo files, if it has any.
    fn undo(&self) -> Option<&dyn Undo>;
}

/// Something that repairs what is on a disk.
pub trait Repair: Sync {
    /// Repairs it.
    fn repair(&self, disk: &mut dyn Disk) -> Outcome;

    /// How it is asked to.
    fn options(&self) -> Options {
        Options::default()
    }

    /// Checks what is on a disk; nothing is found of a toy.
    fn check(&self, _disk: &dyn Disk) -> Option<Checked> {
        None
    }

    /// Every write that it plans, in order, if it says so before it writes; an error is its message.
    fn planned(&self, _disk: &dyn Disk) -> Option<Result<Vec<Write>, String>> {
        None
    }

    /// Its undo files, if it has any.
    fn undo(&self) -> Option<&dyn Undo>;
}

/// A write: its offset in bytes, and the new bytes.
pub type Write = (u64, Vec<u8>);

/// Undo files: saved before a repair, they give back what it replaced.
pub trait Undo {
    /// Saves in a new file what these writes replace on a disk; an error is its message.
    fn save(&self, file: &Path, disk: &dyn Disk, writes: &[Write]) -> Result<(), String>;

    /// Puts back what was saved.
    fn restore(&self, file: &Path, disk: &mut dyn Disk) -> Result<(), NotRestored>;
}

/// Why not all was put back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NotRestored {
    /// Whether a part of it may have been put back, and the same file will do again.
    pub interrupted: bool,
    /// What the program said.
    pub message: String,
}

/// How to repair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Where new structures go.
    pub algorithm: Algorithm,
    /// Only leaks (`-r leaks`), instead of everything.
    pub only_leaks: bool,
    /// New structures may lie where the old ones are.
    pub reuse_old: bool,
    /// What damage may hide is given up.
    pub release_unreachable: bool,
}

impl Options {
    /// By one algorithm, everything else as it is by default.
    pub fn by(algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            ..Self::default()
        }
    }
}

/// What a repair is asked to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask {
    /// How it is to repair.
    pub options: Options,
    /// Bytes that the storage can never exceed.
    pub capacity: Option<u64>,
}

/// What a check says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// What it finds.
    Found {
        /// The figures.
        counters: Counters,
        /// Whether the refcount structures have to be built anew.
        needs_rebuild: bool,
        /// How often what refers to clusters is wrong, and the first of it, in words.
        damage: (u64, Vec<String>),
    },
    /// It does not open the image.
    NotOpened(String),
    /// It does not open the image, for its LUKS header alone.
    NoLuksHeader(String),
    /// It gives up.
    GivesUp(String),
}

/// How a repair ended.
pub type Outcome = Result<Done, Stopped>;

/// What a repair that ended well says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// What it says that a check finds now; `None` of a toy, in which there is nothing to check.
    pub report: Option<Checked>,
    /// What it says that it did, in order.
    pub steps: Vec<String>,
}

/// Why a repair ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Stopped {
    /// As the specification puts it; `None` for an error that it knows nothing of.
    pub reason: Option<Refused>,
    /// Whether it is the placement that failed.
    pub by_placement: bool,
    /// What it said.
    pub message: String,
}

impl Stopped {
    /// For a reason that the specification knows nothing of.
    pub fn unknown(message: &(impl ToString + ?Sized)) -> Self {
        Self {
            reason: None,
            by_placement: false,
            message: message.to_string(),
        }
    }
}
