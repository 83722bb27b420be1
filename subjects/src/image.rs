//! An image is repaired by the engine from end to end, as `recount check -r all` does it.

use recount::plan::RepairError;
use recount::repair::{plan, repair};
use recount_oracle::case::{Algorithm, Case};
use recount_oracle::disk::Disk;
use recount_oracle::run::{Before, SceneError};
use recount_oracle::subject::{Checked, Options, Outcome, Repair, Undo, Write};

use crate::engine::Lent;
use crate::{Recount, engine};

/// The repair of an image, with these options.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageRepair {
    /// How to repair.
    pub options: Options,
}

impl ImageRepair {
    /// By one algorithm, everything else as it is by default.
    pub fn by(algorithm: Algorithm) -> Self {
        let options = Options::by(algorithm);
        Self { options }
    }

    /// The image of a case, on its disk, and the repair that the case asks for.
    pub fn new(case: &Case) -> Result<(Before, Self), SceneError> {
        Ok((Before::of(case)?, Self::by(case.algorithm)))
    }
}

impl Repair for ImageRepair {
    fn repair(&self, disk: &mut dyn Disk) -> Outcome {
        let options = engine::options(&self.options);
        engine::outcome(&repair(&mut Lent::Whole(disk), &options, &mut ()))
    }

    fn options(&self) -> Options {
        self.options
    }

    fn check(&self, disk: &dyn Disk) -> Option<Checked> {
        Some(engine::check(&Lent::Shown(disk)))
    }

    fn planned(&self, disk: &dyn Disk) -> Option<Result<Vec<Write>, String>> {
        let options = engine::options(&self.options).verify(false);
        let disk = Lent::Shown(disk);
        let mut writes = Vec::new();
        let planned = plan(&disk, &options, &mut ()).and_then(|plan| {
            plan.for_each_write(&disk, &mut |_, offset, bytes| {
                if !bytes.is_empty() {
                    writes.push((offset.0, bytes.to_vec()));
                }
                Ok::<_, RepairError>(())
            })
        });
        Some(planned.map(|()| writes).map_err(|error| error.to_string()))
    }

    fn undo(&self) -> Option<&dyn Undo> {
        Some(&Recount)
    }
}
