//! A toy is planned by a program and written as each algorithm has it, nothing else: there is nothing
//! to check in it.

use std::collections::BTreeSet;
use std::io;

use super::{Before, SceneError};
use crate::case::model::Model;
use crate::case::refcount::{Refcount, largest};
use crate::case::{Algorithm, Case, Image, build};
use crate::disk::Disk;
use crate::placement::{NoPlacement, Placement};
use crate::properties::reading::Kind;
use crate::subject::{Done, Outcome, Repair, Stopped, Subject, Undo};

/// A toy with its plan.
pub struct ToyRepair<'a> {
    subject: &'a dyn Subject,
    algorithm: Algorithm,
    /// As the algorithm takes it.
    toy: Model,
    /// What the program said.
    pub planned: Result<Placement, NoPlacement>,
}

impl<'a> ToyRepair<'a> {
    /// The toy of a case, on its disk, and a program's plan for it.
    pub fn new(subject: &'a dyn Subject, case: &Case) -> Result<(Before, Self), SceneError> {
        let repair = Self::plan(subject, case)?;
        let built = build::build(case)?;
        let kind = Kind::Toy(repair.toy.clone());
        let before = Before::new(built.bytes, built.capacity, kind)?;
        Ok((before, repair))
    }

    /// What a program says of the toy of a case.
    pub fn plan(subject: &'a dyn Subject, case: &Case) -> Result<Self, SceneError> {
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
        let planned = match subject.place(case.algorithm, &toy, case.storage) {
            Err(NoPlacement::Unsupported(why)) => return Err(SceneError::Unsupported(why)),
            planned => planned,
        };
        Ok(Self {
            subject,
            algorithm: case.algorithm,
            toy,
            planned,
        })
    }

    /// Writes the plan.
    pub fn commit(&self, disk: &mut dyn Disk) -> Outcome {
        let planned = self.planned.as_ref().map_err(Stopped::unknown)?;
        let written = self.write(planned, disk);
        written.map_err(|error| Stopped::unknown(&error))?;
        Ok(Done::default())
    }

    fn write(&self, placement: &Placement, disk: &mut dyn Disk) -> io::Result<()> {
        let shape = self.toy.shape();
        let offset_of = |cluster: u64| cluster << shape.cluster_bits();
        let (size, most) = (1 << shape.cluster_bits(), largest(shape.refcount_order));
        let new: BTreeSet<u64> = placement.allocated().collect();
        let encoded = |number: u64| {
            let mut block = vec![0; size];
            let covered = u64::from(shape.refcounts());
            let range = number * covered..(number + 1) * covered;
            let place = |cluster| Refcount::new(shape.refcount_order, 0, cluster - range.start);
            let counts = self.toy.references.iter().skip(range.start as usize);
            for (cluster, &count) in range.clone().zip(counts) {
                place(cluster).add(&mut block, count.min(most));
            }
            for &cluster in new.range(range.clone()) {
                place(cluster).add(&mut block, 1);
            }
            block
        };
        let refblocks = placement.order.iter();
        let refblocks: Vec<_> = refblocks.map(|at| placement.refblocks[*at]).collect();
        // Neighbours are written at once.
        for run in refblocks.chunk_by(|(_, one), (_, next)| one + 1 == *next) {
            let blocks: Vec<_> = run
                .iter()
                .flat_map(|(number, _)| encoded(*number))
                .collect();
            disk.write_at(offset_of(run[0].1), &blocks)?;
        }
        let clusters = placement.reftable_clusters();
        let start = offset_of(placement.reftable.start);
        let mut reftable = vec![0; size * clusters as usize];
        let entries = u64::from(shape.entries());
        for (refblock, cluster) in &placement.refblocks {
            let (at, index) = (refblock / entries, refblock % entries);
            let entry = (offset_of(at) + index * 8) as usize;
            reftable[entry..entry + 8].copy_from_slice(&offset_of(*cluster).to_be_bytes());
        }
        disk.write_at(start, &reftable)?;
        // QEMU has no flush there (observed with qemu-img 5.2 to 11.1).
        if self.algorithm == Algorithm::Planned {
            disk.flush()?;
        }
        let pointer = [&start.to_be_bytes()[..], &(clusters as u32).to_be_bytes()].concat();
        disk.write_at(0, &pointer)?;
        disk.flush()
    }
}

impl Repair for ToyRepair<'_> {
    fn repair(&self, disk: &mut dyn Disk) -> Outcome {
        self.commit(disk)
    }

    fn undo(&self) -> Option<&dyn Undo> {
        self.subject.undo()
    }
}
