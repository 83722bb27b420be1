//! `as-specified`: the image is what the specification says must come of the repair, byte for byte;
//! or nothing is written, for the reason that it gives.

use recount::plan::RepairError;
use recount::{CheckError, PlanError, RepairFailure};

use super::Verdict;
use crate::case::Algorithm;
use crate::run::{Before, Run, Stopped};
use crate::spec::{Expected, Refused, Repaired};

/// Of a repair in which no operation fails.
#[must_use]
pub fn judge(before: &Before, run: &Run) -> Verdict {
    let Some(expected) = run.expected(before) else {
        return Verdict::NotApplicable;
    };
    match (&run.outcome, expected) {
        (Err(Stopped::Repair(failure)), _) => ended_early(run, failure, expected),
        (Err(_), _) => Verdict::NotApplicable,
        (Ok(_), Expected::Refused(refused)) => {
            Verdict::fails(format!("repaired, it should be refused for {refused:?}"))
        }
        (Ok(_), Expected::Repaired(repaired)) => ended_well(before, run, repaired),
    }
}

fn ended_early(run: &Run, failure: &RepairFailure, expected: &Expected) -> Verdict {
    if !run.trace.is_read_only() || failure.has_written {
        return Verdict::fails(format!("something was written before: {failure}"));
    }
    let found = reason(&failure.error);
    // QEMU's algorithms place structures as they do; whether that fits is theirs to say.
    let placement = matches!(
        failure.error,
        RepairError::Plan(_) | RepairError::GrowthWouldHide { .. }
    );
    let should = match expected {
        Expected::Refused(refused) if found == Some(*refused) => return Verdict::Holds,
        _ if placement && run.ask().algorithm != Algorithm::Planned => return Verdict::Holds,
        Expected::Refused(refused) => format!("be refused for {refused:?}"),
        Expected::Repaired(repaired) => format!("be repaired: {}", described(repaired)),
    };
    Verdict::fails(format!("refused ({failure}), it should {should}"))
}

fn ended_well(before: &Before, run: &Run, repaired: &Repaired) -> Verdict {
    if let Err(difference) = repaired.compare(&before.bytes, &run.after) {
        return Verdict::fails(format!("{difference}; expected: {}", described(repaired)));
    }
    if run.trace.is_read_only() == repaired.is_empty() {
        return Verdict::Holds;
    }
    let what = if repaired.is_empty() {
        "something"
    } else {
        "nothing"
    };
    Verdict::fails(format!("it wrote {what}, but {}", described(repaired)))
}

/// What a repair should do, in a few words.
fn described(repaired: &Repaired) -> String {
    format!(
        "{} clusters changed, {} refcounts kept, {}, damage {:?}",
        repaired.changed.len(),
        repaired.kept.len(),
        if repaired.rebuilt {
            "structures anew"
        } else {
            "in place"
        },
        repaired.damage.first()
    )
}

/// Why a repair was refused, as the specification puts it.
const fn reason(error: &RepairError) -> Option<Refused> {
    Some(match error {
        RepairError::Check(
            CheckError::Image(recount::ImageError::Luks { .. }) | CheckError::Walk(_),
        ) => Refused::CheckGivesUp,
        RepairError::Check(CheckError::Image(_)) => Refused::NotOpened,
        RepairError::NeedsRebuild => Refused::NeedsRebuild,
        RepairError::Plan(PlanError::ReftableTooLarge { .. }) => Refused::ReftableTooLarge,
        RepairError::Plan(PlanError::NoSpace { .. } | PlanError::NoRun { .. })
        | RepairError::PastCapacity { .. } => Refused::NoSpace,
        RepairError::GrowthWouldHide { .. } => Refused::GrowthWouldHide,
        _ => return None,
    })
}
