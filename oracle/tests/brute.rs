//! Brute force itself: against placements found by hand, and against a search that knows nothing
//! of ranges and tries every set of clusters.

use recount_oracle::brute::Space;
use recount_oracle::toy::{Clusters, Shape, Toy};

fn space(shape: (u32, u32), picture: &str) -> Space {
    let (refblock_bits, reftable_entry_bits) = shape;
    let marked = |wanted| {
        let marks = (0..).zip(picture.bytes());
        let marked = marks.filter(|(_, mark)| *mark == wanted);
        marked.map(|(cluster, _)| cluster).collect()
    };
    Space {
        shape: Shape {
            refblock_bits,
            reftable_entry_bits,
            refcount_order: 4,
        },
        used: marked(b'#'),
        reserved: marked(b'o'),
        clusters: picture.len() as u32,
    }
}

#[test]
fn the_least_table_is_the_one_found_by_hand() {
    // With B = 4 and E = 2 one reftable cluster covers 8 clusters.
    let (b4e2, b4e4) = ((2, 1), (2, 2));
    for (shape, picture, least) in [
        (b4e2, "#..", Some(1)),
        // A table and a refblock need two.
        (b4e2, "#.", None),
        // The last opens a second range.
        (b4e2, "#o.o.", None),
        (b4e2, "##..", Some(1)),
        (b4e2, "###.....", Some(1)),
        (b4e2, "########", None),
        // A table of two, refblocks for ranges 0 to 3.
        (b4e2, "########......", Some(2)),
        // One cluster less: two for the table, three for refblocks, four ranges.
        (b4e2, "########.....", None),
        // No two free clusters in a row for the table of two.
        (b4e2, "#.#.#.#.#.#.", None),
        (b4e2, "#.#.#.#.#...", Some(2)),
        // A refblock may lie before or after the range that it covers.
        (b4e2, "#...####", Some(1)),
        (b4e2, "####....", Some(1)),
        // An unused range is opened where that gains a place: at the end, one of two free clusters
        // houses its own refblock and one more.
        (b4e4, "###.#####...", Some(1)),
        (b4e4, "###.########..", None),
        (b4e4, "###.########...", None),
        (b4e4, "###.########....", Some(1)),
    ] {
        assert_eq!(space(shape, picture).least_table(), least, "{picture}");
    }
}

/// Tries every set of clusters as refblocks, each with every assignment that matters: any one, as
/// refblocks may lie anywhere.
fn least_by_sets(space: &Space) -> Option<u32> {
    let (refcounts, entries) = (space.shape.refcounts(), space.shape.entries());
    let clusters = space.clusters;
    (1..=clusters).find(|tables| {
        (0..=clusters - tables).any(|first| {
            (0_u128..1 << clusters).map(Clusters).any(|refblocks| {
                let table = Clusters::run(first, *tables);
                let all = refblocks.or(table);
                let apart = refblocks.and(table).is_empty();
                let free = all.and(space.used.or(space.reserved)).is_empty();
                let counted: std::collections::BTreeSet<u32> =
                    all.or(space.used).iter().map(|c| c / refcounts).collect();
                let last = counted.last().copied().unwrap_or(0);
                apart
                    && free
                    && counted.len() == refblocks.count() as usize
                    && last < tables * entries
            })
        })
    })
}

#[test]
fn it_agrees_with_trying_every_set_of_clusters() {
    let mut with_placement = 0;
    for (refblock_bits, reftable_entry_bits) in [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (3, 1)] {
        for clusters in 1..=7_u32 {
            for pattern in 0..3_u32.pow(clusters - 1) {
                let mut digits = pattern;
                let mut picture = "#".to_owned();
                for _ in 1..clusters {
                    picture.push(['.', '#', 'o'][(digits % 3) as usize]);
                    digits /= 3;
                }
                let space = space((refblock_bits, reftable_entry_bits), &picture);
                let least = space.least_table();
                with_placement += u32::from(least.is_some());
                assert_eq!(
                    least,
                    least_by_sets(&space),
                    "{picture} with B = {}, E = {}",
                    space.shape.refcounts(),
                    space.shape.entries(),
                );
            }
        }
    }
    assert!(with_placement > 500, "only {with_placement}");
}

#[test]
fn a_growing_file_always_has_a_placement() {
    for refblock_bits in 1..=3 {
        for reftable_entry_bits in 1..=2 {
            for clusters in 1..=14 {
                let space = space((refblock_bits, reftable_entry_bits), "#");
                let toy = Toy {
                    shape: space.shape,
                    clusters,
                    used: Clusters::run(0, clusters),
                    old: Clusters::NONE,
                    room: recount_oracle::case::StorageLimit::Growing,
                };
                let whole = Space::whole_storage(&toy).expect("a small toy");
                assert!(whole.least_table().is_some(), "{toy:?}");
                assert_eq!(Space::inside_file(&toy).least_table(), None, "{toy:?}");
            }
        }
    }
}
