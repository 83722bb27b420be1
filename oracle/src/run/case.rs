//! Playing a case to its end, with whatever its schedule makes go wrong.

use super::{Before, ImageError, ImageRepair, Repair, Run, ToyError, ToyRepair, run};
use crate::case::damage::SparseBytes;
use crate::case::{Case, Image, Schedule};
use crate::crash::Crashes;

/// Why a case cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// It is a toy, and there is no such toy.
    #[error(transparent)]
    Toy(#[from] ToyError),
    /// It is an image, and there is no such image.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// What a case begins with, and who repairs it.
pub fn scene(case: &Case) -> Result<(Before, Box<dyn Repair>), SceneError> {
    if matches!(case.image, Image::Model(_)) {
        let (before, repair) = ToyRepair::new(case)?;
        return Ok((before, Box::new(repair)));
    }
    let (before, repair) = ImageRepair::new(case)?;
    Ok((before, Box::new(repair)))
}

/// What became of a case.
#[derive(Debug)]
pub struct Played {
    /// What it began with.
    pub before: Before,
    /// The run, with the faults of the schedule.
    pub run: Run,
    /// The bytes in the end: after the power cut, where the schedule has one.
    pub bytes: SparseBytes,
}

/// Plays a case with its schedule.
pub fn play(case: &Case) -> Result<Played, SceneError> {
    let (before, repair) = scene(case)?;
    let faults = match &case.schedule {
        Schedule::Faults(faults) => faults.as_slice(),
        Schedule::Quiet | Schedule::Crash(_) => &[],
    };
    let run = run(&*repair, &before, faults);
    let bytes = match case.schedule {
        Schedule::Crash(crash) => Crashes {
            before: &before.bytes,
            trace: &run.trace,
            sector: before.sector,
        }
        .state(crash),
        Schedule::Quiet | Schedule::Faults(_) => run.after.clone(),
    };
    Ok(Played { before, run, bytes })
}
