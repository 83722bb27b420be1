//! What the fuzz targets do with an input: read it, run a program on it, judge. The targets
//! themselves only call [`Target::judge`], and so does `cargo test`, over the whole corpus.

mod disturbed;
pub mod encoding;
pub mod image;
pub mod mutate;
mod rebuild;
pub mod settings;

use crate::properties::undo_restores::Points;
use crate::properties::unread;
use crate::subject::Subject;

/// What a fuzzer feeds.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[strum(serialize_all = "lowercase", parse_err_ty = UnknownTarget, parse_err_fn = unknown)]
pub enum Target {
    /// A case during whose repair the power fails.
    Crash,
    /// A case during whose repair operations fail.
    Fault,
    /// The bytes of a qcow2 file: check, repair, check again.
    Image,
    /// A toy, planned and written by each algorithm.
    Rebuild,
}

impl Target {
    /// All of them, in the order in which `cargo fuzz list` prints them.
    pub const ALL: [Self; 4] = [Self::Crash, Self::Fault, Self::Image, Self::Rebuild];

    /// The name of the target, of its binary and of its folder in the corpus.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Has a program run one input, and judges it.
    pub fn judge(self, subject: &dyn Subject, input: &[u8]) -> Result<Use, Broken> {
        match self {
            Self::Crash => disturbed::crash(subject, input),
            Self::Fault => disturbed::fault(subject, input),
            Self::Image => image::judge(subject, input),
            Self::Rebuild => rebuild::judge(subject, input),
        }
    }
}

/// A name that is no target's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no fuzz target '{0}'; the targets are {names}", names = Target::ALL.map(Target::name).join(", "))]
pub struct UnknownTarget(String);

fn unknown(name: &str) -> UnknownTarget {
    UnknownTarget(name.to_owned())
}

/// Undo files cost more than all else that is asked of an input: one in so many is asked for them.
const UNDO_SHARE: u32 = 32;

/// Where `undo-restores` has the power cut, of an input that says nothing of power cuts.
fn cuts_of(input: &[u8]) -> Points {
    if crc32fast::hash(input).is_multiple_of(UNDO_SHARE) {
        Points::Spread(1)
    } else {
        Points::Unasked
    }
}

/// What an input was good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It was run and judged, and nothing is wrong.
    Judged,
    /// The same, but it takes so much work that a fuzzer does better to change others.
    Costly,
    /// It goes past the budget of the audit: nothing is wrong that shows without one, and what the
    /// specification says of it was not asked.
    TooMuchWork,
    /// It is nothing that can be run: a corpus need not keep it.
    Refused,
}

/// What an input shows to be wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{promise}: {message}")]
pub struct Broken {
    /// The property or promise that does not hold.
    pub promise: &'static str,
    /// What happened, for a person.
    pub message: String,
}

impl Broken {
    /// With its message.
    pub fn new(promise: &'static str, message: impl Into<String>) -> Self {
        Self {
            promise,
            message: message.into(),
        }
    }
}

impl From<unread::Broken> for Broken {
    fn from((property, failure): unread::Broken) -> Self {
        Self::new(property.name(), failure.message)
    }
}
