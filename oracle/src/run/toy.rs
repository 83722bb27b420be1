//! A toy is planned by the engine's planners and written by its commit, nothing else: there is
//! nothing to check in it.

use std::sync::Arc;

use recount::rebuild::{self, Input};
use recount::{
    Cluster, ClusterCount, Geometry, Layout, OutOfMemory, PlanError, RefcountTable, Run, RunSet,
    Storage,
};

use super::{Before, Done, Outcome, Repair};
use crate::audit::ToyGeometry;
use crate::case::build::{self, BuildError};
use crate::case::model::Model;
use crate::case::{Algorithm, Case, Image, StorageLimit};
use crate::disk::SimulatedDisk;
use crate::properties::reading::{Kind, Toy};

/// What a planner is told of a toy.
#[derive(Debug)]
pub struct ToyGround {
    references: RefcountTable,
    reserved: RunSet,
    file: ClusterCount,
    capacity: Option<ClusterCount>,
}

/// A toy with its plan.
#[derive(Debug)]
pub struct ToyRepair {
    algorithm: recount::Algorithm,
    ground: Arc<ToyGround>,
    /// What the planner said.
    pub planned: Result<Layout, PlanError>,
}

/// Why there is no such toy.
#[derive(Debug, thiserror::Error)]
pub enum ToyError {
    /// The case has an image of another kind.
    #[error("the case is no toy: its image is not a model")]
    NotAToy,
    /// It cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The engine has no such geometry.
    #[error(transparent)]
    Geometry(#[from] recount::geometry::GeometryError),
    /// The judge cannot read what was built.
    #[error(transparent)]
    Unreadable(#[from] crate::audit::Unreadable),
    /// The engine has not enough memory.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

impl ToyGround {
    /// The toy of a case, on its disk, and what the case's algorithm is told of it. A sector is a
    /// cluster, so that refblocks and reftable clusters are lost one by one.
    pub fn new(case: &Case) -> Result<(Before, Arc<Self>), ToyError> {
        let Image::Model(model) = &case.image else {
            return Err(ToyError::NotAToy);
        };
        let built = build::build(case)?;
        let planned = case.algorithm == Algorithm::Planned;
        let references = references(model, planned);
        let ground = Self::of(model, &references, planned, case.storage)?;
        let toy = Toy {
            geometry: ToyGeometry::from(model),
            references,
            reserved: if planned {
                model.old.clone()
            } else {
                Vec::new()
            },
        };
        let sector = model.cluster_size();
        let before = Before::new(built.bytes, sector, built.capacity, Kind::Toy(toy))?;
        Ok((before, Arc::new(ground)))
    }

    fn of(
        model: &Model,
        references: &[u64],
        planned: bool,
        storage: StorageLimit,
    ) -> Result<Self, ToyError> {
        let geometry = Geometry::model(
            model.cluster_bits(),
            model.refcount_order,
            model.refblock_bits,
            model.reftable_entry_bits,
        )?;
        let mut counts = RefcountTable::new(geometry);
        for (cluster, &count) in (0..).zip(references) {
            counts.set(Cluster(cluster), count)?;
        }
        let old = model.old.iter().filter(|_| planned);
        let old = old.map(|&cluster| Run::single(Cluster(cluster.into())));
        let clusters = model.references.len() as u64;
        Ok(Self {
            references: counts,
            reserved: old.collect(),
            file: ClusterCount(clusters),
            capacity: match storage {
                StorageLimit::Growing => None,
                StorageLimit::Fixed { spare } => Some(ClusterCount(clusters + u64::from(spare))),
            },
        })
    }

    /// Plans. Algorithms that take the old structures alike can share a ground: QEMU's two do.
    #[must_use]
    pub fn plan(self: &Arc<Self>, algorithm: Algorithm) -> ToyRepair {
        let algorithm = super::engine_algorithm(algorithm);
        let input = Input {
            references: &self.references,
            reserved: &self.reserved,
            doubtful: &RunSet::new(),
            file: self.file,
            capacity: self.capacity,
        };
        ToyRepair {
            algorithm,
            ground: Arc::clone(self),
            planned: rebuild::plan(algorithm, &input),
        }
    }
}

impl ToyRepair {
    /// The toy of a case, on its disk, and the plan for it.
    pub fn new(case: &Case) -> Result<(Before, Self), ToyError> {
        let (before, ground) = ToyGround::new(case)?;
        Ok((before, ground.plan(case.algorithm)))
    }

    /// Writes the plan to any storage.
    pub fn commit(&self, storage: &mut dyn Storage) -> Outcome {
        let layout = self.planned.as_ref().map_err(|error| *error)?;
        rebuild::commit(self.algorithm, layout, &self.ground.references, storage)?;
        Ok(Done::Toy)
    }
}

impl Repair for ToyRepair {
    fn repair(&self, disk: &mut SimulatedDisk) -> Outcome {
        self.commit(disk)
    }
}

/// References of each cluster. QEMU's algorithms count the old structures like everything else.
fn references(model: &Model, planned: bool) -> Vec<u64> {
    let mut references = model.references.clone();
    if !planned {
        for &old in &model.old {
            references[old as usize] = 1;
        }
    }
    references
}
