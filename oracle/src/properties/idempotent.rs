//! `idempotent`: a second repair writes nothing; and `plan-again-empty`: nor does it plan to.

use super::bytes::has_plan;
use super::{Property, Verdict};
use crate::disk::SimulatedDisk;
use crate::run::{Before, Run};
use crate::subject::Repair;

/// Of the bytes after a repair, which are repaired once more. Where nothing was written, the second
/// repair is the first.
pub(super) fn judge(before: &Before, first: &Run, repair: &dyn Repair) -> [(Property, Verdict); 2] {
    let both = |idempotent, plan| {
        [
            (Property::Idempotent, idempotent),
            (Property::PlanAgainEmpty, plan),
        ]
    };
    if !has_plan(before, first) {
        return both(Verdict::NotApplicable, Verdict::NotApplicable);
    }
    let again;
    let (done, trace) = if first.trace.is_read_only() {
        (&first.outcome, &first.trace)
    } else {
        let mut disk = SimulatedDisk::new(first.after.clone(), before.capacity);
        let done = repair.repair(&mut disk);
        again = (done, disk.into_parts().1);
        (&again.0, &again.1)
    };
    let planned = match done {
        Ok(done) => done.steps.first(),
        Err(error) => {
            let failure = Verdict::fails(format!("a second repair fails: {error}"));
            return both(failure.clone(), failure);
        }
    };
    let planned = planned.map_or(Verdict::Holds, |step| {
        Verdict::fails(format!("the plan of a second repair has this: {step}"))
    });
    let mut events = trace.events.iter();
    let written = events.find(|event| !event.is_flush());
    let written = written.map_or(Verdict::Holds, |event| {
        Verdict::fails(format!("a second repair does this: {event}"))
    });
    both(written, planned)
}
