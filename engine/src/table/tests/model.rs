//! The table behaves as a plain map from cluster to count does, at every width and in every form,
//! whether one thread counts or several could; and its refblocks are those of the map's counts, cut
//! to the width one by one.

use std::collections::BTreeMap;

use super::*;

/// Counts of clusters, those of 0 left out.
#[derive(Default)]
struct Model(BTreeMap<u64, u64>);

impl Model {
    fn set(&mut self, cluster: u64, count: u64) {
        if count == 0 {
            self.0.remove(&cluster);
        } else {
            self.0.insert(cluster, count);
        }
    }

    fn add(&mut self, run: Run, times: u64) {
        for cluster in run.iter().filter(|_| times > 0) {
            let count = self.0.entry(cluster.0).or_default();
            *count = count.saturating_add(times);
        }
    }

    fn get(&self, cluster: u64) -> u64 {
        self.0.get(&cluster).copied().unwrap_or(0)
    }

    fn next_used(&self, from: u64) -> Option<Cluster> {
        self.0
            .range(from..)
            .next()
            .map(|(first, _)| Cluster(*first))
    }

    fn last_used_before(&self, end: u64) -> Option<Cluster> {
        let last = self.0.range(..end).next_back();
        last.map(|(last, _)| Cluster(*last))
    }
}

/// What is done to both, within the ranges of a few refblocks.
struct Pair {
    geometry: Geometry,
    table: RefcountTable,
    model: Model,
    /// The largest that numbers to add are taken from.
    scale: u64,
}

/// Refblocks whose clusters are counted: neighbours, and one whose chunks are searched for.
fn ranges(geometry: &Geometry) -> [u64; 4] {
    let near = geometry.refblock_of(Cluster((NEAR_CHUNKS as u64) << chunk::BITS));
    [0, 1, 2, near.0 + 3]
}

impl Pair {
    fn new(geometry: Geometry, scale: u64) -> Self {
        Self {
            geometry,
            table: RefcountTable::new(geometry),
            model: Model::default(),
            scale,
        }
    }

    /// Does something.
    fn step(&mut self, next: &mut impl FnMut() -> u64) {
        let covered = self.geometry.refcounts_per_refblock();
        let first = ranges(&self.geometry)[next() as usize % 4] * covered + next() % covered;
        // Mostly little, and at times next to what a width can hold.
        let times = match next() % 8 {
            0 => (1 << (8 * (next() % 8))) - next() % 2,
            1 => (self.geometry.max_refcount() - next() % 2).saturating_add(next() % 2),
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
                self.model.set(first, times);
            }
            1 => {
                let run = Run::new(Cluster(first), ClusterCount(count));
                self.table.add(run, times).expect("memory");
                self.model.add(run, times);
            }
            2 => {
                // At times all that a refblock covers.
                let (first, count) = match next() % 4 {
                    0 => (first - first % covered, covered),
                    _ => (first, count),
                };
                for cluster in first..first + count {
                    self.table.set(Cluster(cluster), 0).expect("memory");
                    self.model.set(cluster, 0);
                }
            }
            _ => self.share(first, count, times, next),
        }
    }

    /// Adds as threads do, a run more than once: in pieces, or cluster by cluster.
    fn share(&mut self, first: u64, count: u64, times: u64, next: &mut impl FnMut() -> u64) {
        let covered = self.geometry.refcounts_per_refblock();
        let mut collected = Collected::default();
        for _ in 0..=next() % 3 {
            let first = first - next() % (1 + first % covered);
            let count = count.min(covered - first % covered);
            let run = Run::new(Cluster(first), ClusterCount(count));
            if next().is_multiple_of(2) {
                collected.push(first, count);
            } else {
                collected.push_each(&(first..first + count).collect::<Vec<_>>());
            }
            self.model.add(run, times);
        }
        let empty = RefcountTable::new(self.geometry);
        let shared = SharedTable::new(std::mem::replace(&mut self.table, empty));
        shared.add(&mut collected, times).expect("memory");
        self.table = shared.into_table();
    }

    fn compare(&self) {
        let (table, model) = (&self.table, &self.model);
        let covered = self.geometry.refcounts_per_refblock();
        for range in ranges(&self.geometry) {
            let (first, end) = (range * covered, (range + 1) * covered);
            for cluster in first..end {
                assert_eq!(table.get(Cluster(cluster)), model.get(cluster));
            }
            for cluster in (first..end).step_by(1 + covered as usize / 64) {
                assert_eq!(table.next_used(Cluster(cluster)), model.next_used(cluster));
                let free = (cluster..=end + 4 * covered).find(|cluster| model.get(*cluster) == 0);
                assert_eq!(Some(table.next_free(Cluster(cluster)).0), free);
            }
            self.compare_refblock(RefblockIndex(range));
        }
        let mut used: Vec<_> = model.0.keys().map(|cluster| cluster / covered).collect();
        used.dedup();
        let in_use: Vec<_> = table.used_refblocks().map(|refblock| refblock.0).collect();
        assert_eq!(in_use, used);
        assert_eq!(table.last_used(), model.last_used_before(u64::MAX));
        let over: Vec<_> = table.over_maximum().collect();
        let counts = model
            .0
            .iter()
            .map(|(cluster, count)| (Cluster(*cluster), *count));
        let max = self.geometry.max_refcount();
        assert_eq!(
            over,
            counts.filter(|(_, count)| *count > max).collect::<Vec<_>>()
        );
        assert!(table.has_shared() || model.0.values().all(|count| *count == 1));
    }

    fn compare_refblock(&self, refblock: RefblockIndex) {
        let (table, model, geometry) = (&self.table, &self.model, &self.geometry);
        let (first, covered) = (
            geometry.first_covered(refblock).0,
            geometry.refcounts_per_refblock(),
        );
        let counts: Vec<_> = (first..first + covered)
            .map(|cluster| model.get(cluster))
            .collect();
        assert_eq!(
            table.is_used(refblock),
            counts.iter().any(|count| *count != 0)
        );
        for start in [0, 1, covered / 2, covered - 1] {
            let inside = &counts[start as usize..counts.len().min((start + covered / 2) as usize)];
            let run = Run::new(Cluster(first + start), ClusterCount(inside.len() as u64));
            let ones = inside.iter().filter(|count| **count == 1).count() as u64;
            assert_eq!(table.count_ones(run, u64::MAX), ones);
            let end = first + start + 1;
            assert_eq!(
                table.last_used_before(Cluster(end)),
                model.last_used_before(end)
            );
        }
        for (number, counts) in counts.chunks(BLOCK).enumerate() {
            let block = table.block(first + (number * BLOCK) as u64);
            assert_eq!(block[..counts.len()], *counts);
        }
        let used = counts.iter().filter(|count| **count > 0).count() as u64;
        let all = Run::new(Cluster(first), ClusterCount(covered));
        assert_eq!(table.count_ones(all, 1), used);
        // Counted as refcounts are, bit by bit.
        let mut expected = vec![0; geometry.refblock_bytes() + 8];
        for (index, count) in counts.iter().enumerate() {
            let refcount = (*count).min(geometry.max_refcount());
            width::set(geometry.order(), &mut expected, index, refcount);
        }
        let mut bytes = vec![0xff; geometry.refblock_bytes() + 8];
        table.encode(refblock, &mut bytes);
        assert_eq!(bytes, expected);
        assert!(table.equals(refblock, &bytes));
        for position in (0..bytes.len()).step_by(1 + bytes.len() / 40) {
            bytes[position] ^= 1 << (position % 8);
            assert!(!table.equals(refblock, &bytes), "byte {position}");
            bytes[position] ^= 1 << (position % 8);
        }
    }
}

#[test]
fn counts_and_refblocks_are_those_of_a_plain_map() {
    let with_lists = (0..=6).map(|order| Geometry::new(10, order).expect("valid"));
    for (geometry, seed) in geometries().chain(with_lists).zip(1..) {
        for scale in [1, 2, 300, 70_000, u64::MAX] {
            let mut pair = Pair::new(geometry, scale);
            let mut numbers = scatter(seed);
            let mut next = || numbers.next().expect("endless");
            pair.compare();
            for _ in 0..6 {
                for _ in 0..16 {
                    pair.step(&mut next);
                }
                pair.compare();
            }
        }
    }
}

/// The forms that a table's chunks have: 0 where all counts are the same, or the bits of each.
fn forms(table: &RefcountTable) -> impl Iterator<Item = usize> {
    let chunks = table.near.iter().chain(table.far.values());
    chunks.map(|chunk| chunk.memory() * 8 / chunk::CLUSTERS)
}

#[test]
fn the_steps_lead_to_every_form() {
    for order in 0..=6 {
        let geometry = Geometry::new(10, order).expect("valid");
        let mut seen = std::collections::BTreeSet::new();
        for scale in [1, 2, 300, 70_000, u64::MAX] {
            let mut pair = Pair::new(geometry, scale);
            let mut numbers = scatter(u64::from(order));
            let mut next = || numbers.next().expect("endless");
            for _ in 0..96 {
                pair.step(&mut next);
                seen.extend(forms(&pair.table));
            }
        }
        // Of the narrowest refcounts, those that a refblock covers are whole chunks.
        assert_eq!(seen.contains(&0), order < 5);
        seen.remove(&0);
        assert!(seen.into_iter().eq([1, 8, 16, 32, 64]), "order {order}");
    }
}
