//! `plan-exact`: the report that a repair gives, made before its first write, is what a check finds
//! afterwards; and the audit finds the same.

use super::{Failure, Verdict};
use crate::audit::{Audit, counters};
use crate::disk::SimulatedDisk;
use crate::run::{Before, Repair, Run};
use crate::subject::Checked;

/// Of a repair that ended well. What a repair of nothing finds, whoever checks the image before has
/// compared. Of a toy there is no report.
pub(super) fn judge(before: &Before, run: &Run, repair: &dyn Repair) -> Verdict {
    let report = run.outcome.as_ref().ok();
    let Some(report) = report.and_then(|done| done.report.as_ref()) else {
        return Verdict::NotApplicable;
    };
    let disk = SimulatedDisk::new(run.after.clone(), None);
    let checked = repair.check(&disk);
    let exact = Failure::unless(checked.as_ref() == Some(report), || {
        format!("the repair reports {report:?}, a check of what it leaves {checked:?}")
    });
    exact
        .and_then(|()| agrees("after the repair", report, run.reading(before)?.audit()))
        .into()
}

/// A check and the audit find the same, each on its own terms. `None`: the audit does not open the
/// image.
pub fn agrees(when: &str, checked: &Checked, audit: Option<&Audit>) -> Result<(), Failure> {
    let theirs = audit.map(counters);
    // The engine also builds anew what reaches past the end of the file.
    let needs_rebuild = audit.is_some_and(|audit| audit.qemu.rebuild_needed);
    let same = match (checked, &theirs) {
        (Checked::Found(counters, rebuilds), Some(theirs)) => {
            !theirs.gives_up && counters == theirs && (*rebuilds || !needs_rebuild)
        }
        (Checked::NotOpened(_) | Checked::NoLuksHeader(_), None) => true,
        // The audit reads on without a LUKS header.
        (Checked::NoLuksHeader(_) | Checked::GivesUp(_), Some(theirs)) => theirs.gives_up,
        _ => false,
    };
    Failure::unless(same, || {
        let corruptions = audit.map(|audit| &audit.corruptions);
        format!("{when} a check finds {checked:?}, the audit {theirs:?}, {corruptions:?}")
    })
}
