//! `plan-again-empty`: a plan for an image that was just repaired is empty.

use super::Verdict;
use super::reading::Kind;
use crate::disk::SimulatedDisk;
use crate::run::{Before, Repair, Run};

/// Of the bytes after a repair.
#[must_use]
pub fn judge(before: &Before, run: &Run, repair: &dyn Repair) -> Verdict {
    if run.outcome.is_err() || matches!(before.kind, Kind::Toy(_)) {
        return Verdict::NotApplicable;
    }
    let disk = SimulatedDisk::new(run.after.clone(), before.sector, before.capacity);
    match recount::repair::plan(&disk, &repair.options(), &mut ()) {
        Ok(plan) if plan.is_empty() => Verdict::Holds,
        Ok(plan) => Verdict::fails(format!("the next plan has {} phases", plan.phases.len())),
        Err(error) => Verdict::fails(format!("there is no next plan: {error}")),
    }
}
