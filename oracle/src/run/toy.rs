//! A toy is planned by the engine's planners and written by its commit, nothing else: there is
//! nothing to check in it.

use recount::rebuild::{self, Input};
use recount::{
    Cluster, ClusterCount, Geometry, Layout, OutOfMemory, PlanError, RefcountTable, Run, RunSet,
    Storage,
};

use super::{Before, Done, Outcome, Repair};
use crate::audit::ToyGeometry;
use crate::case::build::{self, BuildError};
use crate::case::damage::SparseBytes;
use crate::case::model::Model;
use crate::case::{Algorithm, Case, Image, StorageLimit};
use crate::disk::SimulatedDisk;
use crate::properties::reading::{Kind, Toy};

/// A toy with its plan.
#[derive(Debug)]
pub struct ToyRepair {
    algorithm: recount::Algorithm,
    references: RefcountTable,
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

impl ToyRepair {
    /// The toy of a case, on its disk, and the plan for it. A sector is a cluster, so that
    /// refblocks and reftable clusters are lost one by one.
    pub fn new(case: &Case) -> Result<(Before, Self), ToyError> {
        let Image::Model(model) = &case.image else {
            return Err(ToyError::NotAToy);
        };
        let mut bytes = SparseBytes::default();
        let built = build::build(case, &mut bytes)?;
        let planned = case.algorithm == Algorithm::Planned;
        let toy = Toy {
            geometry: ToyGeometry::from(model),
            references: references(model, planned),
            reserved: if planned {
                model.old.clone()
            } else {
                Vec::new()
            },
        };
        let sector = model.cluster_size();
        let before = Before::new(bytes, sector, built.capacity, Kind::Toy(toy))?;
        let repair = Self::plan(model, case.storage, case.algorithm)?;
        Ok((before, repair))
    }

    fn plan(model: &Model, storage: StorageLimit, algorithm: Algorithm) -> Result<Self, ToyError> {
        let geometry = Geometry::model(
            model.cluster_bits(),
            model.refcount_order,
            model.refblock_bits,
            model.reftable_entry_bits,
        )?;
        let planned = algorithm == Algorithm::Planned;
        let mut counts = RefcountTable::new(geometry);
        for (cluster, count) in (0..).zip(references(model, planned)) {
            counts.set(Cluster(cluster), count)?;
        }
        let old = model.old.iter().filter(|_| planned);
        let old = old.map(|&cluster| Run::single(Cluster(cluster.into())));
        let clusters = model.references.len() as u64;
        let algorithm = super::engine_algorithm(algorithm);
        let input = Input {
            references: &counts,
            reserved: &old.collect(),
            doubtful: &RunSet::new(),
            file: ClusterCount(clusters),
            capacity: match storage {
                StorageLimit::Growing => None,
                StorageLimit::Fixed { spare } => Some(ClusterCount(clusters + u64::from(spare))),
            },
        };
        let planned = rebuild::plan(algorithm, &input);
        Ok(Self {
            algorithm,
            references: counts,
            planned,
        })
    }

    /// Writes the plan to any storage.
    pub fn commit(&self, storage: &mut dyn Storage) -> Outcome {
        let layout = self.planned.clone()?;
        rebuild::commit(self.algorithm, &layout, &self.references, storage)?;
        Ok(Done::Layout(layout))
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
