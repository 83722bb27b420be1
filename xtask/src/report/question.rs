//! What is asked of each case, by name, and how each question may be answered: comparisons of recount
//! with a qemu-img, and properties that each subject's repair is held to.

use recount_oracle::properties::Verdict;
use recount_oracle::requirements::Requirement;
use strum::VariantArray as _;

/// A comparison of recount with a qemu-img, or a property of one subject's repair.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    strum::Display,
    strum::EnumString,
    strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case")]
pub enum Question {
    /// Exit code and counters of a check that changes nothing.
    #[strum(serialize = "read-only check")]
    ReadOnlyCheck,
    /// A check that changes nothing leaves every byte as it is.
    #[strum(serialize = "check writes nothing")]
    ChecksWriteNothing,
    /// After `recount check -r all` qemu-img finds the image clean wherever its own repair gets
    /// that far.
    #[strum(serialize = "clean after repair")]
    CleanAfterRepair,
    /// What could be read before the repair reads the same afterwards.
    #[strum(serialize = "guest data unchanged")]
    GuestDataUnchanged,
    /// Exit code and counters of `-r leaks`.
    #[strum(serialize = "-r leaks")]
    LeaksRepair,
    /// Exit code and counters of `-r all` where nothing is rebuilt.
    #[strum(serialize = "-r all, in place")]
    InPlaceRepair,
    /// After qemu-img's repair both say the same.
    #[strum(serialize = "after qemu-img's repair")]
    AfterTheirRepair,
    /// The structure that the algorithm of that qemu-img rebuilds, byte for byte.
    #[strum(serialize = "rebuilt layout")]
    RebuiltLayout,
    /// Exit code and counters of `-r all` with that algorithm.
    #[strum(serialize = "-r all, rebuilt")]
    RebuildVerdict,
    /// What recount leaves of a damaged image is no worse than what qemu-img leaves.
    #[strum(serialize = "no worse than qemu-img")]
    NoWorse,
    /// An entry that led nowhere during the repair is put right: all data is back.
    #[strum(serialize = "keeps what it cannot follow")]
    Keeping,

    // Properties of a repair, or of a check. What breaks images with nothing wrong comes first, then
    // what loses data at once, with the next write, or by a power cut, then what is merely wrong.
    /// An image with nothing wrong is accepted or declined, and is as good afterwards.
    HealthyStaysHealthy,
    /// What the guest could read it still can.
    KeepsGuestData,
    /// The judge's property of this name, as are those that nothing is said of here.
    NoOverlap,
    LeavesDataAlone,
    KeepsWhatItCannotFollow,
    /// The repaired image can be written to, and is clean afterwards, with old and new data.
    GoodInUse,
    CountsEveryCluster,
    /// The judge's property, of the writes and flushes as they were seen.
    CrashAtomic,
    KeepsHeaderSettings,
    /// It ends by itself, within the limits.
    Ends,
    /// It repairs what can be repaired.
    Repairs,
    /// Its check says whether anything is wrong, as the audit does, and changes nothing.
    ChecksRightly,
    /// On a device that cannot grow it repairs where there is room.
    FitsWhenPossible,
    NoLeaks,
    CleanAfterwards,
    /// Every checker finds the image clean where the audit does.
    OthersAgree,
    /// A second repair changes nothing.
    Idempotent,
    /// The image is what the specification says, byte for byte, or refused for its reason.
    AsSpecified,
    /// The program does to a file, and says, what the library does and says.
    ProgramAgrees,
    /// What the program repairs with `--undo`, `recount undo` gives back bit for bit.
    UndoRestores,
}

impl Question {
    /// Whether recount is compared with a qemu-img, and not held to a property of its own.
    pub fn is_comparison(self) -> bool {
        self <= Self::Keeping
    }

    /// All comparisons, in the order of the table.
    pub fn comparisons() -> impl Iterator<Item = Self> {
        let all = Self::VARIANTS.iter().copied();
        all.filter(|one| one.is_comparison())
    }

    /// All properties, in the order of the table.
    pub fn properties() -> impl Iterator<Item = Self> {
        let all = Self::VARIANTS.iter().copied();
        all.filter(|one| !one.is_comparison())
    }

    /// Whether a property depends on where an algorithm puts structures.
    pub const fn is_of_placement(self) -> bool {
        matches!(self, Self::Ends | Self::Repairs | Self::FitsWhenPossible)
    }

    /// Whether an image is unsafe, or as broken as before, without a property. The others make a
    /// repair a good one.
    pub const fn is_required(self) -> bool {
        matches!(
            self,
            Self::HealthyStaysHealthy
                | Self::ChecksRightly
                | Self::Ends
                | Self::Repairs
                | Self::KeepsGuestData
                | Self::CountsEveryCluster
                | Self::NoOverlap
                | Self::LeavesDataAlone
                | Self::KeepsHeaderSettings
                | Self::KeepsWhatItCannotFollow
                | Self::GoodInUse
                | Self::FitsWhenPossible
        )
    }
}

/// Where a question of this name stands in every list; what is not known comes last.
pub fn rank(name: &str) -> impl Ord + use<> {
    let known = name.parse::<Question>().ok();
    (known.is_none(), known)
}

impl From<Requirement> for Question {
    fn from(requirement: Requirement) -> Self {
        let named = requirement.to_string().parse();
        named.expect("each requirement is asked under its own name")
    }
}

/// How a question is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Both agree, or the property holds.
    Passed,
    /// They differ, or it does not hold: how.
    Failed(String),
    /// There is nothing to say of such a case.
    NotApplicable,
    /// The subject says that it does not repair such an image, and leaves it as it is.
    Declined,
    /// They differ as documented, under this name.
    OnPurpose(&'static str),
}

impl Answer {
    pub fn expect(passed: bool, story: impl FnOnce() -> String) -> Self {
        if passed {
            Self::Passed
        } else {
            Self::Failed(story())
        }
    }
}

impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Holds => Self::Passed,
            Verdict::Fails(failure) => Self::Failed(failure.message),
            Verdict::NotApplicable => Self::NotApplicable,
        }
    }
}

/// What is said of a subject, or of recount and a qemu-img.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The subject; in a comparison, the qemu-img.
    pub subject: String,
    pub question: Question,
    pub answer: Answer,
}

impl Finding {
    pub fn failure(&self) -> Option<&str> {
        match &self.answer {
            Answer::Failed(story) => Some(story),
            _ => None,
        }
    }
}
