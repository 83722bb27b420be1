//! An image is repaired by the engine from end to end, as `recount check -r all` does it.

use super::engine::Lent;
use super::{Before, Repair, SceneError, engine};
use crate::case::build;
use crate::case::{Algorithm, Case};
use crate::disk::Disk;
use crate::properties::reading::Kind;
use crate::subject::{Checked, Options, Outcome};

/// The repair of an image, with these options.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageRepair {
    /// How to repair.
    pub options: Options,
}

impl ImageRepair {
    /// By one algorithm, everything else as it is by default.
    pub fn by(algorithm: Algorithm) -> Self {
        let options = Options {
            algorithm,
            ..Options::default()
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
    fn repair(&self, disk: &mut dyn Disk) -> Outcome {
        let options = engine::options(&self.options);
        engine::outcome(&recount::repair(&mut Lent::Whole(disk), &options, &mut ()))
    }

    fn options(&self) -> Options {
        self.options
    }

    fn check(&self, disk: &dyn Disk) -> Option<Checked> {
        Some(engine::check(&Lent::Shown(disk)))
    }
}
