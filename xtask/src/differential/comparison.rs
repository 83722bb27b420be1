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
    /// An entry that led nowhere during the repair is put right: all data is back.
    Keeping,
}

impl Comparison {
    /// All, in the order of the table.
    pub const ALL: [Self; 10] = [
        Self::ReadOnlyCheck,
        Self::ChecksWriteNothing,
        Self::CleanAfterRepair,
        Self::GuestData,
        Self::LeaksRepair,
        Self::InPlaceRepair,
        Self::AfterTheirRepair,
        Self::RebuiltLayout,
        Self::RebuildVerdict,
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
            Self::Keeping => "keeps what it cannot follow",
        })
    }
}

/// A difference from qemu-img that recount documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Nothing is released while an entry leads nowhere.
    Keeping,
    /// A reftable entry past the end of the file is a reason to rebuild, not to grow the file.
    NoGrowth,
    /// Entries are left as they are in what is not, or not only, an L2 table.
    LeavesAlone,
    /// qemu-img gives up where its overlap check finds that it would write over a structure.
    GoesOn,
    /// qemu-img writes a header without snapshots when it opens an image for a repair and has to
    /// change something first, as with enabled bitmaps; they are all lost then.
    SnapshotsStay,
    /// qemu-img loads enabled bitmaps when it opens an image for a repair, drops those that it cannot
    /// load, and stores the others anew when it closes the image.
    BitmapsStay,
    /// A snapshot table that is not all inside the file is not written anew without the rest.
    LeavesTable,
    /// A rebuild makes room for a new snapshot table; only the end of the image differs.
    MakesRoom,
    /// qemu-img takes the zeros behind the snapshot table for snapshots when the header names more
    /// than there are, and writes them to a table of their own.
    LeavesOutBlank,
    /// qemu-img before 6.2 does not count reserved bits and contradictory subclusters.
    NewerCheck,
    /// qemu-img crashes.
    Survives,
    /// Refcounts too narrow to say that a refblock's cluster is something else too: qemu-img sets what
    /// it can, recount builds them anew.
    SeesNarrow,
    /// What is left of a reftable that the file does not hold whole is in use until there is another:
    /// qemu-img takes its clusters for leaked, and frees them.
    ReplacesCutReftable,
    /// qemu-img opens an external data file to check the image.
    NeedsNoDataFile,
    /// The rebuild puts something where an entry had led past the end. qemu-img takes the corruptions
    /// that this brings up off those that it has mended.
    CountsMended,
    /// qemu-img looks at COPIED bits before it has lowered the refcounts, and so leaves some wrong
    /// that a second repair sets right.
    SetsCopied,
    /// Where refcounts cannot be read, `-r leaks` of qemu-img fails after it has counted what it
    /// could; recount says at once that they have to be built anew.
    RefusesLeaks,
    /// qemu-img checks no file of 2^31 clusters or more.
    NoClusterLimit,
    /// Refcount structures came to lie over the LUKS header, most of which is past the end of the
    /// file: recount sees it, qemu-img only when it opens the image again.
    SeesLuksGone,
    /// A table lies in a refblock, and what is written there changes it. The second check of qemu-img
    /// reads the table that it has in memory; asked again, it says what recount says.
    ReadsAgain,
    /// What qemu-img leaves has more wrong with it than what it found.
    NeverWorse,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Keeping => "keeps what it cannot follow",
            Self::NoGrowth => "does not grow to a hostile reftable entry",
            Self::LeavesAlone => "leaves alone what may not be a table",
            Self::GoesOn => "goes on where qemu-img's overlap check gives up",
            Self::SnapshotsStay => "loses no snapshots",
            Self::BitmapsStay => "stores no bitmaps anew",
            Self::LeavesTable => "writes no snapshot table anew that is not all there",
            Self::LeavesOutBlank => "leaves out snapshots that are blank",
            Self::MakesRoom => "builds anew to make room for a snapshot table",
            Self::NewerCheck => "counts what qemu-img counts since 6.2",
            Self::Survives => "survives what qemu-img crashes on",
            Self::SeesNarrow => "builds anew where a narrow refcount hides a shared refblock",
            Self::ReplacesCutReftable => "replaces a refcount table that is not all there",
            Self::NeedsNoDataFile => "checks without the data file",
            Self::CountsMended => "counts what is mended apart from what comes up",
            Self::SetsCopied => "needs no second repair for COPIED bits",
            Self::RefusesLeaks => "refuses at once to release leaks where refcounts cannot be read",
            Self::NoClusterLimit => "checks files of 2^31 clusters",
            Self::SeesLuksGone => "sees that the LUKS header is written over",
            Self::ReadsAgain => "reads again what it has written",
            Self::NeverWorse => "never leaves more wrong than there was",
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
    /// They differ as documented.
    OnPurpose(Purpose),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The next one; a new variant has to be put in here.
    const fn next(purpose: Purpose) -> Option<Purpose> {
        use Purpose as P;
        Some(match purpose {
            P::Keeping => P::NoGrowth,
            P::NoGrowth => P::LeavesAlone,
            P::LeavesAlone => P::GoesOn,
            P::GoesOn => P::SnapshotsStay,
            P::SnapshotsStay => P::BitmapsStay,
            P::BitmapsStay => P::LeavesTable,
            P::LeavesTable => P::LeavesOutBlank,
            P::LeavesOutBlank => P::MakesRoom,
            P::MakesRoom => P::NewerCheck,
            P::NewerCheck => P::Survives,
            P::Survives => P::SeesNarrow,
            P::SeesNarrow => P::ReplacesCutReftable,
            P::ReplacesCutReftable => P::NeedsNoDataFile,
            P::NeedsNoDataFile => P::CountsMended,
            P::CountsMended => P::SetsCopied,
            P::SetsCopied => P::RefusesLeaks,
            P::RefusesLeaks => P::NoClusterLimit,
            P::NoClusterLimit => P::SeesLuksGone,
            P::SeesLuksGone => P::ReadsAgain,
            P::ReadsAgain => P::NeverWorse,
            P::NeverWorse => return None,
        })
    }

    #[test]
    fn every_difference_on_purpose_is_documented() {
        let page = include_str!("../../../docs/report.md");
        let purposes = std::iter::successors(Some(Purpose::Keeping), |purpose| next(*purpose));
        let documented = purposes.inspect(|purpose| {
            let row = format!("| {purpose} | ");
            assert!(page.contains(&row), "docs/report.md does not have: {row}");
        });
        assert_eq!(documented.count(), 21);
    }
}
