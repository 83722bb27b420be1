//! The one value that everything generates, shrinks, stores and replays: an image, the damage done
//! to it, the storage that it lies on, who repairs it, and what goes wrong meanwhile.

mod big;
pub mod build;
pub mod damage;
pub mod model;
pub mod observed;
mod random;
pub mod real;
pub mod refcount;
pub mod synthetic;
pub mod text;
mod validate;

use std::fmt;

use arbitrary::Arbitrary;
use serde::{Deserialize, Serialize};

pub use random::generate;
pub use validate::Impossible;

/// Chooses one of however many candidates the image has: the remainder of this number by theirs.
/// So a case stays meaningful when a shrinking step takes candidates away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Arbitrary, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pick(pub u32);

impl Pick {
    /// The chosen index below `candidates`; `None` when there are none.
    pub fn of(self, candidates: usize) -> Option<usize> {
        (self.0 as usize).checked_rem(candidates)
    }

    /// The chosen one of these; `None` when there are none.
    fn among<T>(self, candidates: impl IntoIterator<Item = T>) -> Option<T> {
        let candidates: Vec<T> = candidates.into_iter().collect();
        let chosen = self.of(candidates.len())?;
        candidates.into_iter().nth(chosen)
    }
}

/// Everything that decides what happens, and nothing else: the same case gives the same run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The image before any damage.
    pub image: Image,
    /// What is then done to it, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damage: Vec<damage::Damage>,
    /// Whether there is room after the end of the image.
    #[serde(default)]
    pub storage: StorageLimit,
    /// Who rebuilds.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// What goes wrong during the repair.
    #[serde(default, skip_serializing_if = "Schedule::is_quiet")]
    pub schedule: Schedule,
}

/// Where the image comes from.
#[derive(Clone, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Image {
    /// Made by qemu-img and qemu-io.
    Real(real::Recipe),
    /// Laid out byte by byte by our own builder.
    Synthetic(synthetic::Synthetic),
    /// A toy of a dozen clusters with nothing but counts, for the planners.
    Model(model::Model),
}

/// Whether the storage can grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the text of a variant names its fields")]
pub enum StorageLimit {
    /// As a file does.
    #[default]
    Growing,
    /// As a block device: `spare` clusters after the end of the image, and no more.
    Fixed { spare: u32 },
}

/// The rebuild algorithm.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    Arbitrary,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Algorithm {
    /// Ours.
    #[default]
    Planned,
    /// As qemu-img 7.1 and later.
    FirstFit,
    /// As qemu-img up to 7.0.
    Tail,
}

/// What goes wrong during the repair.
#[derive(Clone, Debug, Default, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Nothing.
    #[default]
    Quiet,
    /// The power fails.
    Crash(Crash),
    /// Operations fail.
    Faults(Vec<Fault>),
}

impl Schedule {
    /// Whether nothing goes wrong.
    pub const fn is_quiet(&self) -> bool {
        matches!(self, Self::Quiet)
    }
}

/// A power cut: what was flushed is there; of the sectors written since, a subset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crash {
    /// After how many of the run's writes and flushes, modulo their number plus one.
    pub after: u32,
    /// Which of the unflushed sectors reached the disk: the seed of a random subset; 0 means none
    /// of them and `u64::MAX` all.
    #[serde(with = "big")]
    pub kept: u64,
}

/// An operation that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which kind of operation.
    pub operation: Operation,
    /// The nth of that kind, from 0.
    pub nth: u32,
    /// How it fails.
    pub error: FaultKind,
    /// How many times in a row.
    pub times: Times,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            operation,
            nth,
            error,
            times,
        } = self;
        write!(f, "{operation} {nth} fails {error}, {times}")
    }
}

/// A kind of operation on storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Operation {
    #[strum(to_string = "read")]
    Read,
    #[strum(to_string = "write")]
    Write,
    #[strum(to_string = "flush")]
    Flush,
    #[strum(to_string = "change of length")]
    SetLen,
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// An input/output error.
    #[strum(to_string = "with an I/O error")]
    Io,
    /// No space left.
    #[strum(to_string = "for lack of space")]
    NoSpace,
    /// A part is done, then an error: a torn write.
    #[strum(to_string = "when a part of it is done")]
    Short,
}

/// How often an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "kebab-case")]
pub enum Times {
    /// Once.
    #[strum(to_string = "once")]
    Once,
    /// Twice.
    #[strum(to_string = "twice")]
    Twice,
    /// From then on, always.
    #[strum(to_string = "and each later one")]
    Forever,
}
