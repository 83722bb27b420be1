//! Writing a plan: phase by phase, a flush behind each.

use super::RepairFailure;
use crate::observer::{Observer, Stage};
use crate::plan::{Phase, RepairError, RepairPlan};
use crate::step::Step;
use crate::storage::Storage;
use crate::units::Offset;

/// Writes a plan; the steps that were done. In the end space is given back, and an error in that
/// changes nothing.
pub fn commit(
    plan: &RepairPlan,
    storage: &mut dyn Storage,
    observer: &mut dyn Observer,
) -> Result<Vec<Step>, RepairFailure> {
    let mut done = Vec::new();
    let mut has_written = false;
    for (number, phase) in plan.phases.iter().enumerate() {
        observer.progress(Stage::Writing, number as u64, plan.phases.len() as u64);
        if let Err(error) = write(plan, phase, storage, &mut has_written) {
            return Err(RepairFailure {
                error,
                has_written,
                done,
            });
        }
        for step in &phase.steps {
            observer.step(step);
            done.push(*step);
        }
    }
    let cluster_bits = plan.counts.geometry().cluster_bits();
    for run in plan.released.runs() {
        let (offset, length) = (run.first.0 << cluster_bits, run.count.0 << cluster_bits);
        if let Err(error) = storage.discard(Offset(offset), length) {
            observer.not_released(&error);
            break;
        }
    }
    Ok(done)
}

/// Writes a phase and makes it durable.
fn write(
    plan: &RepairPlan,
    phase: &Phase,
    storage: &mut dyn Storage,
    has_written: &mut bool,
) -> Result<(), RepairError> {
    let mut bytes = Vec::new();
    for (work, number) in plan.parts(phase) {
        if let Some(offset) = plan.part(work, number, storage, &mut bytes)? {
            *has_written = true;
            storage.write_at(offset, &bytes)?;
        }
    }
    Ok(storage.flush()?)
}
