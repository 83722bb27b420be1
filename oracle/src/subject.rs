//! What somebody who checks and repairs images is asked, and how that ends.

use crate::audit::Counters;
use crate::case::Algorithm;
use crate::spec::Refused;

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
