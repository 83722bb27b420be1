//! One repair of an image, and what is asked of it.

use itertools::Itertools;
use recount::{Algorithm, CheckError, Outcome, RepairFailure, Report, Scope, check, repair};
use recount::{RepairError, Step};

use super::{Way, agrees, sparse};
use crate::audit::{Audit, Bytes, Referrer, Wrong, audit};
use crate::case::damage::{ReadWriteAt, SparseBytes};
use crate::disk::{SECTOR, SimulatedDisk, Trace};
use crate::fuzz::Broken;
use crate::properties::Verdict;
use crate::properties::clean_afterwards::DIRTY_AND_CORRUPT;
use crate::properties::crash_atomic::ends_flushed;
use crate::properties::keeps_what_it_cannot_follow::of_readings;
use crate::properties::leaves_data_alone::Guard;
use crate::properties::nowhere::{
    leads_nowhere_still, nowhere, takes_header_for_a_table, takes_header_for_snapshot_table,
};
use crate::properties::reading::{Kind, Reading};
use crate::run::Before;

/// Bytes by which a repair may make a file longer than twice what it was: a new snapshot table, at
/// most 64 MiB, and new structures at the largest cluster size.
const GROWTH_MAX: u64 = 80 << 20;
/// Repairs of a file that goes on growing over what its entries lead to, at most. Each grows over
/// one of the entries at least; a file with more of them is not followed to the end.
const OUTGROWN_MAX: u64 = 64;

/// A repair and what it did.
pub(super) struct Run {
    way: Way,
    /// Bytes before the repair.
    length: u64,
    pub(super) outcome: Result<Outcome, RepairFailure>,
    after: SparseBytes,
    trace: Trace,
    /// Bytes that it read.
    pub(super) bytes_read: u64,
}

impl Run {
    pub(super) fn new(bytes: SparseBytes, way: Way) -> Self {
        let length = ReadWriteAt::len(&bytes);
        let capacity = (!way.grows).then_some(length);
        let mut disk = SimulatedDisk::new(bytes, SECTOR, capacity);
        let outcome = repair(&mut disk, &way.options, &mut ());
        let bytes_read = disk.bytes_read();
        let (after, trace) = disk.into_parts();
        Self {
            way,
            length,
            outcome,
            after,
            trace,
            bytes_read,
        }
    }

    /// The report is what a check finds, the audit says the same, refcounts are right, what was
    /// done lasts, and there is nothing left to repair. `checked` and `before` are what a check and
    /// the audit say of the input.
    pub(super) fn ended_well(
        &self,
        outcome: &Outcome,
        input: &[u8],
        checked: &Result<Report, CheckError>,
        before: Option<&Audit>,
    ) -> Result<(), Broken> {
        let is_blind_before = before.is_none_or(|before| is_blind(before, &input));
        if self.trace.is_read_only() {
            // These are the bytes that were checked and audited, and a next repair finds the same.
            self.reports(outcome, checked, before, before)?;
            return before.map_or(Ok(()), |audit| {
                self.is_whole(outcome, audit, is_blind_before)
            });
        }
        let length = ReadWriteAt::len(&self.after);
        if length > 2 * self.length + GROWTH_MAX {
            let message = format!("the file grew from {} bytes to {length}", self.length);
            return Err(Broken::new("grows-only-when-needed", message));
        }
        if let Verdict::Fails(failure) = ends_flushed(&self.trace) {
            return Err(Broken::new("crash-atomic", failure.message));
        }
        let disk = SimulatedDisk::new(self.after.clone(), SECTOR, None);
        let checked = check(&disk, &mut ());
        let audited = audit(&self.after);
        self.reports(outcome, &checked, before, audited.as_ref().ok())?;
        agrees("after the repair", &checked, &audited)?;
        if let Ok(audit) = &audited {
            let is_blind = is_blind_before || is_blind(audit, &self.after);
            self.is_whole(outcome, audit, is_blind)?;
        }
        if let (Some(before), Ok(after)) = (before, &audited) {
            self.keeps_data(input, before, Some(after))?;
        }
        let is_cut_now = || {
            audited
                .as_ref()
                .is_ok_and(|audit| self.has_grown_into(audit))
        };
        if !self.is_planned()
            && (before.is_none_or(|before| has_cut_table(before, self.length)) || is_cut_now())
        {
            return Ok(());
        }
        self.comes_to_an_end(Overlap {
            header: audited.as_ref().is_ok_and(takes_header_for_a_table),
            structures: before.is_none_or(Overlap::of_structures),
        })
    }

    /// What a repair reports is what a check finds. Where a check cannot be completed although the
    /// repair was, the repair reports an error of the check.
    fn reports(
        &self,
        outcome: &Outcome,
        checked: &Result<Report, CheckError>,
        before: Option<&Audit>,
        after: Option<&Audit>,
    ) -> Result<(), Broken> {
        let same = match checked {
            Ok(report) => *report == outcome.report,
            Err(CheckError::Walk(_)) => {
                outcome.report.check_errors > 0 && self.may_end_a_check(before, after)
            }
            Err(_) => false,
        };
        if same {
            return Ok(());
        }
        let message = format!(
            "the repair reports {:?}, a check of what it leaves {checked:?}",
            outcome.report
        );
        Err(Broken::new("reports-what-is-there", message))
    }

    /// Whether something is read as the snapshot table that only a check reads so, and that may say
    /// what ends the check: the header, or what QEMU's algorithms have placed past the end of the
    /// file.
    fn may_end_a_check(&self, before: Option<&Audit>, after: Option<&Audit>) -> bool {
        let is_header = after.is_some_and(takes_header_for_snapshot_table);
        let is_past_the_end = before.is_some_and(|audit| {
            audit.leads_nowhere().any(|corruption| {
                corruption.referrer == Referrer::SnapshotTable
                    && matches!(corruption.wrong, Wrong::PastTheEnd { .. })
            })
        });
        is_header || !self.is_planned() && is_past_the_end
    }

    /// What a repair that ended well leaves: no bit in the header says that something is wrong when
    /// nothing is, and after `-r all` each refcount is the number of references. Where an entry leads
    /// nowhere, clusters without a reference are kept, and when the file grew over the place that
    /// the entry names, it counts as a reference from then on: the report says so, and nothing more
    /// is asked.
    fn is_whole(&self, outcome: &Outcome, after: &Audit, is_blind: bool) -> Result<(), Broken> {
        let nothing_wrong = outcome.report.check_errors == 0 && outcome.report.corruptions == 0;
        let features = after.header.incompatible;
        if nothing_wrong && features & DIRTY_AND_CORRUPT != 0 {
            let message = format!("no corruption is left, but the features are {features:#x}");
            return Err(Broken::new("clean-afterwards", message));
        }
        if is_blind || self.way.options.scope != Scope::All {
            return Ok(());
        }
        match after.mismatches.first() {
            Some(wrong) if wrong.is_leak() => Err(Broken::new("no-leaks", format!("{wrong:?}"))),
            Some(wrong) => Err(Broken::new("counts-every-cluster", format!("{wrong:?}"))),
            None => Ok(()),
        }
    }

    /// What is in use stays as it is, and while something leads nowhere, so does what is allocated.
    fn keeps_data(
        &self,
        input: &[u8],
        before: &Audit,
        after: Option<&Audit>,
    ) -> Result<(), Broken> {
        let Way { grows, options } = self.way;
        if !self.is_planned() || self.trace.is_read_only() {
            return Ok(());
        }
        let bytes = sparse(input);
        // Bytes in memory can be read.
        let Ok(reading) = Reading::of_image(before.clone(), &bytes) else {
            return Ok(());
        };
        let before = Before {
            capacity: (!grows).then_some(self.length),
            sector: SECTOR,
            kind: Kind::Image,
            bytes,
            reading,
        };
        let guard = Guard::new(&before, &self.trace);
        if let Err(failure) = guard.check(&self.after) {
            return Err(Broken::new("leaves-data-alone", failure.message));
        }
        // Where the entries that led nowhere are replaced, nothing need be kept any more. A file that
        // has grown hides that the others still lead nowhere.
        let is_hidden = || {
            let still = |audit| leads_nowhere_still(audit, &before.bytes, &self.after);
            let grew = ReadWriteAt::len(&self.after) > self.length;
            grew && matches!(before.reading.audit().map(still), Some(Ok(true)))
        };
        let Some(after) = after.filter(|after| {
            before.reading.is_blind()
                && !options.release_unreachable
                && (is_blind(after, &self.after) || is_hidden())
        }) else {
            return Ok(());
        };
        let after = Reading::of_image(after.clone(), &self.after);
        let verdict = after.map(|after| of_readings(&before, &after, &self.after));
        if let Ok(Verdict::Fails(failure)) = verdict {
            return Err(Broken::new("keeps-what-it-cannot-follow", failure.message));
        }
        Ok(())
    }

    /// A second repair does nothing, or one that acts on what is new to it; then there is an end.
    fn comes_to_an_end(&self, overlap: Overlap) -> Result<(), Broken> {
        let planned = self.is_planned();
        let mut again = Self::new(self.after.clone(), self.way);
        let mut is_new = self.says_something_new(overlap);
        let mut dead_ends = self.dead_ends();
        for repairs in 0..OUTGROWN_MAX {
            if again.outcome.is_err()
                || !is_new
                || again.trace.is_read_only()
                || planned && repairs > dead_ends
            {
                break;
            }
            if !planned && audit(&again.after).is_ok_and(|audit| again.has_grown_into(&audit)) {
                return Ok(());
            }
            // What an entry leads to by now may lead nowhere itself.
            dead_ends = dead_ends.max(again.dead_ends());
            let next = Self::new(again.after.clone(), self.way);
            is_new = again.says_something_new(overlap);
            again = next;
        }
        if is_new && dead_ends > OUTGROWN_MAX || again.did_nothing() {
            return Ok(());
        }
        let did = again.trace.events().iter().join(", ");
        let message = format!(
            "a second repair ended with {:?} and did: {did}",
            again.outcome
        );
        Err(Broken::new("idempotent", message))
    }

    /// Entries and tables that lead nowhere.
    fn dead_ends(&self) -> u64 {
        let outcome = self.outcome.as_ref();
        outcome.map_or(0, |outcome| outcome.report.dead_ends.count)
    }

    /// Whether it ended well and there was nothing to do.
    fn did_nothing(&self) -> bool {
        self.outcome.is_ok() && self.trace.is_read_only()
    }

    /// Whether what it did makes the image say something new. A file that has grown over the place
    /// where an entry or a table led past its end says zeros there; a header that something takes
    /// for a table says what was written to it; and QEMU's algorithms leave it to the next repair
    /// to look at L2 tables that lay in the old snapshot table or refcount structures.
    fn says_something_new(&self, overlap: Overlap) -> bool {
        let grew = ReadWriteAt::len(&self.after) > self.length;
        let wrote_header = || self.trace.writes().any(|(offset, _)| offset < SECTOR);
        let gave_up = |step: &Step| match step {
            Step::RewroteSnapshotTable { .. } => true,
            Step::Rebuilt { .. } => overlap.structures,
            _ => false,
        };
        let outcome = self.outcome.as_ref();
        let uncovered = || outcome.is_ok_and(|outcome| outcome.steps.iter().any(gave_up));
        grew || overlap.header && wrote_header() || !self.is_planned() && uncovered()
    }

    /// Whether the file has grown over the beginning of a table that still reaches past its end, by
    /// the audit of what it left.
    fn has_grown_into(&self, after: &Audit) -> bool {
        let length = ReadWriteAt::len(&self.after);
        length > self.length && has_cut_table(after, length)
    }

    /// Whether more is asked of it than of QEMU's algorithms.
    fn is_planned(&self) -> bool {
        self.way.options.algorithm == Algorithm::Planned
    }

    /// Nothing was written if nothing was to be done, and only a lack of space is a reason.
    pub(super) fn ended_early(
        &self,
        failure: &RepairFailure,
        input: &[u8],
        before: Option<&Audit>,
    ) -> Result<(), Broken> {
        let error = &failure.error;
        let expected = match error {
            RepairError::NeedsRebuild => self.way.options.scope == Scope::Leaks,
            RepairError::Check(_) | RepairError::Plan(_) => true,
            _ => false,
        };
        if !expected {
            let message = format!("nothing failed, but the repair ended with: {error}");
            return Err(Broken::new("fault-safe", message));
        }
        if failure.done.is_empty() && !self.trace.is_read_only() {
            let message = format!("something was written before the repair ended with: {error}");
            return Err(Broken::new("leaves-data-alone", message));
        }
        before.map_or(Ok(()), |before| self.keeps_data(input, before, None))
    }
}

/// What lies where tables are read, so that writing it may change what they say.
#[derive(Clone, Copy)]
struct Overlap {
    /// Something takes the header for a table.
    header: bool,
    /// An L2 table lies in the refcount structures.
    structures: bool,
}

impl Overlap {
    fn of_structures(audit: &Audit) -> bool {
        let is_table = |referrer: &Referrer| matches!(referrer, Referrer::L2 { .. });
        audit.references.values().any(|referrers| {
            referrers.iter().any(is_table) && referrers.iter().any(Referrer::is_structure)
        })
    }
}

/// Whether a table begins inside a file of this length and reaches past its end. QEMU's algorithms
/// take its clusters for free ones; what they write there is that table, to the next repair.
fn has_cut_table(audit: &Audit, length: u64) -> bool {
    audit.leads_nowhere().any(|corruption| {
        matches!(corruption.wrong, Wrong::PastTheEnd { offset, .. } if offset < length)
    })
}

/// Whether an entry or a table leads nowhere, so that clusters may be in use without a reference.
fn is_blind(audit: &Audit, bytes: &dyn Bytes) -> bool {
    // Bytes in memory can be read.
    !matches!(nowhere(audit, bytes), Ok(None))
}
