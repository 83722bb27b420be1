//! What a repair must show: properties, each with a verdict of its own.
//!
//! `as-specified` and `plan-exact` imply most of the others. These judge the specification itself,
//! and programs that do not follow it.

mod bytes;
mod counts;
pub mod crash_atomic;
pub mod fault_safe;
mod header_parts;
mod idempotent;
mod leaves_data_alone;
pub mod plan;
mod plan_exact;
pub mod reading;
mod structures;
pub mod tries;
pub mod undo_restores;
pub mod unread;

use std::fmt::Display;

use serde::{Deserialize, Serialize};
use strum::VariantArray as _;

use crate::case::Algorithm;

pub use bytes::{judge, judge_all};
pub use counts::keeps;
pub use plan_exact::agrees;

/// A property, by the name that test names, failure messages and the verdict table use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[derive(strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "kebab-case", parse_err_ty = UnknownProperty, parse_err_fn = unknown)]
#[non_exhaustive]
pub enum Property {
    /// The plan ends within the proven number of tries.
    Terminates,
    /// The new structure gives each cluster its number of references, its own clusters included.
    CountsEveryCluster,
    /// New structures meet no referenced cluster, no reserved one, nor each other.
    NoOverlap,
    /// No byte of a referenced cluster changes but the table entries that the repair names.
    LeavesDataAlone,
    /// No byte of the header's cluster changes but the fields that a repair or any writer has to set.
    KeepsHeaderSettings,
    /// While something that refers to clusters is damaged, nothing that the specification keeps is
    /// released, discarded or written over.
    KeepsWhatItCannotFollow,
    /// It fails for space only where brute force finds no placement.
    FitsWhenPossible,
    /// The file gets longer only where no placement exists inside it.
    GrowsOnlyWhenNeeded,
    /// No smaller reftable could do.
    SmallestTable,
    /// After a crash at any point, with any subset of unflushed sectors lost, the header leads to
    /// the old structure, untouched, or to the whole new one.
    CrashAtomic,
    /// Whichever I/O fails, and however often, the caller gets the error and the image is as
    /// crash-atomic says.
    FaultSafe,
    /// Nothing is allocated without a reference afterwards, except what is kept.
    NoLeaks,
    /// A second repair writes nothing.
    Idempotent,
    /// When only refcounts were wrong, the next check finds nothing.
    CleanAfterwards,
    /// Every refblock is written once; reads, writes and memory stay within the stated bounds.
    BoundedCost,
    /// The image is what the specification says must come of the repair, byte for byte.
    AsSpecified,
    /// What the repair reports, decided before its first write, is what a check finds afterwards.
    PlanExact,
    /// A plan for an image that was just repaired is empty.
    PlanAgainEmpty,
    /// What was seen to be damaged is seen to be damaged afterwards.
    EvidenceStays,
    /// The undo file brings back every byte and the length, from any power cut in repair or undo.
    UndoRestores,
}

impl Property {
    /// All of them, in the order of the verdict table.
    pub const ALL: [Self; Self::VARIANTS.len()] = *Self::VARIANTS
        .first_chunk()
        .expect("an array of the length of the slice");

    /// The name.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether the algorithm is known to fail the property on a toy, as `cargo xtask model` shows.
    /// What QEMU's leak is not clean afterwards either. On an image none fails any.
    pub const fn is_known_of_toys(self, algorithm: Algorithm) -> bool {
        !matches!(algorithm, Algorithm::Planned)
            && matches!(
                self,
                Self::CrashAtomic
                    | Self::BoundedCost
                    | Self::Terminates
                    | Self::FitsWhenPossible
                    | Self::GrowsOnlyWhenNeeded
                    | Self::SmallestTable
                    | Self::NoLeaks
                    | Self::CleanAfterwards
                    | Self::FaultSafe
            )
    }
}

/// A name that is no property's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no property '{0}'; the properties are {names}", names = Property::ALL.map(Property::name).join(", "))]
pub struct UnknownProperty(String);

fn unknown(name: &str) -> UnknownProperty {
    UnknownProperty(name.to_owned())
}

/// What a property says of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It does not.
    Fails(Failure),
    /// By a rule of the contract it says nothing of such a run, for example of new structures where
    /// refcounts are set in place.
    NotApplicable,
}

/// Why a property does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Which cluster, which count, who refers to it: one or two sentences for a person.
    pub message: String,
}

impl Failure {
    /// With its message.
    pub fn new(message: impl Display) -> Self {
        Self {
            message: message.to_string(),
        }
    }

    /// An error unless something holds.
    pub(crate) fn unless<M: Display>(holds: bool, message: impl FnOnce() -> M) -> Result<(), Self> {
        if holds {
            return Ok(());
        }
        Err(Self::new(message()))
    }
}

impl Verdict {
    /// A failure with its message.
    pub fn fails(message: impl Display) -> Self {
        Self::Fails(Failure::new(message))
    }

    /// Whether the property fails.
    pub const fn is_failure(&self) -> bool {
        matches!(self, Self::Fails(_))
    }

    /// This one if it fails, else the other's word.
    pub fn and(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Fails(failure) => Self::Fails(failure),
            Self::Holds => match other() {
                Self::Fails(failure) => Self::Fails(failure),
                _ => Self::Holds,
            },
            Self::NotApplicable => other(),
        }
    }
}

impl From<Result<(), Failure>> for Verdict {
    fn from(result: Result<(), Failure>) -> Self {
        result.map_or_else(Self::Fails, |()| Self::Holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_is_read_back_from_its_name() {
        for property in Property::ALL {
            assert_eq!(property.to_string().parse(), Ok(property));
            let json = serde_json::to_string(&property).expect("a string");
            assert_eq!(json, format!("\"{property}\""));
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_names_there_are() {
        let error = "fits".parse::<Property>().expect_err("no such property");
        assert!(error.to_string().contains("fits-when-possible"), "{error}");
    }

    #[test]
    fn a_failure_outweighs_whatever_else_is_said() {
        let failure = || Verdict::fails("cluster 3");
        assert_eq!(Verdict::Holds.and(failure), failure());
        assert_eq!(failure().and(|| Verdict::Holds), failure());
        assert_eq!(Verdict::NotApplicable.and(failure), failure());
        assert_eq!(
            Verdict::Holds.and(|| Verdict::NotApplicable),
            Verdict::Holds
        );
    }
}
