//! The table behaves as a plain map from cluster to count does, at every width and in every form,
//! whether one thread counts or several could; and its refblocks are those of the map's counts, cut
//! to the width one by one.

use std::collections::BTreeSet;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::units::ClusterCount;

fn geometries() -> impl Iterator<Item = Geometry> {
    let real = (0..=6).map(|order| Geometry::new(9, order).expect("valid"));
    let toys = [(4, 6, 1, 1), (4, 5, 2, 1), (5, 4, 3, 2)]
        .map(|(bits, order, b, e)| Geometry::model(bits, order, b, e).expect("valid"));
    real.chain(toys)
}

/// What is done to both, within the ranges of a few refblocks.
struct Pair {
    table: RefcountTable,
    /// Counts of clusters, those of 0 left out.
    model: BTreeMap<u64, u64>,
    /// The largest that numbers to add are taken from.
    scale: u64,
}

/// Refblocks whose clusters are counted: neighbours, and one whose chunks are searched for.
fn refblocks(geometry: &Geometry) -> [u64; 4] {
    let near = geometry.refblock_of(Cluster((NEAR_CHUNKS as u64) << chunk::BITS));
    [0, 1, 2, near.0 + 3]
}

/// The cluster of a count.
fn at((cluster, _): (&u64, &u64)) -> Cluster {
    Cluster(*cluster)
}

impl Pair {
    fn add(&mut self, run: Run, times: u64) {
        for cluster in run.iter() {
            let count = self.model.entry(cluster.0).or_default();
            *count = count.saturating_add(times);
        }
    }

    fn get(&self, cluster: u64) -> u64 {
        self.model.get(&cluster).copied().unwrap_or(0)
    }

    /// Does something.
    fn step(&mut self, next: &mut impl FnMut() -> u64) {
        let geometry = *self.table.geometry();
        let covered = geometry.refcounts_per_refblock();
        let first = refblocks(&geometry)[next() as usize % 4] * covered + next() % covered;
        // Mostly little, and at times next to what a width can hold.
        let times = match next() % 8 {
            0 => (1 << (8 * (next() % 8))) - next() % 2,
            1 => (geometry.max_refcount() - next() % 2).saturating_add(next() % 2),
            number => number % 3,
        };
        let times = times.min(self.scale);
        let count = match next() % 8 {
            0 => 1 + next() % covered,
            number => number,
        };
        match next() % 4 {
            0 => {
                self.table.set(Cluster(first), times).expect("memory");
                self.model.insert(first, times);
            }
            1 => {
                let run = Run::new(Cluster(first), ClusterCount(count));
                self.table.add(run, times).expect("memory");
                self.add(run, times);
            }
            2 => {
                // At times all that a refblock covers.
                let (first, count) = match next() % 4 {
                    0 => (first - first % covered, covered),
                    _ => (first, count),
                };
                for cluster in first..first + count {
                    self.table.set(Cluster(cluster), 0).expect("memory");
                    self.model.remove(&cluster);
                }
            }
            _ => self.share(first, count, times, next),
        }
        self.model.retain(|_, count| *count > 0);
    }

    /// Adds as threads do, a run more than once: in pieces, or cluster by cluster.
    fn share(&mut self, first: u64, count: u64, times: u64, next: &mut impl FnMut() -> u64) {
        let geometry = *self.table.geometry();
        let covered = geometry.refcounts_per_refblock();
        let mut collected = Collected::new();
        for _ in 0..=next() % 3 {
            let first = first - next() % (1 + first % covered);
            let count = count.min(covered - first % covered);
            let run = Run::new(Cluster(first), ClusterCount(count));
            if next().is_multiple_of(2) {
                collected.push(first, count);
            } else {
                collected.push_each(&(first..first + count).collect::<Vec<_>>());
            }
            self.add(run, times);
        }
        let empty = RefcountTable::new(geometry);
        let shared = SharedTable::new(std::mem::replace(&mut self.table, empty));
        shared.add(&mut collected, times).expect("memory");
        self.table = shared.into_table();
    }

    fn compare(&self) {
        let (table, model) = (&self.table, &self.model);
        let geometry = table.geometry();
        let counts = model.iter().map(|entry| (at(entry), *entry.1));
        let max = geometry.max_refcount();
        let over = counts.filter(|(_, count)| *count > max);
        assert!(table.above(max).eq(over));
        assert!(table.has_shared() || model.values().all(|count| *count == 1));
        assert_eq!(table.last_used(), model.iter().next_back().map(at));
        let used = model.iter().map(|entry| geometry.refblock_of(at(entry)));
        let used: BTreeSet<_> = used.collect();
        assert!(table.used_refblocks().eq(used));
        for refblock in refblocks(geometry).map(RefblockIndex) {
            self.compare_refblock(refblock);
        }
    }

    fn compare_refblock(&self, refblock: RefblockIndex) {
        let (table, geometry) = (&self.table, self.table.geometry());
        let first = geometry.first_covered(refblock).0;
        let covered = geometry.refcounts_per_refblock();
        let clusters = first..first + covered;
        let counts: Vec<_> = clusters.map(|cluster| self.get(cluster)).collect();
        for (cluster, count) in (first..).zip(&counts) {
            assert_eq!(table.get(Cluster(cluster)), *count);
        }
        for (cluster, counts) in (first..).step_by(BLOCK).zip(counts.chunks(BLOCK)) {
            assert_eq!(table.block(cluster)[..counts.len()], *counts);
        }
        for start in (0..counts.len()).step_by(1 + counts.len() / 64) {
            let cluster = first + start as u64;
            let used = self.model.range(cluster..).next().map(at);
            assert_eq!(table.next_used(Cluster(cluster)), used);
            let used = self.model.range(..cluster).next_back().map(at);
            assert_eq!(table.last_used_before(Cluster(cluster)), used);
            let free = (cluster..=cluster + 5 * covered).find(|cluster| self.get(*cluster) == 0);
            assert_eq!(Some(table.next_free(Cluster(cluster)).0), free);
            let inside = counts[start..].iter().take(counts.len() / 2);
            let run = Run::new(Cluster(cluster), ClusterCount(inside.len() as u64));
            for max in [1, u64::MAX] {
                let ones = inside.clone().filter(|count| max.min(**count) == 1);
                assert_eq!(table.count_ones(run, max), ones.count() as u64);
            }
        }
        // Counted as refcounts are, bit by bit.
        let mut expected = vec![0; geometry.refblock_bytes() + 8];
        for (index, count) in counts.iter().enumerate() {
            let refcount = (*count).min(geometry.max_refcount());
            width::set(geometry.order(), &mut expected, index, refcount);
        }
        let mut bytes = vec![0xff; geometry.refblock_bytes() + 8];
        table.encode(refblock, &mut bytes);
        assert_eq!(bytes, expected);
    }
}

#[test]
fn counts_and_refblocks_are_those_of_a_plain_map() {
    let larger = (0..=6).map(|order| Geometry::new(10, order).expect("valid"));
    // The bits of a count, 0 where those of a chunk are all the same.
    let mut forms = BTreeSet::new();
    for (geometry, seed) in geometries().chain(larger).zip(1..) {
        for scale in [1, 2, 300, 70_000, u64::MAX] {
            let mut pair = Pair {
                table: RefcountTable::new(geometry),
                model: BTreeMap::new(),
                scale,
            };
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut next = || random.random::<u64>();
            pair.compare();
            for _ in 0..6 {
                for _ in 0..16 {
                    pair.step(&mut next);
                }
                pair.compare();
                let chunks = pair.table.chunks();
                forms.extend(chunks.map(|chunk| chunk.memory() * 8 / chunk::CLUSTERS));
            }
        }
    }
    assert!(forms.into_iter().eq([0, 1, 8, 16, 32, 64]));
}

#[test]
fn counts_take_up_nothing_a_bit_or_whole_bytes_as_each_chunk_needs() {
    let clusters = 4 * chunk::CLUSTERS as u64;
    let bits = |table: &RefcountTable| {
        [0, 1, 2, 3].map(|number| table.chunk(number).memory() * 8 / chunk::CLUSTERS)
    };
    for step in [1, 7, 1023, 4095] {
        let mut table = RefcountTable::new(Geometry::new(16, 4).expect("valid"));
        let mut add = |number: u64| {
            let single = Run::single(Cluster(number * step % clusters));
            table.add(single, 1).expect("memory");
            bits(&table)
        };
        assert!((0..clusters - 1).all(|number| add(number).iter().all(|bits| *bits <= 1)));
        assert_eq!(add(clusters - 1), [0; 4]);
        assert!(!table.has_shared());
        table.set(Cluster(5), 0).expect("memory");
        assert_eq!(bits(&table), [1, 0, 0, 0]);
        for width in [8, 16, 32, 64] {
            table.set(Cluster(9), 1 << (width / 2)).expect("memory");
            assert_eq!(bits(&table), [width, 0, 0, 0]);
            assert!(table.has_shared());
        }
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
    collected.rewind(&mark);
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
