//! Each property of bytes is shown to see what it is there to see: a toy is repaired well, and then
//! one thing is done wrong.

mod common;

use recount_oracle::case::model::Model;
use recount_oracle::case::{Algorithm, Case, Image, Schedule, StorageLimit};
use recount_oracle::disk::Disk;
use recount_oracle::properties::undo_restores::Points;
use recount_oracle::properties::{Property, Verdict, judge, judge_all};
use recount_oracle::run::{Before, Run, ToyRepair, run};
use recount_oracle::subject::Repair;
use recount_oracle::subject::{Outcome, Undo};
use recount_subjects::Recount;

use common::fails_with;

/// Bytes of its clusters.
const CLUSTER: u64 = 512;

/// `#..o#...` with B = 4, E = 2 and 16-bit refcounts: the reftable goes to cluster 1, the refblocks
/// to clusters 2 and 5; the old reftable is cluster 3.
fn toy() -> (Before, ToyRepair<'static>) {
    let case = Case {
        image: Image::Model(Model {
            refblock_bits: 2,
            reftable_entry_bits: 1,
            refcount_order: 4,
            references: vec![1, 0, 0, 0, 2, 0, 0, 0],
            old: vec![3],
        }),
        damage: Vec::new(),
        storage: StorageLimit::Growing,
        algorithm: Algorithm::Planned,
        schedule: Schedule::Quiet,
    };
    recount_subjects::toy(&case).expect("a toy")
}

/// Does it well, and then writes some bytes somewhere.
struct AndThen(ToyRepair<'static>, u64, Vec<u8>);

impl Repair for AndThen {
    fn undo(&self) -> Option<&dyn Undo> {
        Some(&Recount)
    }

    fn repair(&self, disk: &mut dyn Disk) -> Outcome {
        let done = self.0.repair(disk)?;
        disk.write_at(self.1, &self.2).expect("no fault");
        Ok(done)
    }
}

fn and_then(offset: u64, bytes: &[u8]) -> (Before, Run) {
    let (before, repair) = toy();
    let run = run(&AndThen(repair, offset, bytes.to_vec()), &before, &[]);
    (before, run)
}

#[test]
fn a_good_repair_of_a_toy_satisfies_all() {
    let (before, repair) = toy();
    let run = run(&repair, &before, &[]);
    // Every reference of a toy is known, its header is the pointer alone, and there is no check that
    // could find nothing to do.
    let of_images = [
        Property::AsSpecified,
        Property::PlanExact,
        Property::EvidenceStays,
        Property::KeepsWhatItCannotFollow,
        Property::KeepsHeaderSettings,
        Property::Idempotent,
        Property::PlanAgainEmpty,
    ];
    for (property, verdict) in judge_all(&before, &run, &repair, Points::Spread(1)) {
        let expected = if of_images.contains(&property) {
            Verdict::NotApplicable
        } else {
            Verdict::Holds
        };
        assert_eq!(verdict, expected, "{property}");
    }
}

#[test]
fn a_refcount_that_is_wrong_is_named_with_its_cluster_and_its_references() {
    // The refcount of cluster 4 is the first of the second refblock.
    let (before, run) = and_then(5 * CLUSTER, &[0, 1]);
    let message =
        "refcount of cluster 4 is 1 after the repair; it should be 2: it has 2 references";
    fails_with(judge(Property::CountsEveryCluster, &before, &run), message);
    fails_with(
        judge(Property::CleanAfterwards, &before, &run),
        "refcount 1 at cluster 4",
    );
}

#[test]
fn a_refcount_without_a_reference_is_a_leak() {
    let (before, run) = and_then(5 * CLUSTER + 4, &[0, 1]);
    assert_eq!(
        judge(Property::CountsEveryCluster, &before, &run),
        Verdict::Holds
    );
    let message = "cluster 6 has refcount 1 after the repair, and nothing refers to it";
    fails_with(judge(Property::NoLeaks, &before, &run), message);
    fails_with(judge(Property::CleanAfterwards, &before, &run), "cluster 6");
}

#[test]
fn a_byte_of_data_that_changes_is_named_with_its_cluster() {
    let (before, run) = and_then(4 * CLUSTER + 7, &[1]);
    let message = "byte 7 of cluster 4 changed from 0x84 to 0x01";
    fails_with(judge(Property::LeavesDataAlone, &before, &run), message);
    let (before, run) = and_then(12, &[1]);
    fails_with(
        judge(Property::LeavesDataAlone, &before, &run),
        "byte 12 of cluster 0",
    );
    // What nothing refers to may change.
    let (before, run) = and_then(3 * CLUSTER, &[1; 16]);
    assert_eq!(
        judge(Property::LeavesDataAlone, &before, &run),
        Verdict::Holds
    );
}

#[test]
fn new_structures_in_clusters_that_are_in_use_are_named() {
    // Entry 0 of the reftable leads to the data, then to the reftable, then to the old reftable.
    let (before, run) = and_then(CLUSTER, &(4 * CLUSTER).to_be_bytes());
    fails_with(
        judge(Property::NoOverlap, &before, &run),
        "lies in cluster 4: it has 2 references",
    );
    let (before, run) = and_then(CLUSTER, &CLUSTER.to_be_bytes());
    fails_with(
        judge(Property::NoOverlap, &before, &run),
        "two new structures lie in cluster 1",
    );
    let (before, run) = and_then(CLUSTER, &(3 * CLUSTER).to_be_bytes());
    fails_with(
        judge(Property::NoOverlap, &before, &run),
        "cluster 3, which belongs to the old ones",
    );
}

#[test]
fn a_structure_that_is_written_twice_costs_too_much() {
    let (before, run) = and_then(CLUSTER + 8, &(5 * CLUSTER).to_be_bytes());
    fails_with(
        judge(Property::BoundedCost, &before, &run),
        "cluster 1 of the new structures was written 2",
    );
}
