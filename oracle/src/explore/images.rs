//! Small whole images, each damaged in one way, repaired from end to end: for what toys cannot
//! show, as they have no tables to follow and nothing to check.

use crate::case::damage::{
    Among, Damage, HeaderDamage, PointerDamage, RefblockDamage, ReftableDamage, SnapshotDamage, To,
};
use crate::case::synthetic::{
    Allocation, Bitmap, Content, Run, Sharing, Snapshots, Structures, Synthetic,
};
use crate::case::{Algorithm, Case, Image, Pick, Schedule, StorageLimit};
use crate::crash::Limits;
use crate::run;
use crate::toy::algorithm_name;

/// Crash states and faults of one repair: a sample.
pub const BOUNDS: run::Bounds = run::Bounds {
    crashes: Limits {
        exhaustive_bits: 4,
        samples: 4,
        seed: 1,
    },
    faults_of_a_kind: 2,
    pairs: 2,
};

/// An image with a name that stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// `image:planned:snapshots:l1-entry-past-end:grows`.
    pub name: String,
    /// The case.
    pub case: Case,
}

impl Named {
    /// What the names begin with.
    pub const PREFIX: &str = "image:";
}

/// All of them: each image with each damage, on a file and on a device, by each algorithm.
#[must_use]
pub fn all(algorithms: &[Algorithm]) -> Vec<Named> {
    let mut cases = Vec::new();
    for (image_name, image) in images() {
        for (damage_name, damage) in damages() {
            for (room, storage) in ROOMS {
                for &algorithm in algorithms {
                    let algorithm_name = algorithm_name(algorithm);
                    let prefix = Named::PREFIX;
                    cases.push(Named {
                        name: format!("{prefix}{algorithm_name}:{image_name}:{damage_name}:{room}"),
                        case: Case {
                            image: Image::Synthetic(image.clone()),
                            damage: damage.iter().cloned().collect(),
                            storage,
                            algorithm,
                            schedule: Schedule::Quiet,
                        },
                    });
                }
            }
        }
    }
    cases
}

const ROOMS: [(&str, StorageLimit); 2] = [
    ("grows", StorageLimit::Growing),
    ("spare4", StorageLimit::Fixed { spare: 4 }),
];

fn images() -> Vec<(&'static str, Synthetic)> {
    let run = |skip, clusters, content| Run {
        skip,
        clusters,
        content,
    };
    let small = |refcount_order, guest| Synthetic {
        cluster_bits: 9,
        refcount_order,
        guest,
        ..Synthetic::default()
    };
    let compressed = Content::Compressed {
        incompressible: 200,
    };
    let plain = small(4, vec![run(0, 10, Content::Data)]);
    vec![
        (
            "absent",
            Synthetic {
                structures: Structures::Absent,
                free_tail: 3,
                ..plain.clone()
            },
        ),
        ("plain", plain),
        (
            "one-bit",
            Synthetic {
                allocation: Allocation::Striped { step: 3 },
                ..small(
                    0,
                    vec![run(0, 4, Content::Data), run(70, 3, Content::Preallocated)],
                )
            },
        ),
        (
            "snapshots",
            Synthetic {
                snapshots: vec![
                    Snapshots {
                        count: 2,
                        sharing: Sharing::Tables,
                    },
                    Snapshots {
                        count: 1,
                        sharing: Sharing::Nothing,
                    },
                ],
                ..small(3, vec![run(0, 6, Content::Data), run(3, 4, compressed)])
            },
        ),
        (
            "bitmaps",
            Synthetic {
                bitmaps: vec![Bitmap {
                    granularity_bits: 9,
                    clusters: 1,
                    all_ones: 0,
                }],
                snapshots: vec![Snapshots {
                    count: 1,
                    sharing: Sharing::Data,
                }],
                free_tail: 70,
                ..small(6, vec![run(0, 8, Content::Data), run(0, 2, Content::Zero)])
            },
        ),
    ]
}

fn damages() -> Vec<(&'static str, Option<Damage>)> {
    let first = Pick(0);
    let past_end = PointerDamage::PastEnd { clusters: 40 };
    let at_end = PointerDamage::PastEnd { clusters: 0 };
    let refcount = |to| {
        Some(Damage::Refcount {
            among: Among::Allocated,
            cluster: Pick(7),
            to,
        })
    };
    let entry = |becomes| {
        Some(Damage::L2Entry {
            entry: first,
            becomes,
        })
    };
    let l1_entry = |becomes| {
        Some(Damage::L1Entry {
            table: first,
            entry: first,
            becomes,
        })
    };
    let reftable_entry = |becomes| {
        Some(Damage::ReftableEntry {
            entry: first,
            becomes,
        })
    };
    let refblock = |becomes| {
        Some(Damage::Refblock {
            refblock: first,
            becomes,
        })
    };
    vec![
        ("none", None),
        (
            "reftable-gone",
            Some(Damage::Reftable(ReftableDamage::Gone)),
        ),
        (
            "reftable-zeroed",
            Some(Damage::Reftable(ReftableDamage::Zeroed)),
        ),
        ("reftable-entry-past-end", reftable_entry(past_end)),
        ("reftable-entry-at-end", reftable_entry(at_end)),
        (
            "reftable-entry-reserved",
            reftable_entry(PointerDamage::Bit { bit: 3 }),
        ),
        ("refblock-zeroed", refblock(RefblockDamage::Zeroed)),
        ("refblock-ones", refblock(RefblockDamage::Ones)),
        (
            "refblock-scattered",
            refblock(RefblockDamage::Scattered { seed: 7 }),
        ),
        ("refcount-zero", refcount(To::Zero)),
        ("refcount-down", refcount(To::Down)),
        ("refcount-up", refcount(To::Up)),
        (
            "refcount-of-free",
            Some(Damage::Refcount {
                among: Among::Free,
                cluster: first,
                to: To::Exactly(1),
            }),
        ),
        ("refcount-max", refcount(To::Max)),
        ("l1-entry-past-end", l1_entry(past_end)),
        ("l1-entry-at-end", l1_entry(at_end)),
        ("l1-entry-copied", l1_entry(PointerDamage::Copied)),
        ("l1-entry-cleared", l1_entry(PointerDamage::Cleared)),
        ("l2-entry-past-end", entry(past_end)),
        ("l2-entry-at-end", entry(at_end)),
        ("l2-entry-copied", entry(PointerDamage::Copied)),
        ("l2-entry-cleared", entry(PointerDamage::Cleared)),
        (
            "snapshot-l1-shifted",
            Some(Damage::Snapshot {
                snapshot: first,
                becomes: SnapshotDamage::L1OffsetBytes(8),
            }),
        ),
        ("dirty", Some(Damage::Header(HeaderDamage::Dirty))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_stands_for_one_image_that_can_be_built() {
        let cases = all(&[Algorithm::Planned, Algorithm::Tail]);
        let names: std::collections::BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
        assert_eq!(names.len(), cases.len());
        for Named { name, case } in &cases {
            assert_eq!(case.validate(), Ok(()), "{name}");
        }
    }
}
