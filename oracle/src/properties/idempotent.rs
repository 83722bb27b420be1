//! `idempotent`: a second repair writes nothing; and `plan-again-empty`: nor does it plan to.

use super::Verdict;
use super::reading::Kind;
use crate::audit::Wrong;
use crate::case::damage::SparseBytes;
use crate::disk::SimulatedDisk;
use crate::run::{Before, Done, Repair, Run};

/// Whether a repair made the file longer where something had led past its end.
#[must_use]
pub fn has_outgrown(before: &Before, after: &SparseBytes) -> bool {
    let audit = before.reading.audit();
    let past_end = audit.is_some_and(|audit| {
        let wrong = audit.corruptions.iter().map(|corruption| corruption.wrong);
        !audit.past_end.is_empty()
            || wrong
                .into_iter()
                .any(|wrong| matches!(wrong, Wrong::PastTheEnd { .. }))
    });
    past_end && after.len() > before.bytes.len()
}

/// Of the bytes after a repair.
#[must_use]
pub fn judge(before: &Before, first: &Run, repair: &dyn Repair) -> Verdict {
    judge_both(before, first, repair).0
}

/// Repairs the bytes after a repair once more: `idempotent` and `plan-again-empty`. A toy has no
/// check that could find nothing to do; where nothing was written, the second is the first.
pub(super) fn judge_both(before: &Before, first: &Run, repair: &dyn Repair) -> (Verdict, Verdict) {
    if first.outcome.is_err() || matches!(before.kind, Kind::Toy(_)) {
        return (Verdict::NotApplicable, Verdict::NotApplicable);
    }
    if first.trace.is_read_only() {
        return (Verdict::Holds, Verdict::Holds);
    }
    let mut disk = SimulatedDisk::new(first.after.clone(), before.sector, before.capacity);
    let done = repair.repair(&mut disk);
    let planned = match &done {
        Err(error) => {
            let failure = Verdict::fails(format!("a second repair fails: {error}"));
            return (failure.clone(), failure);
        }
        Ok(Done::Image(outcome)) => outcome.steps.first(),
        Ok(Done::Toy) => None,
    };
    let planned = planned.map_or(Verdict::Holds, |step| {
        Verdict::fails(format!("the plan of a second repair has {step:?}"))
    });
    let mut events = disk.trace().events().iter();
    let written = events.find(|event| !event.is_flush());
    let written = written.map_or(Verdict::Holds, |event| {
        Verdict::fails(format!("a second repair does this: {event}"))
    });
    (written, planned)
}
