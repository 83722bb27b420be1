//! A toy is planned by the engine's planners and written as each algorithm has it, nothing else:
//! there is nothing to check in it.

use std::io;

use recount::rebuild::{self, Input};
use recount::{Cluster, ClusterCount, Layout, PlanError, RefblockIndex, RefcountTable, Run};

use super::{Before, Repair, SceneError, engine};
use crate::case::build;
use crate::case::model::Model;
use crate::case::{Algorithm, Case, Image, StorageLimit};
use crate::disk::Disk;
use crate::placement::{NoPlacement, Placement};
use crate::properties::reading::Kind;
use crate::subject::{Done, Outcome, Stopped};

/// Something that plans as the engine does. Tests put one in its place that is broken.
pub type Planner = fn(recount::Algorithm, &Input<'_>) -> Result<Layout, PlanError>;

/// A toy with its plan.
#[derive(Debug)]
pub struct ToyRepair {
    algorithm: recount::Algorithm,
    references: RefcountTable,
    /// What the planner said.
    pub planned: Result<Placement, NoPlacement>,
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
        let mut references = RefcountTable::new(engine::geometry(model.shape())?);
        for (cluster, &count) in (0..).zip(&toy.references) {
            references.set(Cluster(cluster), count)?;
        }
        let reserved = toy.old.iter().map(|&cluster| Cluster(cluster.into()));
        let clusters = model.references.len() as u64;
        let input = Input {
            references: &references,
            reserved: &reserved.map(Run::single).collect(),
            file: ClusterCount(clusters),
            capacity: match case.storage {
                StorageLimit::Growing => None,
                StorageLimit::Fixed { spare } => Some(ClusterCount(clusters + u64::from(spare))),
            },
        };
        let algorithm = engine::algorithm(case.algorithm);
        let planned = engine::placement(planner(algorithm, &input));
        let repair = Self {
            algorithm,
            references,
            planned,
        };
        Ok((toy, repair))
    }

    /// Writes the plan.
    pub fn commit(&self, disk: &mut dyn Disk) -> Outcome {
        let planned = self.planned.as_ref().map_err(Stopped::unknown)?;
        let written = self.write(planned, disk);
        written.map_err(|error| Stopped::unknown(&error))?;
        Ok(Done::default())
    }

    fn write(&self, placement: &Placement, disk: &mut dyn Disk) -> io::Result<()> {
        let geometry = self.references.geometry();
        let offset_of = |cluster: u64| cluster << geometry.cluster_bits();
        let mut counts = self.references.clone();
        for cluster in placement.allocated() {
            counts.set(Cluster(cluster), 1).expect("memory for a toy");
        }
        let mut block = vec![0; geometry.cluster_size() as usize];
        let refblocks = placement.order.iter();
        let refblocks: Vec<_> = refblocks.map(|at| placement.refblocks[*at]).collect();
        // Neighbours are written at once.
        for run in refblocks.chunk_by(|(_, one), (_, next)| one + 1 == *next) {
            let blocks = run.iter().flat_map(|(refblock, _)| {
                counts.encode(RefblockIndex(*refblock), &mut block);
                block.clone()
            });
            let blocks: Vec<_> = blocks.collect();
            disk.write_at(offset_of(run[0].1), &blocks)?;
        }
        let (start, clusters) = (
            offset_of(placement.reftable.start),
            placement.reftable_clusters(),
        );
        let mut reftable = block.repeat(clusters as usize);
        reftable.fill(0);
        let entries = geometry.entries_per_reftable_cluster();
        for (refblock, cluster) in &placement.refblocks {
            let (at, index) = (refblock / entries, refblock % entries);
            let entry = (offset_of(at) + index * 8) as usize;
            reftable[entry..entry + 8].copy_from_slice(&offset_of(*cluster).to_be_bytes());
        }
        disk.write_at(start, &reftable)?;
        // QEMU has no flush there (observed with qemu-img 5.2 to 11.1).
        if self.algorithm == recount::Algorithm::Planned {
            disk.flush()?;
        }
        let pointer = [&start.to_be_bytes()[..], &(clusters as u32).to_be_bytes()].concat();
        disk.write_at(geometry.reftable_pointer_offset().0, &pointer)?;
        disk.flush()
    }
}

impl Repair for ToyRepair {
    fn repair(&self, disk: &mut dyn Disk) -> Outcome {
        self.commit(disk)
    }
}
