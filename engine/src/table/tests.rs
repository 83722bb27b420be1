//! What the table says on its own; `model` holds the table against a plain map.

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
fn what_came_after_a_mark_is_not_counted_nor_anything_where_memory_was_lacking() {
    let table = SharedTable::new(RefcountTable::new(Geometry::new(9, 4).expect("valid")));
    let mut collected = Collected::new();
    collected.push(3, 2);
    let mark = collected.mark();
    collected.push(1000, 100);
    collected.push_each(&[3, 7]);
    collected.is_incomplete = true;
    collected.rewind(mark);
    assert_eq!(table.add(&mut collected, 1), Err(OutOfMemory));
    collected.is_incomplete = false;
    for _ in 0..2 {
        // It is counted once.
        table.add(&mut collected, 1).expect("memory");
    }
    let table = table.into_table();
    let counts = (0..2000).map(|cluster| table.get(Cluster(cluster)));
    assert!(counts.eq((0..2000).map(|cluster| u64::from(cluster == 3 || cluster == 4))));
}
