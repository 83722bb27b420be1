//! Damaged images by what is damaged, and what goes wrong while they are repaired.

use proptest::collection::vec;
use proptest::prelude::*;
use recount_oracle::case::damage::{
    Among, BitmapDamage, Damage, PointerDamage, RefblockDamage, ReftableDamage, SnapshotDamage, To,
};
use recount_oracle::case::{Algorithm, Case, Image, Pick, Schedule, StorageLimit};

use crate::synthetic;

/// Acts of damage to one image, at most.
const DAMAGE_MAX: usize = 3;

/// A synthetic image on storage that can grow, with this done to it, and one of these algorithms.
fn damaged_by(
    damage: impl Strategy<Value = Vec<Damage>>,
    algorithms: &'static [Algorithm],
) -> impl Strategy<Value = Case> {
    let algorithm = prop::sample::select(algorithms);
    (synthetic(), damage, algorithm).prop_map(|(image, damage, algorithm)| Case {
        image: Image::Synthetic(image),
        damage,
        storage: StorageLimit::Growing,
        algorithm,
        schedule: Schedule::Quiet,
    })
}

/// An image of which only refcount structures are damaged.
pub fn refcounts_damaged(algorithms: &'static [Algorithm]) -> impl Strategy<Value = Case> {
    damaged_by(refcounts(1), algorithms)
}

/// An image with one entry that leads nowhere, after damage to its refcounts.
pub fn entry_damaged() -> impl Strategy<Value = Case> {
    let damage = (refcounts(0), nowhere()).prop_map(|(mut damage, entry)| {
        damage.push(entry);
        damage
    });
    damaged_by(damage, &[Algorithm::Planned])
}

/// At least so many acts of damage to reftable, refblocks and single refcounts, and to nothing
/// else: contents first, then what leads to them, which may lead to data afterwards.
pub fn refcounts(least: usize) -> impl Strategy<Value = Vec<Damage>> {
    vec(one_of_refcounts(), least..=DAMAGE_MAX).prop_map(|mut damage| {
        damage.sort_by_key(|damage| match damage {
            Damage::Refcount { .. } => 0,
            Damage::Refblock { .. } => 1,
            Damage::ReftableEntry { .. } => 2,
            Damage::Reftable(ReftableDamage::Zeroed | ReftableDamage::Random { .. }) => 3,
            _ => 4,
        });
        damage
    })
}

fn one_of_refcounts() -> impl Strategy<Value = Damage> {
    let refblock =
        (pick(), refblock()).prop_map(|(refblock, becomes)| Damage::Refblock { refblock, becomes });
    let entry =
        (pick(), pointer()).prop_map(|(entry, becomes)| Damage::ReftableEntry { entry, becomes });
    let among = prop::sample::select(vec![Among::Allocated, Among::Free, Among::PastEnd]);
    let to = prop::sample::select(vec![To::Zero, To::Up, To::Down, To::Max, To::Exactly(2)]);
    let refcount = (among, pick(), to).prop_map(|(among, cluster, to)| Damage::Refcount {
        among,
        cluster,
        to,
    });
    prop_oneof![
        4 => refcount,
        3 => refblock,
        2 => entry,
        2 => reftable().prop_map(Damage::Reftable),
    ]
}

fn reftable() -> impl Strategy<Value = ReftableDamage> {
    prop_oneof![
        2 => Just(ReftableDamage::Gone),
        1 => Just(ReftableDamage::OffsetZero),
        1 => Just(ReftableDamage::Zeroed),
        1 => (0_u32..4).prop_map(ReftableDamage::Clusters),
        1 => any::<u32>().prop_map(|seed| ReftableDamage::Random { seed }),
    ]
}

fn refblock() -> impl Strategy<Value = RefblockDamage> {
    prop_oneof![
        Just(RefblockDamage::Zeroed),
        Just(RefblockDamage::Ones),
        any::<u32>().prop_map(|seed| RefblockDamage::Random { seed }),
        any::<u32>().prop_map(|seed| RefblockDamage::Scattered { seed }),
        pick().prop_map(|refblock| RefblockDamage::CopyOf { refblock }),
    ]
}

fn pointer() -> impl Strategy<Value = PointerDamage> {
    prop_oneof![
        2 => Just(PointerDamage::Cleared),
        1 => any::<u16>().prop_map(|sectors| PointerDamage::Shifted { sectors }),
        1 => (0_u16..2000).prop_map(|clusters| PointerDamage::PastEnd { clusters }),
        1 => pick().prop_map(|cluster| PointerDamage::Elsewhere { cluster }),
    ]
}

/// Damage to an entry after which it leads past the end of the file or inside a cluster.
pub fn nowhere() -> impl Strategy<Value = Damage> {
    let astray = || {
        prop_oneof![
            (0_u16..2000).prop_map(|clusters| PointerDamage::PastEnd { clusters }),
            any::<u16>().prop_map(|sectors| PointerDamage::Shifted { sectors }),
        ]
    };
    prop_oneof![
        (pick(), pick(), astray()).prop_map(|(table, entry, becomes)| Damage::L1Entry {
            table,
            entry,
            becomes
        }),
        (pick(), astray()).prop_map(|(entry, becomes)| Damage::L2Entry { entry, becomes }),
        (pick(), astray()).prop_map(|(snapshot, becomes)| Damage::Snapshot {
            snapshot,
            becomes: SnapshotDamage::L1Offset(becomes)
        }),
        (pick(), 1_u16..512).prop_map(|(snapshot, bytes)| Damage::Snapshot {
            snapshot,
            becomes: SnapshotDamage::L1OffsetBytes(bytes)
        }),
        (pick(), pick(), astray()).prop_map(|(bitmap, entry, becomes)| Damage::Bitmap {
            bitmap,
            becomes: BitmapDamage::TableEntry { entry, becomes }
        }),
        (pick(), astray()).prop_map(|(bitmap, becomes)| Damage::Bitmap {
            bitmap,
            becomes: BitmapDamage::TableOffset(becomes)
        }),
    ]
}

fn pick() -> impl Strategy<Value = Pick> {
    any::<u32>().prop_map(Pick)
}
