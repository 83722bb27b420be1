//! A toy is planned by the engine's planners and written by its commit, nothing else: there is
//! nothing to check in it.

use recount::rebuild::{self, Input};
use recount::{Cluster, ClusterCount, Geometry, Layout, PlanError, RefcountTable, RunSet, Storage};

use super::{Before, Done, Outcome, Repair, SceneError, engine_algorithm};
use crate::case::build;
use crate::case::{Algorithm, Case, Image, StorageLimit};
use crate::disk::SimulatedDisk;
use crate::properties::reading::Kind;

/// A toy with its plan.
#[derive(Debug)]
pub struct ToyRepair {
    algorithm: recount::Algorithm,
    references: RefcountTable,
    /// What the planner said.
    pub planned: Result<Layout, PlanError>,
}

impl ToyRepair {
    /// The toy of a case, on its disk, and the plan for it.
    pub fn new(case: &Case) -> Result<(Before, Self), SceneError> {
        let Image::Model(model) = &case.image else {
            return Err(SceneError::NotAToy);
        };
        let built = build::build(case)?;
        let mut toy = model.clone();
        // QEMU's algorithms count the old structures like everything else.
        if case.algorithm != Algorithm::Planned {
            for old in toy.old.drain(..) {
                toy.references[old as usize] = 1;
            }
        }
        let mut references = RefcountTable::new(Geometry::model(
            model.shape().cluster_bits(),
            model.refcount_order,
            model.refblock_bits,
            model.reftable_entry_bits,
        )?);
        for (cluster, &count) in (0..).zip(&toy.references) {
            references.set(Cluster(cluster), count)?;
        }
        let reserved = toy.old.iter().map(|&cluster| Cluster(cluster.into()));
        let clusters = model.references.len() as u64;
        let algorithm = engine_algorithm(case.algorithm);
        let planned = rebuild::plan(
            algorithm,
            &Input {
                references: &references,
                reserved: &reserved.map(recount::Run::single).collect(),
                doubtful: &RunSet::new(),
                file: ClusterCount(clusters),
                capacity: match case.storage {
                    StorageLimit::Growing => None,
                    StorageLimit::Fixed { spare } => {
                        Some(ClusterCount(clusters + u64::from(spare)))
                    }
                },
            },
        );
        let before = Before::new(built.bytes, built.capacity, Kind::Toy(toy))?;
        let repair = Self {
            algorithm,
            references,
            planned,
        };
        Ok((before, repair))
    }

    /// Writes the plan to any storage.
    pub fn commit(&self, storage: &mut dyn Storage) -> Outcome {
        let layout = self.planned.as_ref().map_err(|error| *error)?;
        rebuild::commit(self.algorithm, layout, &self.references, storage)?;
        Ok(Done::Toy)
    }
}

impl Repair for ToyRepair {
    fn repair(&self, disk: &mut SimulatedDisk) -> Outcome {
        self.commit(disk)
    }
}
