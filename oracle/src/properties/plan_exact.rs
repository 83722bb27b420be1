//! `plan-exact`: the report that a repair gives, made before its first write, is what a check finds
//! afterwards; and the audit finds the same.

use recount::{CheckError, ImageError, Report, check};

use super::Failure;
use crate::audit::{Audit, Counters, counters};
use crate::disk::SimulatedDisk;
use crate::run::{Before, Done, Run};

/// Of a repair that ended well. What a repair of nothing finds, whoever checks the image before has
/// compared.
pub(super) fn judge(before: &Before, run: &Run) -> Result<(), Failure> {
    let Ok(Done::Image(outcome)) = &run.outcome else {
        return Ok(());
    };
    let disk = SimulatedDisk::new(run.after.clone(), None);
    let checked = check(&disk, &mut ());
    let report = &outcome.report;
    let same = matches!(&checked, Ok(found) if found == report);
    Failure::unless(same, || {
        format!("the repair reports {report:?}, a check of what it leaves {checked:?}")
    })?;
    agrees("after the repair", &checked, run.reading(before)?.audit())
}

/// The engine and the audit find the same, each on its own terms. `None`: the audit does not open
/// the image.
pub fn agrees(
    when: &str,
    checked: &Result<Report, CheckError>,
    audit: Option<&Audit>,
) -> Result<(), Failure> {
    let theirs = audit.map(counters);
    // The engine also builds anew what reaches past the end of the file.
    let rebuilds = |report: &Report| {
        let needed = audit.is_some_and(|audit| audit.qemu.rebuild_needed);
        report.needs_rebuild || !needed
    };
    let same = match (checked, &theirs) {
        (Ok(report), Some(theirs)) => {
            !theirs.gives_up && figures(report) == *theirs && rebuilds(report)
        }
        (Err(CheckError::Image(_)), None) => true,
        // The audit reads on without a LUKS header.
        (Err(CheckError::Image(ImageError::Luks { .. })), Some(theirs)) => theirs.gives_up,
        (Err(CheckError::Image(_)), Some(_)) => false,
        (Err(_), Some(theirs)) => theirs.gives_up,
        _ => false,
    };
    Failure::unless(same, || {
        let corruptions = audit.map(|audit| &audit.corruptions);
        format!("{when} the engine finds {checked:?}, the audit {theirs:?}, {corruptions:?}")
    })
}

/// A report as the audit puts it.
const fn figures(report: &Report) -> Counters {
    Counters {
        gives_up: false,
        check_errors: report.check_errors,
        image_end_offset: report.image_end_offset,
        corruptions: report.corruptions,
        leaks: report.leaks,
        total_clusters: report.total_clusters,
        allocated_clusters: report.allocated_clusters,
        fragmented_clusters: report.fragmented_clusters,
        compressed_clusters: report.compressed_clusters,
    }
}
