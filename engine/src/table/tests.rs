//! What the table and sets of runs say on their own; `model` holds the table against a plain map.

mod model;

use super::*;
use crate::units::ClusterCount;

fn geometries() -> impl Iterator<Item = Geometry> {
    let real = (0..=6).map(|order| Geometry::new(9, order).expect("valid"));
    let toys = [(4, 6, 1, 1), (4, 5, 2, 1), (5, 4, 3, 2)]
        .map(|(bits, order, b, e)| Geometry::model(bits, order, b, e).expect("valid"));
    real.chain(toys)
}

/// A fixed sequence of numbers that looks random enough to hit every branch.
fn scatter(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    })
}

#[test]
fn memory_follows_the_references_and_not_the_span() {
    let geometry = Geometry::new(21, 4).expect("valid");
    let mut table = RefcountTable::new(geometry);
    for range in 0..10_000 {
        let cluster = geometry.first_covered(RefblockIndex(range * 1_000_003));
        table.increment(Run::single(cluster)).expect("memory");
    }
    assert!(table.memory() < 10_000 * 200, "{} bytes", table.memory());
}

#[test]
fn a_set_of_runs_joins_what_touches() {
    let run = |first, count| Run::new(Cluster(first), ClusterCount(count));
    let set: RunSet = [run(10, 2), run(0, 3), run(3, 1), run(20, 5), run(12, 8)]
        .into_iter()
        .collect();
    assert_eq!(set.runs(), [run(0, 4), run(10, 15)]);
    let mut bridged = set.clone();
    bridged.insert(run(2, 9));
    assert_eq!(bridged.runs(), [run(0, 25)]);
    assert_eq!(set.run_at(Cluster(4)), None);
    assert_eq!(set.run_at(Cluster(24)), Some(run(10, 15)));
    assert_eq!(set.next_from(Cluster(4)), Some(Cluster(10)));
    assert_eq!(set.next_from(Cluster(25)), None);
    assert_eq!(set.count(), ClusterCount(19));
}

#[test]
fn a_set_of_runs_holds_what_was_inserted_in_any_order() {
    let mut numbers = scatter(3);
    for _ in 0..200 {
        let mut set = RunSet::new();
        let mut model = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let first = numbers.next().expect("endless") % 60;
            let count = numbers.next().expect("endless") % 5;
            set.insert(Run::new(Cluster(first), ClusterCount(count)));
            model.extend(first..first + count);
        }
        assert_eq!(clusters(&set), model.iter().copied().collect::<Vec<_>>());
        let other: RunSet = numbers
            .by_ref()
            .take(5)
            .map(|number| Run::new(Cluster(number % 60), ClusterCount(number % 7)))
            .collect();
        model.retain(|cluster| !other.contains(Cluster(*cluster)));
        let left: Vec<u64> = model.into_iter().collect();
        assert_eq!(clusters(&set.without(&other)), left);
        assert!(
            set.runs()
                .windows(2)
                .all(|pair| pair[0].end() < pair[1].first)
        );
    }
}

fn clusters(set: &RunSet) -> Vec<u64> {
    let clusters = set.runs().iter().flat_map(Run::iter);
    clusters.map(|cluster| cluster.0).collect()
}

#[test]
fn a_refblock_with_one_other_bit_is_not_equal() {
    for geometry in geometries() {
        let mut table = RefcountTable::new(geometry);
        let all = Run::new(Cluster(0), ClusterCount(geometry.refcounts_per_refblock()));
        table.increment(all).expect("memory");
        let mut bytes = vec![0; geometry.refblock_bytes()];
        table.encode(RefblockIndex(0), &mut bytes);
        assert!(table.equals(RefblockIndex(0), &bytes));
        for position in 0..bytes.len() * 8 {
            bytes[position / 8] ^= 1 << (position % 8);
            assert!(!table.equals(RefblockIndex(0), &bytes), "{geometry:?}");
            bytes[position / 8] ^= 1 << (position % 8);
        }
    }
}

#[test]
fn counts_take_up_a_bit_or_whole_bytes_as_each_chunk_needs() {
    let mut table = RefcountTable::new(Geometry::new(16, 4).expect("valid"));
    let bits = |table: &RefcountTable| {
        [0, 1].map(|number| table.chunk(number).memory() * 8 / chunk::CLUSTERS)
    };
    table
        .increment(Run::new(Cluster(1), ClusterCount(1500)))
        .expect("memory");
    assert_eq!(bits(&table), [1, 1]);
    assert!(!table.has_shared());
    for width in [8, 16, 32, 64] {
        table.set(Cluster(9), 1 << (width / 2)).expect("memory");
        assert_eq!(bits(&table), [width, 1]);
        assert!(table.has_shared());
    }
}

#[test]
fn chunks_that_are_counted_once_all_over_take_up_nothing() {
    let clusters = 4 * chunk::CLUSTERS as u64;
    for step in [1, 7, 1023, 4095] {
        let mut table = RefcountTable::new(Geometry::new(16, 4).expect("valid"));
        for number in 0..clusters {
            let single = Run::single(Cluster(number * step % clusters));
            table.increment(single).expect("memory");
        }
        assert!((0..4).all(|number| table.chunk(number).memory() == 0));
        assert_eq!(
            table.count_ones(Run::new(Cluster(0), ClusterCount(clusters)), 1),
            clusters
        );
        assert_eq!(table.next_free(Cluster(0)), Cluster(clusters));
        table.set(Cluster(5), 0).expect("memory");
        assert_eq!(table.next_free(Cluster(0)), Cluster(5));
    }
}

#[test]
fn counts_stop_at_the_end_of_64_bits() {
    for geometry in geometries() {
        let mut table = RefcountTable::new(geometry);
        let all = Run::new(Cluster(0), ClusterCount(geometry.refcounts_per_refblock()));
        // As a list where there is one, and packed.
        for run in [Run::single(Cluster(1)), all] {
            for times in [u64::MAX - 1, 1, 1, u64::MAX] {
                table.add(run, times).expect("memory");
            }
            assert!(run.iter().all(|cluster| table.get(cluster) == u64::MAX));
        }
        let over = table.over_maximum().count() as u64;
        let is_widest = geometry.max_refcount() == u64::MAX;
        assert_eq!(over, if is_widest { 0 } else { all.count.0 });
    }
}

#[test]
fn a_cluster_past_the_last_number_is_not_counted() {
    let mut table = RefcountTable::new(Geometry::new(9, 4).expect("valid"));
    let run = Run::new(Cluster(u64::MAX - 2), ClusterCount(100));
    table.increment(run).expect("memory");
    let counts = [3, 2, 1, 0].map(|before| table.get(Cluster(u64::MAX - before)));
    assert_eq!(counts, [0, 1, 1, 0]);
}

#[test]
fn what_memory_was_lacking_for_is_not_counted_as_if_it_were_all() {
    let mut collected = Collected::default();
    let mark = collected.mark();
    collected.is_incomplete = true;
    collected.rewind(mark);
    assert!(!collected.is_empty());
    let table = SharedTable::new(RefcountTable::new(Geometry::new(9, 4).expect("valid")));
    assert_eq!(table.add(&mut collected, 1), Err(OutOfMemory));
    collected.clear();
    assert!(collected.is_empty() && table.add(&mut collected, 1).is_ok());
}

#[test]
fn what_came_after_a_mark_is_not_counted() {
    let mut collected = Collected::default();
    collected.push(3, 2);
    let mark = collected.mark();
    collected.push(1000, 100);
    collected.push_each(&[3, 7]);
    collected.rewind(mark);
    let table = SharedTable::new(RefcountTable::new(Geometry::new(9, 4).expect("valid")));
    table.add(&mut collected, 1).expect("memory");
    assert!(collected.is_empty());
    let table = table.into_table();
    let used = (0..2000).filter(|cluster| table.get(Cluster(*cluster)) > 0);
    assert!(used.eq([3, 4]));
}
