//! Clusters of which the disk does not say whether they are allocated are taken last: wherever
//! brute force finds room without them, `planned` stays away from them.

use recount::rebuild::{self, Input};
use recount::{Algorithm, Cluster, ClusterCount, RefcountTable, Run, RunSet};
use recount_oracle::brute::Space;
use recount_oracle::case::StorageLimit;
use recount_oracle::placement::NoPlacement;
use recount_oracle::properties::plan::Places;
use recount_oracle::run::engine;
use recount_oracle::toy::{Clusters, Shape, Toy};

const SHAPE: Shape = Shape {
    refblock_bits: 2,
    reftable_entry_bits: 1,
    refcount_order: 4,
};

fn runs(clusters: Clusters) -> RunSet {
    let single = |cluster: u32| Run::single(Cluster(cluster.into()));
    clusters.iter().map(single).collect()
}

/// Plans for a toy some of whose free clusters are doubtful.
fn planned(toy: &Toy, doubtful: Clusters) -> Result<Places, NoPlacement> {
    let mut references = RefcountTable::new(engine::geometry(toy.shape).expect("a toy"));
    for run in runs(toy.used).runs() {
        references.add(*run, 1).expect("memory");
    }
    let input = Input {
        references: &references,
        reserved: &runs(toy.old),
        doubtful: &runs(doubtful),
        file: ClusterCount(toy.clusters.into()),
        capacity: toy.capacity().map(|clusters| ClusterCount(clusters.into())),
    };
    let planned = engine::placement(rebuild::plan(Algorithm::Planned, &input));
    planned.map(|placement| Places::of(&placement))
}

#[test]
fn doubtful_clusters_are_taken_only_where_there_is_no_room_without_them() {
    let (mut avoided, mut taken) = (0, 0);
    for clusters in 2..=7_u32 {
        for pattern in 0..4_u128.pow(clusters - 1) {
            let (mut used, mut old, mut doubtful) = (1, 0, 0);
            for cluster in 1..clusters {
                match pattern >> (2 * (cluster - 1)) & 3 {
                    0 => used |= 1 << cluster,
                    1 => old |= 1 << cluster,
                    2 => doubtful |= 1 << cluster,
                    _ => (),
                }
            }
            let doubtful = Clusters(doubtful);
            for room in [
                StorageLimit::Growing,
                StorageLimit::Fixed { spare: 0 },
                StorageLimit::Fixed { spare: 2 },
            ] {
                let toy = Toy {
                    shape: SHAPE,
                    clusters,
                    used: Clusters(used),
                    old: Clusters(old),
                    room,
                };
                let whole = Space::whole_storage(&toy).expect("a small toy");
                let without = Space {
                    reserved: toy.old.or(doubtful),
                    ..whole
                };
                let places = planned(&toy, doubtful);
                let all = places.map(|places| places.allocated());
                match (all, without.least_table()) {
                    (Ok(all), Some(_)) => {
                        assert_eq!(all.and(doubtful), Clusters::NONE, "{toy:?} {doubtful:?}");
                        avoided += 1;
                    }
                    (Ok(_), None) => taken += 1,
                    (Err(error), least) => assert_eq!(
                        (least, whole.least_table()),
                        (None, None),
                        "{toy:?} {doubtful:?}: {error}"
                    ),
                }
            }
        }
    }
    assert!(avoided > 1000 && taken > 100, "{avoided} {taken}");
}
