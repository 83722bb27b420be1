//! The table of counts and the sets of runs, as whoever plans with them sees them: against plain
//! collections, and at the ends of what they can hold.

use std::collections::BTreeSet;

use recount::{Cluster, ClusterCount, Geometry, RefblockIndex, RefcountTable, Run, RunSet};

fn run(first: u64, count: u64) -> Run {
    Run::new(Cluster(first), ClusterCount(count))
}

#[test]
fn memory_follows_the_references_and_not_the_span() {
    let geometry = Geometry::new(21, 4).unwrap();
    let mut table = RefcountTable::new(geometry);
    for range in 0..10_000 {
        let cluster = geometry.first_covered(RefblockIndex(range * 1_000_003));
        table.add(Run::single(cluster), 1).unwrap();
    }
    assert!(table.memory() < 10_000 * 200, "{} bytes", table.memory());
}

#[test]
fn counts_stop_at_the_end_of_64_bits() {
    for order in 0..=6 {
        let geometry = Geometry::new(9, order).unwrap();
        let mut table = RefcountTable::new(geometry);
        // One, and all of a chunk, the others at once.
        for run in [Run::single(Cluster(1)), run(0, 4096)] {
            for times in [u64::MAX - 1, 1, 1, u64::MAX] {
                table.add(run, times).unwrap();
            }
            assert!(run.iter().all(|cluster| table.get(cluster) == u64::MAX));
        }
        let over = table.above(geometry.max_refcount()).count();
        assert_eq!(over, if order == 6 { 0 } else { 4096 });
    }
}

#[test]
fn a_cluster_past_the_last_number_is_not_counted() {
    let mut table = RefcountTable::new(Geometry::new(9, 4).unwrap());
    table.add(run(u64::MAX - 2, 100), 1).unwrap();
    let counts = [3, 2, 1, 0].map(|before| table.get(Cluster(u64::MAX - before)));
    assert_eq!(counts, [0, 1, 1, 0]);
    assert_eq!(table.next_free(Cluster(u64::MAX - 2)), Cluster(u64::MAX));
}

#[test]
fn a_set_of_runs_holds_what_was_inserted_in_any_order() {
    let mut state = 3_u64;
    let mut next = |below: u64| {
        state = state
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 33) % below
    };
    for _ in 0..200 {
        let mut model = BTreeSet::new();
        let mut set = RunSet::new();
        for _ in 0..20 {
            let (first, count) = (next(60), next(5));
            set.insert(run(first, count));
            model.extend(first..first + count);
        }
        let other: RunSet = (0..5).map(|_| run(next(60), next(7))).collect();
        let mut both = set.clone();
        both.extend(&other);
        let in_other = |cluster: &u64| other.contains(Cluster(*cluster));
        assert_holds(&set, &model);
        assert_holds(&other, &(0..70).filter(in_other).collect());
        let left = model.iter().copied().filter(|cluster| !in_other(cluster));
        assert_holds(&set.without(&other), &left.collect());
        model.extend((0..70).filter(in_other));
        assert_holds(&both, &model);
    }
}

fn assert_holds(set: &RunSet, model: &BTreeSet<u64>) {
    let clusters = set.runs().iter().flat_map(Run::iter);
    assert!(clusters.eq(model.iter().copied().map(Cluster)));
    assert_eq!(set.count(), ClusterCount(model.len() as u64));
    let pairs = set.runs().windows(2);
    assert!(pairs.into_iter().all(|pair| pair[0].end() < pair[1].first));
    for cluster in 0..70 {
        let run = set.run_at(Cluster(cluster));
        assert_eq!(run.is_some(), model.contains(&cluster));
        assert!(run.is_none_or(|run| set.runs().contains(&run) && run.contains(Cluster(cluster))));
        let next = model.range(cluster..).next().copied().map(Cluster);
        assert_eq!(set.next_from(Cluster(cluster)), next);
    }
}
