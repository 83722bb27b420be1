//! `idempotent`: a second repair writes nothing.

use super::Verdict;
use super::reading::Kind;
use crate::audit::Wrong;
use crate::case::damage::{ReadWriteAt, SparseBytes};
use crate::disk::SimulatedDisk;
use crate::run::{Before, Repair, Run};

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
    past_end && ReadWriteAt::len(after) > ReadWriteAt::len(&before.bytes)
}

/// Repairs the bytes after a repair once more. A toy has no check that could find nothing to do.
#[must_use]
pub fn judge(before: &Before, first: &Run, repair: &dyn Repair) -> Verdict {
    if first.outcome.is_err() || matches!(before.kind, Kind::Toy(_)) {
        return Verdict::NotApplicable;
    }
    let mut disk = SimulatedDisk::new(first.after.clone(), before.sector, before.capacity);
    if let Err(error) = repair.repair(&mut disk) {
        return Verdict::fails(format!("a second repair fails: {error}"));
    }
    match disk.trace().events().iter().find(|event| !event.is_flush()) {
        None => Verdict::Holds,
        Some(event) => Verdict::fails(format!("a second repair does this: {event}")),
    }
}
