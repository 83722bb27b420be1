//! The sparse table behaves as a plain map from cluster to count does, at every width, in its
//! list form and in its byte form.

use std::collections::BTreeMap;

use super::*;

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
fn counts_are_those_of_a_plain_map() {
    for geometry in geometries() {
        let mut table = RefcountTable::new(geometry);
        let mut model = BTreeMap::<u64, u64>::new();
        let span = geometry.refcounts_per_refblock() * 4;
        let mut numbers = scatter(geometry.refcounts_per_refblock());
        for _ in 0..2_000 {
            let mut next = || numbers.next().expect("endless");
            let (first, count) = (next() % span, next() % 9);
            if next() % 3 == 0 {
                let value = next() % 3;
                table.set(Cluster(first), value).expect("memory");
                model.insert(first, value.min(geometry.max_refcount()));
                continue;
            }
            let run = Run::new(Cluster(first), ClusterCount(count));
            let mut expected = 0;
            for cluster in first..first + count {
                let slot = model.entry(cluster).or_default();
                if *slot == geometry.max_refcount() {
                    expected += 1;
                } else {
                    *slot += 1;
                }
            }
            assert_eq!(table.increment(run), Ok(ClusterCount(expected)));
        }
        model.retain(|_, count| *count != 0);
        for cluster in 0..span + 10 {
            let expected = model.get(&cluster).copied().unwrap_or(0);
            assert_eq!(
                table.get(Cluster(cluster)),
                expected,
                "{geometry:?} {cluster}"
            );
            let used = model
                .range(cluster..=2 * span + 10)
                .next()
                .map(|(cluster, _)| Cluster(*cluster));
            assert_eq!(table.next_used(Cluster(cluster)), used);
            let free = (cluster..=2 * span + 10)
                .find(|cluster| !model.contains_key(cluster))
                .map(Cluster);
            assert_eq!(Some(table.next_free(Cluster(cluster))), free);
        }
        let last = model.last_key_value().map(|(cluster, _)| Cluster(*cluster));
        assert_eq!(table.last_used(), last);
        let used: Vec<_> = table.used_refblocks().collect();
        assert!(used.iter().all(|refblock| {
            let first = geometry.first_covered(*refblock);
            let past = first.saturating_add(ClusterCount(geometry.refcounts_per_refblock()));
            model.range(first.0..past.0).next().is_some()
        }));
    }
}

#[test]
fn a_refblock_is_encoded_as_its_counts_one_by_one() {
    for geometry in geometries() {
        let mut table = RefcountTable::new(geometry);
        for cluster in scatter(7).take(40) {
            let cluster = Cluster(cluster % (2 * geometry.refcounts_per_refblock()));
            table.increment(Run::single(cluster)).expect("memory");
        }
        for refblock in 0..3 {
            let mut bytes = vec![0xff; geometry.refblock_bytes() + 8];
            table.encode(RefblockIndex(refblock), &mut bytes);
            let first = geometry.first_covered(RefblockIndex(refblock));
            for index in 0..geometry.refcounts_per_refblock() {
                let expected = table.get(first.saturating_add(ClusterCount(index)));
                let found = width::get(geometry.order(), &bytes, index as usize);
                assert_eq!(found, expected, "{geometry:?}");
            }
            assert_eq!(bytes[geometry.refblock_bytes()..], [0; 8]);
        }
    }
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
fn counts_that_outgrow_a_byte_are_those_of_a_plain_map() {
    for order in 3..=6 {
        let geometry = Geometry::new(9, order).expect("valid");
        let shared = SharedTable::new(RefcountTable::new(geometry));
        let mut alone = RefcountTable::new(geometry);
        let mut model = BTreeMap::<u64, u64>::new();
        let span = geometry.refcounts_per_refblock() * 2;
        let mut numbers = scatter(u64::from(order));
        for _ in 0..300 {
            let mut next = || numbers.next().expect("endless");
            let (first, times) = (next() % span, 1 + next() % 90);
            // Within the range of one refblock, as a piece has to be.
            let left =
                geometry.refcounts_per_refblock() - first % geometry.refcounts_per_refblock();
            let (count, twice) = ((1 + next() % 12).min(left), 1 + next() % 2);
            for cluster in first..first + count {
                let slot = model.entry(cluster).or_default();
                *slot = (*slot + times * twice).min(geometry.max_refcount());
            }
            let run = Run::new(Cluster(first), ClusterCount(count));
            alone.add(run, times * twice).expect("memory");
            let mut collected = Collected::new();
            let refblock = first / geometry.refcounts_per_refblock();
            if next() % 2 == 0 {
                let count = count as u32;
                for _ in 0..twice {
                    collected.push(Piece { first, count });
                }
            } else {
                let index = (first % geometry.refcounts_per_refblock()) as u32;
                for _ in 0..twice {
                    let indices: Vec<_> = (index..index + count as u32).collect();
                    collected.hit(refblock, &indices);
                }
            }
            shared.add(&mut collected, times).expect("memory");
        }
        let shared = shared.into_table(true);
        assert!(model.values().any(|count| *count >= 255));
        for (cluster, count) in model {
            assert_eq!(alone.get(Cluster(cluster)), count, "{geometry:?}");
            assert_eq!(shared.get(Cluster(cluster)), count, "{geometry:?}");
        }
        let mut bytes = vec![0; geometry.refblock_bytes()];
        for refblock in [0, 1].map(RefblockIndex) {
            alone.encode(refblock, &mut bytes);
            assert!(alone.equals(refblock, &bytes) && shared.equals(refblock, &bytes));
        }
    }
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
