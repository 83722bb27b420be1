//! The programs that the harness judges, as it takes them: recount's engine. And the seeds of the fuzz
//! targets, which are chosen by what they reach in it.

pub mod arms;
pub mod engine;
pub mod error;
pub mod findings;
mod image;
pub mod packed;
pub mod process;
pub mod programs;
pub mod seeds;
mod undo;

use recount::rebuild::{self, Input};
use recount::{Cluster, ClusterCount, RefcountTable, Run};
use recount_oracle::case::model::Model;
use recount_oracle::case::{Algorithm, Case, StorageLimit};
use recount_oracle::placement::{NoPlacement, Placement};
use recount_oracle::run::{Before, SceneError, ToyRepair};
use recount_oracle::subject::{Options, Repair, Subject, Undo};

pub use image::ImageRepair;

/// The engine of recount.
#[derive(Clone, Copy, Debug)]
pub struct Recount;

/// The toy of a case, on its disk, and the engine's plan for it.
pub fn toy(case: &Case) -> Result<(Before, ToyRepair<'static>), SceneError> {
    ToyRepair::new(&Recount, case)
}

impl Subject for Recount {
    fn place(
        &self,
        algorithm: Algorithm,
        toy: &Model,
        storage: StorageLimit,
    ) -> Result<Placement, NoPlacement> {
        let geometry = engine::geometry(toy.shape());
        let geometry = geometry.map_err(|error| NoPlacement::Unsupported(error.to_string()))?;
        let mut references = RefcountTable::new(geometry);
        for (cluster, &count) in (0..).zip(&toy.references) {
            let counted = references.set(Cluster(cluster), count);
            counted.map_err(|error| NoPlacement::Unsupported(error.to_string()))?;
        }
        let reserved = toy.old.iter().map(|&cluster| Cluster(cluster.into()));
        let clusters = toy.references.len() as u64;
        let input = Input {
            references: &references,
            reserved: &reserved.map(Run::single).collect(),
            file: ClusterCount(clusters),
            capacity: match storage {
                StorageLimit::Growing => None,
                StorageLimit::Fixed { spare } => Some(ClusterCount(clusters + u64::from(spare))),
            },
        };
        engine::placement(rebuild::plan(engine::algorithm(algorithm), &input))
    }

    fn images(&self, options: Options) -> Box<dyn Repair + '_> {
        Box::new(ImageRepair { options })
    }

    fn undo(&self) -> Option<&dyn Undo> {
        Some(self)
    }
}
