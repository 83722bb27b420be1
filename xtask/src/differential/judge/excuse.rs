//! The documented differences from qemu-img, each as narrow as it can be told.

use recount_oracle::case::damage::find::Structures;
use recount_oracle::case::damage::{ReadWriteAt, SparseBytes};
use recount_oracle::case::observed::{Ended, Layout, Said};

use super::super::comparison::{Ending, Purpose};
use super::super::nowhere::{
    has_blank_snapshot, has_live_bitmaps, has_newer_corruptions, has_unknown_autoclear,
    l1_table_in_header, l2_entries_in_header, refblock_past_end, reftable_is_cut,
};
use super::super::observe::STOPPED_BY_OVERLAP;
use super::super::subject::program::FILE_SIZE_EXCEEDED;
use super::super::subject::{CaseError, Checker, Repair, Repaired, Subject as _};
use super::said::{
    OVERFLOW, alike_but_for, ends_with_copied, is_no_worse, is_worse, is_worse_by_no_more,
    leaves_alone, makes_room, only_leaks,
};
use super::{Run, Trial, layouts};

/// The first qemu-img that counts reserved bits and contradictory subclusters.
const NEWER_CHECK: (u32, u32) = (6, 2);
/// qemu-img says this where every cluster for a new snapshot table seems to be in use up to the limit
/// that files are given here.
const TOO_LARGE: &str = "failed to update snapshot table: File too large";
/// recount says this where `-r leaks` would have to build refcount structures anew.
const NEEDS_REBUILD: &str = "have to be built anew";
/// What building anew changes of what is said, where something else stays wrong.
const REBUILT: &[&str] = &["corruptions", "corruptions-fixed", "image-end-offset"];
/// What changes with what is read for a table; what was repaired and the end of the image do not.
const OF_TABLES: &[&str] = &[
    "allocated-clusters",
    "compressed-clusters",
    "corruptions",
    "fragmented-clusters",
];
/// What only a repair counts.
const FIXED: &[&str] = &["corruptions-fixed", "leaks-fixed"];
/// recount says this of a LUKS header that is not one.
const LUKS_GONE: &str = "the LUKS header at offset";
/// The header's number and place of snapshots (specification, "Header"): byte position, bytes.
const SNAPSHOTS: (u64, usize) = (60, 12);
/// The header's autoclear features: without bit 0 there are no bitmaps.
const AUTOCLEAR: (u64, usize) = (88, 8);

impl Run<'_> {
    /// A difference is on purpose where an older qemu-img does not see what is wrong.
    pub(super) fn unless_older(&self, ending: Ending) -> Ending {
        let (Ending::Failed(_), Some(found)) = (&ending, &self.found) else {
            return ending;
        };
        let older = self.trial.observed.qemu < NEWER_CHECK;
        if older && has_newer_corruptions(self.trial.damaged, found) {
            return Ending::OnPurpose(Purpose::NewerCheck);
        }
        ending
    }

    /// Whether a difference is one of the documented ones, narrowly.
    pub(super) fn on_purpose(
        &self,
        ending: Ending,
        theirs: &Said,
        ours: &Said,
        repair: Repair,
    ) -> Result<Ending, CaseError> {
        let ending = self.unless_older(ending);
        let (Ending::Failed(story), Some(found)) = (&ending, &self.found) else {
            return Ok(ending);
        };
        let without = self.without_snapshots(found, repair)?;
        if let Some(without) = &without
            && theirs.agrees_with(&without.said)
        {
            return Ok(Ending::OnPurpose(Purpose::SnapshotsStay));
        }
        let fail = theirs.ended == Ended::Code(1) && ours.ended == Ended::Code(1);
        let unreadable = theirs.counter("check-errors") > 0 && ours.counters.is_none();
        if repair == Repair::Leaks && fail && unreadable {
            return Ok(Ending::OnPurpose(Purpose::RefusesLeaks));
        }
        Ok(self.on_purpose_with_or_without(story, found, [theirs, ours], without.as_ref()))
    }

    /// The same for the refcount structures.
    pub(super) fn layout_on_purpose(
        &self,
        theirs: &Layout,
        ours: &Repaired,
        repair: Repair,
    ) -> Result<Ending, CaseError> {
        let said = &self.trial.observed.all;
        let ending = self.unless_older(layouts(theirs, ours));
        let (Ending::Failed(story), Some(found)) = (&ending, &self.found) else {
            return Ok(ending);
        };
        let bitmaps = has_live_bitmaps(self.trial.damaged, found);
        let without = self.without_snapshots(found, repair)?;
        if let Some(without) = &without {
            if layouts(theirs, without) == Ending::Passed {
                return Ok(Ending::OnPurpose(Purpose::SnapshotsStay));
            }
            if bitmaps && said.agrees_with(&without.said) {
                return Ok(Ending::OnPurpose(Purpose::BitmapsStay));
            }
        }
        // Stored at the very end, they have other clusters now.
        if bitmaps && said.agrees_with(&ours.said) {
            return Ok(Ending::OnPurpose(Purpose::BitmapsStay));
        }
        Ok(self.on_purpose_with_or_without(story, found, [said, &ours.said], without.as_ref()))
    }

    /// What is otherwise on purpose, of the image as it is or as qemu-img sees it without snapshots.
    fn on_purpose_with_or_without(
        &self,
        story: &str,
        found: &Structures,
        [theirs, ours]: [&Said; 2],
        without: Option<&Repaired>,
    ) -> Ending {
        let ending = self.otherwise_on_purpose(story, found, theirs, ours);
        match (&ending, without) {
            (Ending::Failed(_), Some(without)) => {
                self.otherwise_on_purpose(story, found, theirs, &without.said)
            }
            _ => ending,
        }
    }

    /// What recount makes of the image as qemu-img sees it once it has written a header without
    /// snapshots; `None` where that does not happen.
    fn without_snapshots(
        &self,
        found: &Structures,
        repair: Repair,
    ) -> Result<Option<Repaired>, CaseError> {
        let Trial {
            bench,
            damaged,
            ours,
            observed,
            ..
        } = self.trial;
        let opened_for_writing = has_live_bitmaps(damaged, found)
            || has_unknown_autoclear(damaged)
            || observed.loses_snapshots;
        if !opened_for_writing {
            return Ok(None);
        }
        let mut seen = (*damaged).clone();
        seen.write_at(SNAPSHOTS.0, &[0; SNAPSHOTS.1])
            .map_err(|source| bench.failed(source))?;
        ours.run(*bench, &seen, repair).map(Some)
    }

    /// Whether qemu-img finds no corruption in what recount leaves but in snapshots and bitmaps that
    /// qemu-img itself has removed.
    pub(super) fn clean_but_for(
        &self,
        ending: Ending,
        theirs: &Checker,
        left: &SparseBytes,
    ) -> Result<Ending, CaseError> {
        let Trial {
            bench,
            damaged,
            observed,
            ..
        } = self.trial;
        let Some(found) = &self.found else {
            return Ok(ending);
        };
        let bitmaps = has_live_bitmaps(damaged, found);
        if !bitmaps && !observed.loses_snapshots {
            return Ok(ending);
        }
        let mut without = left.clone();
        let mut clear = |(at, bytes): (u64, usize)| without.write_at(at, &vec![0; bytes]);
        clear(SNAPSHOTS)
            .and_then(|()| if bitmaps { clear(AUTOCLEAR) } else { Ok(()) })
            .map_err(|source| bench.failed(source))?;
        if !only_leaks(&theirs.check(*bench, &without)?) {
            return Ok(ending);
        }
        Ok(Ending::OnPurpose(if observed.loses_snapshots {
            Purpose::SnapshotsStay
        } else {
            Purpose::BitmapsStay
        }))
    }

    /// Whether qemu-img, asked anew about what recount leaves, counts what recount counts, where its
    /// own second look was at tables that it had in memory.
    pub(super) fn read_again(&self, ending: Ending, ours: &Repaired) -> Result<Ending, CaseError> {
        let leaks = &self.trial.observed.leaks;
        let same_repair = self.doubtful && alike_but_for(leaks, &ours.said, OF_TABLES);
        let (Ending::Failed(_), true) = (&ending, same_repair) else {
            return Ok(ending);
        };
        let Some((theirs, _)) = self.trial.theirs else {
            return Ok(ending);
        };
        let anew = theirs.check(self.trial.bench, &ours.image)?;
        if alike_but_for(&anew, &ours.said, FIXED) && !is_worse(&anew, &self.trial.observed.check) {
            return Ok(Ending::OnPurpose(Purpose::ReadsAgain));
        }
        Ok(ending)
    }

    /// Whether recount left the same bytes as qemu-img, and says of them what qemu-img itself says as
    /// soon as it reads them anew.
    pub(super) fn contradicts_itself(&self, ending: Ending, ours: &Repaired) -> Ending {
        let observed = self.trial.observed;
        let same_bytes = self
            .trial
            .theirs
            .is_some_and(|(_, left)| *left == ours.image);
        let is_so = same_bytes
            && !alike_but_for(&observed.all, &observed.settled, FIXED)
            && alike_but_for(&observed.settled, &ours.said, FIXED);
        match ending {
            Ending::Failed(_) if is_so => Ending::OnPurpose(Purpose::ReadsAgain),
            ending => ending,
        }
    }

    fn otherwise_on_purpose(
        &self,
        story: &str,
        found: &Structures,
        theirs: &Said,
        ours: &Said,
    ) -> Ending {
        let observed = self.trial.observed;
        // `-r leaks` builds nothing anew and says so; `-r all` does, and leaves no more wrong.
        let refuses = ours.counters.is_none() && ours.stderr.contains(NEEDS_REBUILD);
        let replaces = ours.counters.is_some() && !is_worse(ours, theirs);
        // The finder does not read the whole of a long reftable, recount does.
        let past_end = theirs.stderr.contains("is outside image")
            && (refblock_past_end(found) || ours.stderr.contains("is outside the image"));
        if reftable_is_cut(found) && (refuses || replaces) {
            Ending::OnPurpose(Purpose::ReplacesCutReftable)
        } else if !ours.is_answer() {
            Ending::Failed(story.to_owned())
        } else if theirs.ended == Ended::Signal(FILE_SIZE_EXCEEDED)
            || theirs.stderr.contains(TOO_LARGE) && theirs.counters.is_none() && ours.is_clean()
        {
            Ending::OnPurpose(Purpose::NoGrowth)
        } else if matches!(theirs.ended, Ended::Signal(_)) {
            Ending::OnPurpose(Purpose::Survives)
        } else if self.table_is_cut() {
            Ending::OnPurpose(Purpose::LeavesTable)
        } else if ours.stderr.contains(LUKS_GONE) && observed.settled.counters.is_none() {
            Ending::OnPurpose(Purpose::SeesLuksGone)
        } else if refuses && theirs.stderr.contains(OVERFLOW) {
            Ending::OnPurpose(Purpose::SeesNarrow)
        } else if ours.counters.is_none() {
            Ending::Failed(story.to_owned())
        } else if has_blank_snapshot(self.trial.damaged, found) && !is_worse(ours, theirs) {
            Ending::OnPurpose(Purpose::LeavesOutBlank)
        } else if !found.snapshots.is_empty() && makes_room(theirs, ours) {
            Ending::OnPurpose(Purpose::MakesRoom)
        } else if theirs.stderr.contains(STOPPED_BY_OVERLAP)
            || observed.stopped_by_overlap && *theirs == observed.all
        {
            Ending::OnPurpose(Purpose::GoesOn)
        } else if !found.snapshots.is_empty() && ends_with_copied(theirs) && ours.is_clean() {
            Ending::OnPurpose(Purpose::SetsCopied)
        } else if theirs.stderr.contains(OVERFLOW)
            && theirs.counter("corruptions") > 0
            && (ours.is_clean()
                || !is_worse(ours, theirs)
                    && (self.nowhere || alike_but_for(theirs, ours, REBUILT)))
        {
            Ending::OnPurpose(Purpose::SeesNarrow)
        } else if self.nowhere && alike_but_for(theirs, ours, &["corruptions-fixed"]) {
            Ending::OnPurpose(Purpose::CountsMended)
        } else if (self.nowhere || self.doubtful) && leaves_alone(&observed.check, theirs, ours)
            || l1_table_in_header(found)
                && (is_no_worse(ours, &observed.check) || is_no_worse(ours, theirs))
            || l2_entries_in_header(found)
                .is_some_and(|entries| is_worse_by_no_more(ours, theirs, entries))
        {
            Ending::OnPurpose(Purpose::LeavesAlone)
        } else if past_end {
            Ending::OnPurpose(Purpose::NoGrowth)
        } else if is_worse(theirs, &observed.check) && !is_worse(ours, &observed.check) {
            Ending::OnPurpose(Purpose::NeverWorse)
        } else {
            Ending::Failed(story.to_owned())
        }
    }
}
