//! Damage from a random number generator: mostly one act, sometimes several at once.

use rand::{Rng, RngExt};

use super::{
    Among, BitmapDamage, Damage, HeaderDamage, PointerDamage, RefblockDamage, ReftableDamage,
    SnapshotDamage, To,
};
use crate::case::Pick;

/// The autoclear bits, as [`HeaderDamage::Feature`] numbers the fields; two of them are known.
const AUTOCLEAR: u8 = 2;

/// Up to four acts of damage; none in one case of thirty. In one of eight, an entry that leads
/// nowhere and nothing else: what lies behind it is whole, and can come back. In one of forty, beside
/// the others, an autoclear bit that nobody knows, and that whoever repairs something has to clear.
pub fn random_damage(rng: &mut impl Rng) -> Vec<Damage> {
    if rng.random_ratio(1, 8) {
        return vec![nowhere(rng)];
    }
    let acts = match rng.random_range(0..30) {
        0 => 0,
        1..=19 => 1,
        20..=24 => 2,
        25..=27 => 3,
        _ => 4,
    };
    let mut acts: Vec<_> = (0..acts).map(|_| act(rng)).collect();
    if rng.random_ratio(1, 40) {
        let (field, bit) = (AUTOCLEAR, rng.random_range(2..64));
        acts.push(Damage::Header(HeaderDamage::Feature { field, bit }));
    }
    acts
}

fn act(rng: &mut impl Rng) -> Damage {
    match rng.random_range(0..100) {
        0..=29 => Damage::Refcount {
            among: match rng.random_range(0..8) {
                0..=4 => Among::Allocated,
                5..=6 => Among::Free,
                _ => Among::PastEnd,
            },
            cluster: pick(rng),
            to: match rng.random_range(0..10) {
                0..=2 => To::Zero,
                3..=5 => To::Up,
                6..=7 => To::Down,
                8 => To::Max,
                _ => To::Exactly(rng.random_range(0..300)),
            },
        },
        30..=41 => Damage::Refblock {
            refblock: pick(rng),
            becomes: refblock(rng),
        },
        42..=52 => Damage::ReftableEntry {
            entry: pick(rng),
            becomes: pointer(rng),
        },
        53..=60 => Damage::Reftable(reftable(rng)),
        61..=66 => Damage::L1Entry {
            table: pick(rng),
            entry: pick(rng),
            becomes: pointer(rng),
        },
        67..=76 => Damage::L2Entry {
            entry: pick(rng),
            becomes: pointer(rng),
        },
        77..=79 => Damage::Compressed {
            entry: pick(rng),
            bit: rng.random(),
        },
        80..=82 => Damage::Subclusters {
            entry: pick(rng),
            allocated: rng.random(),
            zero: rng.random(),
        },
        83..=88 => Damage::Snapshot {
            snapshot: pick(rng),
            becomes: snapshot(rng),
        },
        89..=92 => Damage::Bitmap {
            bitmap: pick(rng),
            becomes: bitmap(rng),
        },
        93..=97 => Damage::Header(header(rng)),
        _ => Damage::Truncated {
            clusters: rng.random_range(0..4),
            bytes: if rng.random() { rng.random() } else { 0 },
        },
    }
}

fn nowhere(rng: &mut impl Rng) -> Damage {
    let becomes = match rng.random_range(0..5) {
        0..=1 => PointerDamage::Shifted {
            sectors: rng.random(),
        },
        2..=3 => PointerDamage::PastEnd {
            clusters: rng.random_range(0..2000),
        },
        _ => PointerDamage::Bit {
            bit: rng.random_range(30..56),
        },
    };
    match rng.random_range(0..10) {
        0..=3 => Damage::L1Entry {
            table: pick(rng),
            entry: pick(rng),
            becomes,
        },
        4..=5 => Damage::L2Entry {
            entry: pick(rng),
            becomes,
        },
        6..=8 => Damage::Snapshot {
            snapshot: pick(rng),
            becomes: SnapshotDamage::L1Offset(becomes),
        },
        _ => Damage::Snapshot {
            snapshot: pick(rng),
            becomes: SnapshotDamage::L1OffsetBytes(rng.random_range(1..512)),
        },
    }
}

fn pick(rng: &mut impl Rng) -> Pick {
    Pick(rng.random())
}

fn pointer(rng: &mut impl Rng) -> PointerDamage {
    match rng.random_range(0..14) {
        0..=1 => PointerDamage::Cleared,
        2..=3 => PointerDamage::Shifted {
            sectors: rng.random(),
        },
        4 => PointerDamage::PastEnd { clusters: 0 },
        5 => PointerDamage::PastEnd {
            clusters: rng.random_range(0..2000),
        },
        6..=8 => PointerDamage::Elsewhere { cluster: pick(rng) },
        9..=10 => PointerDamage::Bit {
            bit: rng.random_range(0..64),
        },
        11..=12 => PointerDamage::Copied,
        _ => PointerDamage::Compressed,
    }
}

fn refblock(rng: &mut impl Rng) -> RefblockDamage {
    match rng.random_range(0..7) {
        0..=1 => RefblockDamage::Zeroed,
        2 => RefblockDamage::Ones,
        3 => RefblockDamage::Random { seed: rng.random() },
        4..=5 => RefblockDamage::Scattered { seed: rng.random() },
        _ => RefblockDamage::CopyOf {
            refblock: pick(rng),
        },
    }
}

fn reftable(rng: &mut impl Rng) -> ReftableDamage {
    match rng.random_range(0..9) {
        0..=1 => ReftableDamage::Gone,
        2 => ReftableDamage::OffsetZero,
        3..=4 => ReftableDamage::Offset(pointer(rng)),
        5..=6 => ReftableDamage::Clusters(match rng.random_range(0..4) {
            0 => 0,
            1 => rng.random(),
            _ => rng.random_range(0..4),
        }),
        7 => ReftableDamage::Zeroed,
        _ => ReftableDamage::Random { seed: rng.random() },
    }
}

fn snapshot(rng: &mut impl Rng) -> SnapshotDamage {
    match rng.random_range(0..10) {
        0..=2 => SnapshotDamage::L1Offset(pointer(rng)),
        3..=4 => SnapshotDamage::L1OffsetBytes(rng.random_range(1..600)),
        5..=6 => SnapshotDamage::L1Entries(small_or_any(rng)),
        7 => SnapshotDamage::ExtraData(small_or_any(rng)),
        8 => SnapshotDamage::Count(small_or_any(rng)),
        _ => SnapshotDamage::Table(pointer(rng)),
    }
}

fn bitmap(rng: &mut impl Rng) -> BitmapDamage {
    match rng.random_range(0..10) {
        0..=2 => BitmapDamage::TableEntry {
            entry: pick(rng),
            becomes: pointer(rng),
        },
        3..=4 => BitmapDamage::TableOffset(pointer(rng)),
        5 => BitmapDamage::TableEntries(small_or_any(rng)),
        6 => BitmapDamage::Flags(small_or_any(rng)),
        7 => BitmapDamage::Count(small_or_any(rng)),
        8 => BitmapDamage::DirectorySize(small_or_any(rng)),
        _ => BitmapDamage::DirectoryOffset(pointer(rng)),
    }
}

fn header(rng: &mut impl Rng) -> HeaderDamage {
    match rng.random_range(0..12) {
        0..=1 => HeaderDamage::Dirty,
        2..=3 => HeaderDamage::Corrupt,
        4..=5 => HeaderDamage::Feature {
            field: rng.random(),
            bit: rng.random_range(0..6),
        },
        6..=7 => HeaderDamage::L1Offset(pointer(rng)),
        8..=9 => HeaderDamage::L1Entries(small_or_any(rng)),
        _ => HeaderDamage::Bit { bit: rng.random() },
    }
}

fn small_or_any(rng: &mut impl Rng) -> u32 {
    if rng.random_ratio(3, 4) {
        rng.random_range(0..40)
    } else {
        rng.random()
    }
}
