//! `terminates` at its edges: fully used images whose size lies near a multiple of what a reftable
//! cluster covers, or near where the new structures just fit or just do not, up to the largest
//! reftable, for every geometry of the format.
//!
//! A table of that many counts does not fit into memory, so the number of tries is worked out here
//! from sums; the engine's planner is held against these sums wherever the table is small.

use recount::rebuild::{self, Input};
use recount::{Algorithm, Cluster, ClusterCount, Geometry, PlanError, RefcountTable, Run, RunSet};
use recount_oracle::properties::tries::Sizes;

/// Clusters of images that the planner itself is run on, at most.
const PLANNED_MAX: u64 = 1 << 19;

/// What comes of planning: the reftable's clusters and the number of tries; `None` when the table
/// would be too large.
type Planned = Option<(u64, u64)>;

/// By sums, for an image of `used` clusters without a gap, everything new after its end.
fn by_sums(sizes: Sizes, used: u64) -> Planned {
    let Sizes {
        refcounts,
        entries,
        most,
    } = sizes;
    let covering = |clusters: u64| clusters.div_ceil(refcounts).div_ceil(entries);
    let mut table = covering(used);
    let mut tries = 0;
    loop {
        while covering(used + table) > table {
            table = covering(used + table);
        }
        if table > most {
            return None;
        }
        tries += 1;
        let mut ranges = (used + table).div_ceil(refcounts);
        let free = ranges * refcounts - used - table;
        // Each further range has room for its own refblock and for all but one more.
        ranges += ranges.saturating_sub(free).div_ceil(refcounts - 1);
        let needed = ranges.div_ceil(entries);
        if needed <= table {
            return Some((table, tries));
        }
        table = needed;
    }
}

fn by_planner(geometry: Geometry, used: u64) -> Planned {
    let mut references = RefcountTable::new(geometry);
    let run = Run::new(Cluster(0), ClusterCount(used));
    references.add(run, 1).expect("memory");
    let input = Input {
        references: &references,
        reserved: &RunSet::new(),
        file: ClusterCount(used),
        capacity: None,
    };
    match rebuild::plan(Algorithm::Planned, &input) {
        Ok(layout) => Some((layout.reftable.count.0, layout.tries)),
        Err(PlanError::ReftableTooLarge { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

fn geometries() -> impl Iterator<Item = (Geometry, Sizes)> {
    (9..=21).flat_map(|cluster_bits| {
        (0..=6).map(move |order| {
            let geometry = Geometry::new(cluster_bits, order).expect("of the format");
            let cluster_size = 1_u64 << cluster_bits;
            let sizes = Sizes {
                refcounts: (cluster_size * 8) >> order,
                entries: cluster_size / 8,
                most: (8 << 20) >> cluster_bits,
            };
            (geometry, sizes)
        })
    })
}

/// Sizes at which `tables` clusters of reftable just cover the image, the image and the table, or
/// everything; and two clusters to either side.
fn edges(sizes: Sizes, tables: u64) -> impl Iterator<Item = u64> {
    let covered = tables * sizes.entries * sizes.refcounts;
    let refblocks = tables * sizes.entries;
    let centres = [
        covered,
        covered.saturating_sub(tables),
        covered.saturating_sub(refblocks),
        covered.saturating_sub(tables + refblocks),
        // One range less in use.
        covered.saturating_sub(tables + refblocks + sizes.refcounts - 1),
    ];
    centres.into_iter().flat_map(|centre| {
        let from = centre.saturating_sub(2).max(1);
        from..=centre + 2
    })
}

#[test]
fn a_full_image_of_any_geometry_is_planned_within_the_proven_number_of_tries() {
    let (mut images, mut most, mut too_large) = (0_u64, 0, 0_u64);
    for (geometry, sizes) in geometries() {
        let bound = sizes.proven_tries(0).expect("a bound for the format");
        assert_eq!(bound, 3, "{geometry:?}");
        for tables in 1..=sizes.most {
            for used in edges(sizes, tables) {
                images += 1;
                match by_sums(sizes, used) {
                    Some((_, tries)) => {
                        assert!(tries <= bound, "{geometry:?} {used}: {tries}");
                        most = most.max(tries);
                    }
                    None => too_large += 1,
                }
            }
        }
    }
    assert!(images > 5_000_000, "{images}");
    assert_eq!(most, 3);
    // Only with the largest tables is there no room for one that is larger still.
    assert!(
        too_large > 0 && too_large < images / 50,
        "{too_large} of {images}"
    );
}

#[test]
fn the_planner_does_what_the_sums_say() {
    let mut planned = 0;
    for (geometry, sizes) in geometries() {
        for tables in 1..=sizes.most {
            let mut within = edges(sizes, tables).filter(|used| *used <= PLANNED_MAX);
            let Some(first) = within.next() else { break };
            // A sample: the planner is slower than sums.
            for used in [first].into_iter().chain(within.step_by(7)) {
                assert_eq!(
                    by_planner(geometry, used),
                    by_sums(sizes, used),
                    "{geometry:?} {used}"
                );
                planned += 1;
            }
        }
    }
    assert!(planned > 100, "{planned}");
}

#[test]
fn a_full_toy_of_any_size_is_planned_within_the_proven_number_of_tries() {
    for (refblock_bits, entry_bits) in [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2), (4, 4)] {
        let geometry = Geometry::model(8, 4, refblock_bits, entry_bits).expect("valid");
        let sizes = Sizes {
            refcounts: 1 << refblock_bits,
            entries: 1 << entry_bits,
            most: geometry.max_reftable_clusters().0,
        };
        let bound = sizes.proven_tries(0).expect("a bound");
        for used in 1..=1500 {
            let planned = by_planner(geometry, used);
            assert_eq!(planned, by_sums(sizes, used), "{geometry:?} {used}");
            let (_, tries) = planned.expect("far below the largest table");
            assert!(tries <= bound, "{geometry:?} {used}: {tries} > {bound}");
        }
        for used in (1_u64..sizes.most * 2).step_by(97) {
            if let Some((_, tries)) = by_sums(sizes, used) {
                assert!(tries <= bound, "{geometry:?} {used}: {tries} > {bound}");
            }
        }
    }
}
