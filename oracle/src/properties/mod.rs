//! What a repair must show: properties, each with a verdict of its own.

mod all;
pub mod as_specified;
pub mod bounded_cost;
pub mod clean_afterwards;
mod copied;
pub mod counts_every_cluster;
pub mod crash_atomic;
pub mod evidence_stays;
pub mod fault_safe;
pub mod fits_when_possible;
pub mod grows_only_when_needed;
pub mod idempotent;
pub mod keeps_what_it_cannot_follow;
pub mod layout;
pub mod leaves_data_alone;
pub mod no_leaks;
pub mod no_overlap;
pub mod no_overlap_bytes;
pub mod plan_exact;
pub mod planning;
pub mod reading;
pub mod smallest_table;
pub mod terminates;

use std::fmt;
use std::str::FromStr;

pub use all::judge_all;
use serde::{Deserialize, Serialize};

use crate::case::Algorithm;

/// A property, by the name that test names, failure messages and the verdict table use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Property {
    /// The plan ends within the proven number of tries.
    Terminates,
    /// The new structure gives each cluster its number of references, its own clusters included.
    CountsEveryCluster,
    /// New structures meet no referenced cluster, no reserved one, nor each other.
    NoOverlap,
    /// No byte of a referenced cluster changes but the header fields and table entries that the
    /// repair names.
    LeavesDataAlone,
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
}

impl Property {
    /// All of them, in the order of the verdict table.
    pub const ALL: [Self; 18] = [
        Self::Terminates,
        Self::CountsEveryCluster,
        Self::NoOverlap,
        Self::LeavesDataAlone,
        Self::KeepsWhatItCannotFollow,
        Self::FitsWhenPossible,
        Self::GrowsOnlyWhenNeeded,
        Self::SmallestTable,
        Self::CrashAtomic,
        Self::FaultSafe,
        Self::NoLeaks,
        Self::Idempotent,
        Self::CleanAfterwards,
        Self::BoundedCost,
        Self::AsSpecified,
        Self::PlanExact,
        Self::PlanAgainEmpty,
        Self::EvidenceStays,
    ];

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Terminates => "terminates",
            Self::CountsEveryCluster => "counts-every-cluster",
            Self::NoOverlap => "no-overlap",
            Self::LeavesDataAlone => "leaves-data-alone",
            Self::KeepsWhatItCannotFollow => "keeps-what-it-cannot-follow",
            Self::FitsWhenPossible => "fits-when-possible",
            Self::GrowsOnlyWhenNeeded => "grows-only-when-needed",
            Self::SmallestTable => "smallest-table",
            Self::CrashAtomic => "crash-atomic",
            Self::FaultSafe => "fault-safe",
            Self::NoLeaks => "no-leaks",
            Self::Idempotent => "idempotent",
            Self::CleanAfterwards => "clean-afterwards",
            Self::BoundedCost => "bounded-cost",
            Self::AsSpecified => "as-specified",
            Self::PlanExact => "plan-exact",
            Self::PlanAgainEmpty => "plan-again-empty",
            Self::EvidenceStays => "evidence-stays",
        }
    }

    /// Whether the algorithm is known to fail the property on an image. QEMU's lower what they
    /// counted too high only after the header is switched: a power cut in between leaves the old
    /// refcount table counted, where it reads as a lost table, and the next repair keeps it. They
    /// write refblocks again and again.
    #[must_use]
    pub const fn is_known_of_images(self, algorithm: Algorithm) -> bool {
        !matches!(algorithm, Algorithm::Planned)
            && matches!(self, Self::CrashAtomic | Self::BoundedCost)
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no property's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no property '{0}'; the properties are {names}", names = Property::ALL.map(Property::name).join(", "))]
pub struct UnknownProperty(String);

impl FromStr for Property {
    type Err = UnknownProperty;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|property| property.name() == name)
            .ok_or_else(|| UnknownProperty(name.to_owned()))
    }
}

/// What a property says of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It does not.
    Fails(Failure),
    /// It says nothing of such a run, for example of crashes where nothing was written.
    NotApplicable,
}

/// Why a property does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Which cluster, which count, who refers to it: one or two sentences for a person.
    pub message: String,
}

impl Verdict {
    /// A failure with its message.
    #[must_use]
    pub fn fails(message: impl Into<String>) -> Self {
        Self::Fails(Failure {
            message: message.into(),
        })
    }

    /// Whether the property fails.
    #[must_use]
    pub const fn is_failure(&self) -> bool {
        matches!(self, Self::Fails(_))
    }

    /// This one if it fails, else the other's word.
    #[must_use]
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
        match result {
            Ok(()) => Self::Holds,
            Err(failure) => Self::Fails(failure),
        }
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
