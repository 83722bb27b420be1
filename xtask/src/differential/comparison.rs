//! What is compared, by name, and how each comparison may end.

use std::fmt;

/// A comparison of two checkers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Comparison {
    /// Exit code and counters of a check that changes nothing.
    ReadOnlyCheck,
    /// A check that changes nothing leaves every byte as it is.
    ChecksWriteNothing,
    /// After `recount check -r all` qemu-img finds the image clean wherever its own repair gets
    /// that far.
    CleanAfterRepair,
    /// What could be read before the repair reads the same afterwards.
    GuestData,
    /// Exit code and counters of `-r leaks`.
    LeaksRepair,
    /// Exit code and counters of `-r all` where nothing is rebuilt.
    InPlaceRepair,
    /// After qemu-img's repair both say the same.
    AfterTheirRepair,
    /// The structure that the algorithm of that qemu-img rebuilds, byte for byte.
    RebuiltLayout,
    /// Exit code and counters of `-r all` with that algorithm.
    RebuildVerdict,
    /// What recount leaves of a damaged image is no worse than what qemu-img leaves.
    NoWorse,
    /// An entry that led nowhere during the repair is put right: all data is back.
    Keeping,
}

impl Comparison {
    /// All, in the order of the table.
    pub const ALL: [Self; 11] = [
        Self::ReadOnlyCheck,
        Self::ChecksWriteNothing,
        Self::CleanAfterRepair,
        Self::GuestData,
        Self::LeaksRepair,
        Self::InPlaceRepair,
        Self::AfterTheirRepair,
        Self::RebuiltLayout,
        Self::RebuildVerdict,
        Self::NoWorse,
        Self::Keeping,
    ];
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ReadOnlyCheck => "read-only check",
            Self::ChecksWriteNothing => "check writes nothing",
            Self::CleanAfterRepair => "clean after repair",
            Self::GuestData => "guest data unchanged",
            Self::LeaksRepair => "-r leaks",
            Self::InPlaceRepair => "-r all, in place",
            Self::AfterTheirRepair => "after qemu-img's repair",
            Self::RebuiltLayout => "rebuilt layout",
            Self::RebuildVerdict => "-r all, rebuilt",
            Self::NoWorse => "no worse than qemu-img",
            Self::Keeping => "keeps what it cannot follow",
        })
    }
}

/// How a comparison ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Both agree.
    Passed,
    /// They differ: how.
    Failed(String),
    /// There was nothing to compare.
    NotApplicable,
    /// They differ as documented, under this name.
    OnPurpose(&'static str),
}

impl Ending {
    /// Passed, or failed with this story.
    pub fn expect(agrees: bool, story: impl FnOnce() -> String) -> Self {
        if agrees {
            Self::Passed
        } else {
            Self::Failed(story())
        }
    }
}
