//! `plan-exact`: the report that a repair gives, made before its first write, is what a check finds
//! afterwards; and the audit finds the same.

use super::Failure;
use crate::audit::{Audit, counters};
use crate::disk::SimulatedDisk;
use crate::run::{Before, Run};
use crate::subject::Checked;
use crate::subject::Repair;

/// Of a repair of an image that ended well. What a repair of nothing finds, whoever checks the image
/// before has compared.
pub(super) fn judge(before: &Before, run: &Run, repair: &dyn Repair) -> Result<(), Failure> {
    let report = run.outcome.as_ref().ok();
    let report = report.and_then(|done| done.report.as_ref());
    let report = report.ok_or_else(|| Failure::new("the repair does not report what is left"))?;
    let disk = SimulatedDisk::new(run.after.clone(), None);
    let checked = repair.check(&disk);
    Failure::unless(checked.as_ref() == Some(report), || {
        format!("the repair reports {report:?}, a check of what it leaves {checked:?}")
    })?;
    agrees("after the repair", report, run.reading(before)?.audit())
}

/// A check and the audit find the same, each on its own terms. `None`: the audit does not open the
/// image.
pub fn agrees(when: &str, checked: &Checked, audit: Option<&Audit>) -> Result<(), Failure> {
    let theirs = audit.map(counters);
    // The engine also builds anew what reaches past the end of the file.
    let is_due = audit.is_some_and(|audit| audit.qemu.rebuild_needed);
    let same = match (checked, &theirs) {
        (
            Checked::Found {
                counters,
                needs_rebuild,
                ..
            },
            Some(theirs),
        ) => !theirs.gives_up && counters == theirs && (*needs_rebuild || !is_due),
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
