//! A toy is planned by the engine's planners and written by its commit, nothing else: there is
//! nothing to check in it.

use recount::rebuild::{self, Input};
use recount::{Cluster, ClusterCount, Layout, PlanError, RefcountTable, RunSet, Storage};

use super::{Before, Done, Outcome, Repair, SceneError, engine_algorithm};
use crate::case::build;
use crate::case::model::Model;
use crate::case::{Algorithm, Case, Image, StorageLimit};
use crate::disk::SimulatedDisk;
use crate::properties::plan::geometry;
use crate::properties::reading::Kind;

/// Something that plans as the engine does. Tests put one in its place that is broken.
pub type Planner = fn(recount::Algorithm, &Input<'_>) -> Result<Layout, PlanError>;

/// A toy with its plan.
#[derive(Debug)]
pub struct ToyRepair {
    algorithm: recount::Algorithm,
    references: RefcountTable,
    /// What the planner said.
    pub planned: Result<Layout, PlanError>,
}

impl ToyRepair {
    /// The toy of a case, on its disk, and the engine's plan for it.
    pub fn new(case: &Case) -> Result<(Before, Self), SceneError> {
        let (toy, repair) = Self::plan(rebuild::plan, case)?;
        let built = build::build(case)?;
        let before = Before::new(built.bytes, built.capacity, Kind::Toy(toy))?;
        Ok((before, repair))
    }

    /// The toy of a case, as the algorithm takes it, and what a planner says of it.
    pub fn plan(planner: Planner, case: &Case) -> Result<(Model, Self), SceneError> {
        let Image::Model(model) = &case.image else {
            return Err(SceneError::NotAToy);
        };
        let mut toy = model.clone();
        // QEMU's algorithms count the old structures like everything else.
        if case.algorithm != Algorithm::Planned {
            for old in toy.old.drain(..) {
                toy.references[old as usize] = 1;
            }
        }
        let mut references = RefcountTable::new(geometry(model.shape())?);
        for (cluster, &count) in (0..).zip(&toy.references) {
            references.set(Cluster(cluster), count)?;
        }
        let reserved = toy.old.iter().map(|&cluster| Cluster(cluster.into()));
        let clusters = model.references.len() as u64;
        let input = Input {
            references: &references,
            reserved: &reserved.map(recount::Run::single).collect(),
            doubtful: &RunSet::new(),
            file: ClusterCount(clusters),
            capacity: match case.storage {
                StorageLimit::Growing => None,
                StorageLimit::Fixed { spare } => Some(ClusterCount(clusters + u64::from(spare))),
            },
        };
        let algorithm = engine_algorithm(case.algorithm);
        let planned = planner(algorithm, &input);
        let repair = Self {
            algorithm,
            references,
            planned,
        };
        Ok((toy, repair))
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
