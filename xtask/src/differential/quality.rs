//! The properties that a subject's repair is held to, by name.

use std::fmt;

/// A property of a subject's repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quality {
    /// It ends by itself, within the limits.
    Ends,
    /// It repairs what can be repaired.
    Repairs,
    /// What the guest could read it still can.
    GuestData,
    /// The judge's properties of these names.
    CountsEveryCluster,
    /// See there.
    NoOverlap,
    /// See there.
    LeavesDataAlone,
    /// See there.
    Keeps,
    /// See there.
    NoLeaks,
    /// See there.
    CleanAfterwards,
    /// Every checker finds the image clean where the audit does.
    OthersAgree,
    /// A second repair changes nothing.
    Idempotent,
    /// The judge's property, of the writes and flushes as they were seen.
    CrashAtomic,
    /// On a device that cannot grow it repairs where there is room.
    FitsWhenPossible,
    /// The repaired image can be written to, and is clean afterwards, with old and new data.
    GoodInUse,
    /// The image is what the specification says, byte for byte, or refused for its reason.
    AsSpecified,
    /// The program does to a file, and says, what the library does and says.
    ProgramAgrees,
}

impl Quality {
    /// All, in the order of the table.
    pub const ALL: [Self; 16] = [
        Self::Ends,
        Self::Repairs,
        Self::GuestData,
        Self::CountsEveryCluster,
        Self::NoOverlap,
        Self::LeavesDataAlone,
        Self::Keeps,
        Self::NoLeaks,
        Self::CleanAfterwards,
        Self::OthersAgree,
        Self::Idempotent,
        Self::CrashAtomic,
        Self::FitsWhenPossible,
        Self::GoodInUse,
        Self::AsSpecified,
        Self::ProgramAgrees,
    ];

    /// Its name in the report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ends => "ends",
            Self::Repairs => "repairs",
            Self::GuestData => "keeps-guest-data",
            Self::CountsEveryCluster => "counts-every-cluster",
            Self::NoOverlap => "no-overlap",
            Self::LeavesDataAlone => "leaves-data-alone",
            Self::Keeps => "keeps-what-it-cannot-follow",
            Self::NoLeaks => "no-leaks",
            Self::CleanAfterwards => "clean-afterwards",
            Self::OthersAgree => "others-agree",
            Self::Idempotent => "idempotent",
            Self::CrashAtomic => "crash-atomic",
            Self::FitsWhenPossible => "fits-when-possible",
            Self::GoodInUse => "good-in-use",
            Self::AsSpecified => "as-specified",
            Self::ProgramAgrees => "program-agrees",
        }
    }

    /// Whether the property of this name is one without which an image is not safe.
    pub fn is_required_name(what: &str) -> bool {
        let mut required = Self::ALL.into_iter().filter(|one| one.is_required());
        required.any(|one| one.name() == what)
    }

    /// Whether the property of this name depends on where an algorithm puts structures.
    pub fn is_of_placement_name(what: &str) -> bool {
        let of_placement = [Self::Ends, Self::Repairs, Self::FitsWhenPossible];
        of_placement.iter().any(|one| one.name() == what)
    }

    /// Whether an image is unsafe, or as broken as before, without it. The others make a repair a
    /// good one.
    const fn is_required(self) -> bool {
        matches!(
            self,
            Self::Ends
                | Self::Repairs
                | Self::GuestData
                | Self::CountsEveryCluster
                | Self::NoOverlap
                | Self::LeavesDataAlone
                | Self::GoodInUse
        )
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
