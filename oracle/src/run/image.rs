//! An image is repaired by the engine from end to end, as `recount check -r all` does it.

use recount::RepairOptions;

use super::{Before, Done, Outcome, Repair, SceneError};
use crate::case::build;
use crate::case::{Algorithm, Case};
use crate::disk::SimulatedDisk;
use crate::properties::reading::Kind;

/// The repair of an image, with these options.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageRepair {
    /// How to repair.
    pub options: RepairOptions,
}

impl ImageRepair {
    /// By one algorithm, everything else as it is by default.
    pub fn by(algorithm: Algorithm) -> Self {
        let options = RepairOptions {
            algorithm: super::engine_algorithm(algorithm),
            ..RepairOptions::default()
        };
        Self { options }
    }

    /// The image of a case, on its disk, and the repair that the case asks for.
    pub fn new(case: &Case) -> Result<(Before, Self), SceneError> {
        let built = build::build(case)?;
        let before = Before::new(built.bytes, built.capacity, Kind::Image)?;
        Ok((before, Self::by(case.algorithm)))
    }
}

impl Repair for ImageRepair {
    fn repair(&self, disk: &mut SimulatedDisk) -> Outcome {
        let outcome = recount::repair(disk, &self.options, &mut ())?;
        Ok(Done::Image(Box::new(outcome)))
    }

    fn options(&self) -> RepairOptions {
        self.options
    }
}
