//! What the engine is asked and what it says, in the words of the harness.

use recount::{
    CheckError, ImageError, PlanError, RepairError, RepairFailure, RepairOptions, Report, Scope,
    Storage,
};

use crate::audit::Counters;
use crate::case::Algorithm;
use crate::spec::Refused;
use crate::subject::{Checked, Done, Options, Outcome, Stopped};

/// The engine's name for an algorithm.
pub const fn algorithm(algorithm: Algorithm) -> recount::Algorithm {
    match algorithm {
        Algorithm::Planned => recount::Algorithm::Planned,
        Algorithm::FirstFit => recount::Algorithm::FirstFit,
        Algorithm::Tail => recount::Algorithm::Tail,
    }
}

/// What it is told.
pub fn options(options: &Options) -> RepairOptions {
    RepairOptions {
        scope: if options.only_leaks {
            Scope::Leaks
        } else {
            Scope::All
        },
        algorithm: algorithm(options.algorithm),
        reuse_old: options.reuse_old,
        release_unreachable: options.release_unreachable,
        ..RepairOptions::default()
    }
}

/// Checks.
pub fn check(storage: &dyn Storage) -> Checked {
    match recount::check(storage, &mut ()) {
        Ok(report) => found(&report),
        Err(CheckError::Image(error @ ImageError::Luks { .. })) => {
            Checked::NoLuksHeader(error.to_string())
        }
        Err(CheckError::Image(error)) => Checked::NotOpened(error.to_string()),
        Err(error) => Checked::GivesUp(error.to_string()),
    }
}

const fn found(report: &Report) -> Checked {
    Checked::Found(counters(report), report.needs_rebuild)
}

/// A report as the audit puts it.
pub const fn counters(report: &Report) -> Counters {
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

/// How a repair ended.
pub fn outcome(outcome: &Result<recount::Outcome, RepairFailure>) -> Outcome {
    match outcome {
        Ok(outcome) => Ok(Done {
            report: Some(found(&outcome.report)),
            steps: outcome.steps.iter().map(ToString::to_string).collect(),
        }),
        Err(failure) => Err(stopped(failure)),
    }
}

fn stopped(failure: &RepairFailure) -> Stopped {
    if failure.has_written {
        return Stopped::unknown(failure);
    }
    Stopped {
        reason: reason(&failure.error),
        by_placement: matches!(
            failure.error,
            RepairError::Plan(_) | RepairError::GrowthWouldHide { .. }
        ),
        message: failure.to_string(),
    }
}

/// Why it was refused, as the specification puts it.
const fn reason(error: &RepairError) -> Option<Refused> {
    Some(match error {
        RepairError::Check(CheckError::Image(ImageError::Luks { .. })) => Refused::CheckGivesUp,
        RepairError::Check(CheckError::Image(_)) => Refused::NotOpened,
        RepairError::Check(_) => Refused::CheckGivesUp,
        RepairError::NeedsRebuild => Refused::NeedsRebuild,
        RepairError::Plan(PlanError::ReftableTooLarge { .. }) => Refused::ReftableTooLarge,
        RepairError::Plan(PlanError::NoSpace { .. }) | RepairError::PastCapacity { .. } => {
            Refused::NoSpace
        }
        RepairError::GrowthWouldHide { .. } => Refused::GrowthWouldHide,
        _ => return None,
    })
}
