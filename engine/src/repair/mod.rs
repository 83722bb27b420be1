//! Repairing an image: look at it, plan, see that the plan leads where it should, write.

mod commit;

pub use commit::commit;

use crate::check::{Report, Survey};
use crate::observer::Observer;
use crate::plan::{Fixed, Kept, RepairError, RepairOptions, RepairPlan};
use crate::step::Step;
use crate::storage::Storage;

/// A repair that ran to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What is found now.
    pub report: Report,
    /// How much was repaired.
    pub fixed: Fixed,
    /// What was done, in order. Empty: nothing was written.
    pub steps: Vec<Step>,
    /// What is kept.
    pub kept: Kept,
}

/// A repair that ended early.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct RepairFailure {
    /// Why.
    #[source]
    pub error: RepairError,
    /// Whether anything may have been written.
    pub has_written: bool,
    /// The steps that were done, each durable.
    pub done: Vec<Step>,
}

impl From<RepairError> for RepairFailure {
    fn from(error: RepairError) -> Self {
        Self {
            error,
            has_written: false,
            done: Vec::new(),
        }
    }
}

/// What a repair would do, without doing it: the plan that [`repair`] writes. With
/// [`RepairOptions::verify`] the image has been looked at with the plan laid over it.
pub fn plan(
    storage: &dyn Storage,
    options: &RepairOptions,
    observer: &mut dyn Observer,
) -> Result<RepairPlan, RepairError> {
    let survey = Survey::take(storage, observer)?;
    let mut plan = RepairPlan::of(storage, survey, options, observer)?;
    if options.verify {
        plan.preflight(storage, options)?;
    }
    Ok(plan)
}

/// Repairs an image. Findings and steps go to the observer as they come.
pub fn repair(
    storage: &mut dyn Storage,
    options: &RepairOptions,
    observer: &mut dyn Observer,
) -> Result<Outcome, RepairFailure> {
    let plan = plan(storage, options, observer)?;
    carry_out(storage, plan, options, observer)
}

/// Writes a plan that was made for this storage, and reads back what was written.
pub fn carry_out(
    storage: &mut dyn Storage,
    plan: RepairPlan,
    options: &RepairOptions,
    observer: &mut dyn Observer,
) -> Result<Outcome, RepairFailure> {
    let steps = commit(&plan, storage, observer)?;
    if options.verify
        && let Err(error) = plan.read_back(storage)
    {
        return Err(RepairFailure {
            error,
            has_written: !plan.is_empty(),
            done: steps,
        });
    }
    Ok(Outcome {
        report: plan.after,
        fixed: plan.fixed,
        steps,
        kept: plan.kept,
    })
}
