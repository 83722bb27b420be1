//! Repairing an image: look at it, plan, see that the plan leads where it should, write.

use crate::check::{Report, Survey};
use crate::observer::{Observer, Stage};
use crate::plan::{Fixed, Kept, RepairError, RepairOptions, RepairPlan};
use crate::step::Step;
use crate::storage::Storage;
use crate::units::Offset;

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
    RepairPlan::of(storage, Survey::take(storage, observer)?, options, observer)
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
    let (mut steps, mut has_written) = (Vec::new(), false);
    let mut written = write(&plan, storage, observer, &mut steps, &mut has_written);
    if options.verify {
        written = written.and_then(|()| plan.read_back(storage));
    }
    match written {
        Ok(()) => Ok(Outcome {
            report: plan.after,
            fixed: plan.fixed,
            steps,
            kept: plan.kept,
        }),
        Err(error) => Err(RepairFailure {
            error,
            has_written,
            done: steps,
        }),
    }
}

/// Writes a plan phase by phase, a flush behind each. In the end space is given back, and an error in
/// that changes nothing.
fn write(
    plan: &RepairPlan,
    storage: &mut dyn Storage,
    observer: &mut dyn Observer,
    done: &mut Vec<Step>,
    has_written: &mut bool,
) -> Result<(), RepairError> {
    let (mut bytes, phases) = (Vec::new(), plan.phases.len() as u64);
    for (number, phase) in plan.phases.iter().enumerate() {
        if observer.is_cancelled() {
            return Err(RepairError::Cancelled);
        }
        observer.progress(Stage::Writing, number as u64, phases);
        for targets in phase.writes(plan.counts.geometry()) {
            if let Some(offset) = plan.write(phase.kind, targets, storage, &mut bytes)? {
                *has_written = true;
                storage.write_at(offset, &bytes)?;
            }
        }
        storage.flush()?;
        for step in &phase.steps {
            observer.step(step);
            done.push(*step);
        }
    }
    observer.progress(Stage::Writing, phases, phases);
    let cluster_bits = plan.counts.geometry().cluster_bits();
    for run in plan.released.runs() {
        let (offset, length) = (run.first.0 << cluster_bits, run.count.0 << cluster_bits);
        if let Err(error) = storage.discard(Offset(offset), length) {
            observer.not_released(&error);
            break;
        }
    }
    Ok(())
}
