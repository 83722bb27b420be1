//! `plan-exact`: the report that a repair gives, made before its first write, is what a check finds
//! afterwards; and the audit finds the same.

use recount::{CheckError, ImageError, Report, check};

use super::reading::Kind;
use super::{Failure, Verdict};
use crate::audit::{Audit, Counters, counters};
use crate::disk::SimulatedDisk;
use crate::run::{Before, Done, Run};

/// Of the bytes after a repair.
#[must_use]
pub fn judge(before: &Before, run: &Run) -> Verdict {
    let (Ok(Done::Image(outcome)), Kind::Image) = (&run.outcome, &before.kind) else {
        return Verdict::NotApplicable;
    };
    let disk = SimulatedDisk::new(run.after.clone(), before.sector, None);
    let checked = check(&disk, &mut ());
    if !matches!(&checked, Ok(report) if *report == outcome.report) {
        return Verdict::fails(format!(
            "the repair reports {:?}, a check of what it leaves {checked:?}",
            outcome.report
        ));
    }
    // What was found before has been compared by whoever checked it.
    if run.trace.is_read_only() {
        return Verdict::Holds;
    }
    match run.reading(before) {
        Ok(after) => agrees("after the repair", &checked, after.audit()).into(),
        Err(failure) => Verdict::Fails(failure),
    }
}

/// The engine and the audit find the same, each on its own terms. `None`: the audit does not open
/// the image.
pub(crate) fn agrees(
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
        (Err(CheckError::Walk(_) | CheckError::Image(ImageError::Luks { .. })), Some(theirs)) => {
            theirs.gives_up
        }
        _ => false,
    };
    if same {
        return Ok(());
    }
    let corruptions = audit.map(|audit| &audit.corruptions);
    let message =
        format!("{when} the engine finds {checked:?}, the audit {theirs:?}, {corruptions:?}");
    Err(Failure { message })
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
