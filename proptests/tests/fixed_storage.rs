//! Storage that cannot grow, as a block device. Nothing is written past its end; and a repair that
//! says that there is no room is held against a count of its own: for every place of the reftable,
//! whether the clusters left are enough for the refblocks. A failure shrinks to a case file; seeds
//! that once failed are in `proptest-regressions/` and are tried first.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use recount_oracle::case::synthetic::{
    Allocation, Content, Run as GuestRun, Structures, Synthetic,
};
use recount_oracle::case::{Algorithm, Case, Image, Schedule, StorageLimit};
use recount_oracle::disk::Event;
use recount_oracle::run::Before;
use recount_oracle::spec::Refused;
use recount_proptests::judge::{check_opened, judged};
use recount_proptests::{Asked, refcounts_damaged};

const REGRESSIONS: Option<&str> = Some("proptest-regressions/fixed_storage.txt");

/// An image with damaged refcount structures on a device with a little room after it.
fn on_a_device() -> impl Strategy<Value = Case> {
    let algorithms = &[Algorithm::Planned, Algorithm::FirstFit, Algorithm::Tail];
    (refcounts_damaged(algorithms), 0_u32..4).prop_map(|(case, spare)| Case {
        storage: StorageLimit::Fixed { spare },
        ..case
    })
}

/// Clusters of a nearly full device beside its data, at most: the header, an L1 and an L2 table, a
/// reftable and two refblocks.
const BESIDE_DATA: u32 = 6;

/// The allocation, with so many clusters at least: fewer would be no image.
fn with_room(allocation: Allocation, clusters: u32) -> Allocation {
    match allocation {
        Allocation::Scattered { seed, span } => Allocation::Scattered {
            seed,
            span: span.max(clusters),
        },
        any => any,
    }
}

/// A small device that is nearly full, with no refcount structures or old ones in the way.
fn nearly_full() -> impl Strategy<Value = Case> {
    let allocation = prop_oneof![
        Just(Allocation::Dense),
        (1_u32..12).prop_map(|clusters| Allocation::AfterHole { clusters }),
        (2_u32..4).prop_map(|step| Allocation::Striped { step }),
        (any::<u16>(), 60_u32..400).prop_map(|(seed, span)| Allocation::Scattered {
            seed: seed.into(),
            span
        }),
    ];
    let structures = prop::sample::select(vec![
        Structures::Absent,
        Structures::Correct {
            spare_reftable_clusters: 0,
        },
    ]);
    (allocation, structures, 0_u32..=6, 1_u32..60, 0_u32..8).prop_map(
        |(allocation, structures, refcount_order, clusters, spare)| Case {
            image: Image::Synthetic(Synthetic {
                cluster_bits: 9,
                refcount_order,
                allocation: with_room(allocation, clusters + BESIDE_DATA),
                structures,
                guest: vec![GuestRun {
                    skip: 0,
                    clusters,
                    content: Content::Data,
                }],
                ..Synthetic::default()
            }),
            damage: vec![recount_oracle::case::damage::Damage::ReftableEntry {
                entry: recount_oracle::case::Pick(0),
                becomes: recount_oracle::case::damage::PointerDamage::Cleared,
            }],
            storage: StorageLimit::Fixed { spare },
            algorithm: Algorithm::Planned,
            schedule: Schedule::Quiet,
        },
    )
}

#[test]
fn nothing_is_written_past_the_end_of_a_device() {
    let name = "nothing_is_written_past_the_end_of_a_device";
    check_opened(
        name,
        REGRESSIONS,
        200,
        on_a_device(),
        |_, before, repair| {
            let capacity = before.capacity.expect("the storage is fixed");
            let run = judged(before, repair)?;
            for (offset, length) in run.trace.writes() {
                prop_assert!(offset + length as u64 <= capacity, "a write at {offset}");
            }
            let resized = run
                .trace
                .events
                .iter()
                .any(|event| matches!(event, Event::SetLen { .. }));
            prop_assert!(!resized, "the length of a device was changed");
            prop_assert_eq!(run.after.len(), before.bytes.len());
            Ok(Asked::Judged)
        },
    );
}

#[test]
fn no_space_is_said_only_where_counting_finds_none() {
    let name = "no_space_is_said_only_where_counting_finds_none";
    check_opened(
        name,
        REGRESSIONS,
        600,
        nearly_full(),
        |_, before, repair| {
            let run = judged(before, repair)?;
            let Err(stopped) = &run.outcome else {
                return Ok(Asked::Judged);
            };
            prop_assert_eq!(stopped.reason, Some(Refused::NoSpace), "{}", stopped);
            prop_assert!(stopped.by_placement, "{stopped}");
            prop_assert!(run.trace.is_read_only(), "it fails for space after writing");
            let place = Space::of(before).place();
            prop_assert_eq!(
                place,
                None,
                "a reftable of this many clusters fits at that cluster"
            );
            Ok(Asked::Judged)
        },
    );
}

/// What there is room for: naive counting, cluster by cluster.
struct Space {
    /// Clusters with references from anything but the old structures.
    used: BTreeSet<u64>,
    /// Clusters that can take new structures.
    free: BTreeSet<u64>,
    /// Clusters that a refblock covers.
    refblock: u64,
    /// Clusters that a reftable cluster covers.
    reftable: u64,
    /// Clusters of the device.
    clusters: u64,
}

impl Space {
    fn of(before: &Before) -> Self {
        let reading = &before.reading;
        let audit = reading.audit().expect("an image");
        let clusters = before.capacity.expect("a device") >> reading.cluster_bits;
        let used = reading.references.keys().copied();
        let used = used.filter(|&cluster| reading.foreign_references_to(cluster) > 0);
        Self {
            used: used.collect(),
            free: (0..clusters)
                .filter(|&cluster| reading.references_to(cluster) == 0)
                .collect(),
            refblock: audit.header.refblock_entries(),
            reftable: audit.header.refblock_entries() * audit.header.cluster_size() / 8,
            clusters,
        }
    }

    /// Clusters of a reftable that fits, and where.
    fn place(&self) -> Option<(u64, u64)> {
        let most = self.clusters.div_ceil(self.reftable);
        (1..=most).find_map(|count| {
            let mut firsts = self.free.iter().copied();
            let first = firsts.find(|&first| self.fits(first..first + count))?;
            Some((count, first))
        })
    }

    /// Whether the refblocks fit when the reftable is there. A range that is in use needs a
    /// refblock; one that is not gives, for a refblock of its own, all its other free clusters.
    fn fits(&self, table: std::ops::Range<u64>) -> bool {
        let counted = self.used.iter().copied().chain(table.clone());
        let ranges: BTreeSet<u64> = counted.map(|cluster| cluster / self.refblock).collect();
        let covered = (table.end - table.start) * self.reftable / self.refblock;
        if !table.clone().all(|cluster| self.free.contains(&cluster))
            || ranges.last().is_some_and(|&last| last >= covered)
        {
            return false;
        }
        let mut room: BTreeMap<u64, u64> = BTreeMap::new();
        for cluster in self.free.iter().filter(|cluster| !table.contains(cluster)) {
            *room.entry(cluster / self.refblock).or_default() += 1;
        }
        let needed = ranges.len() as u64;
        let inside: u64 = ranges.iter().filter_map(|range| room.get(range)).sum();
        let others = room
            .iter()
            .filter(|(range, _)| !ranges.contains(range) && **range < covered);
        let outside: u64 = others.map(|(_, &free)| free - 1).sum();
        inside + outside >= needed
    }
}
