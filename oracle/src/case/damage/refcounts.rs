//! Damage to the refcount structures: pointer, reftable, refblocks, single refcounts.

use std::io;

use arbitrary::Arbitrary;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::bytes::in_memory;
use super::find::Structures;
use super::{Pen, PointerDamage, ReadWriteAt};
use crate::case::Pick;

/// A longer reftable nobody opens: 8 MiB.
const LONGEST_REFTABLE: u64 = 8 << 20;

/// Byte position of the header's reftable offset; its clusters are 8 bytes further on.
const POINTER: u64 = 48;

/// What becomes of the header's reftable pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReftableDamage {
    /// Offset 0, 0 clusters.
    Gone,
    /// The offset becomes 0, the clusters stay.
    OffsetZero,
    /// The offset as any other pointer's.
    Offset(PointerDamage),
    /// The number of clusters.
    Clusters(u32),
    /// The content becomes zeros.
    Zeroed,
    /// The content becomes random bytes.
    Random {
        /// Their seed.
        seed: u32,
    },
}

/// What becomes of a refblock's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefblockDamage {
    /// Zeros.
    Zeroed,
    /// Ones in every bit: the largest refcounts.
    Ones,
    /// Random bytes.
    Random {
        /// Their seed.
        seed: u32,
    },
    /// Some random refcounts.
    Scattered {
        /// Which, and what they become.
        seed: u32,
    },
    /// The content of another refblock.
    CopyOf {
        /// Which.
        refblock: Pick,
    },
}

/// Which clusters a refcount is chosen among.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Among {
    /// Those with a refcount above 0.
    Allocated,
    /// Those inside the file with a refcount of 0.
    Free,
    /// Those past the end of the file that a refblock covers.
    PastEnd,
}

/// What a refcount becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum To {
    /// 0.
    Zero,
    /// One more, where the width allows.
    Up,
    /// One less, where it is not 0.
    Down,
    /// The largest of the width.
    Max,
    /// This number, cut to the width.
    Exactly(u32),
}

pub(super) fn reftable(pen: &mut Pen<'_>, how: ReftableDamage) -> io::Result<()> {
    let (offset, clusters) = pen.found.reftable;
    let length = u64::from(clusters).saturating_mul(pen.found.cluster_size());
    // The header may name any number of clusters by now.
    let length = length.min(LONGEST_REFTABLE);
    let inside = in_memory(length.min(pen.found.length.saturating_sub(offset)));
    match how {
        ReftableDamage::Gone => pen.write(POINTER, &[0; 12]),
        ReftableDamage::OffsetZero => pen.write_be64(POINTER, 0),
        ReftableDamage::Offset(becomes) => pen.write_be64(POINTER, becomes.of(offset, pen.found)),
        ReftableDamage::Clusters(clusters) => pen.write_be32(POINTER + 8, clusters),
        ReftableDamage::Zeroed => pen.write(offset, &vec![0; inside]),
        ReftableDamage::Random { seed } => pen.write(offset, &random_bytes(seed, inside)),
    }
}

pub(super) fn reftable_entry(
    pen: &mut Pen<'_>,
    entry: Pick,
    becomes: PointerDamage,
) -> io::Result<()> {
    let mut entries = pen.found.reftable_entries.clone();
    entries.retain(|entry| entry.value != 0);
    let Some(index) = entry.of(entries.len()) else {
        return Ok(());
    };
    let value = becomes.of(entries[index].value, pen.found);
    pen.write_be64(entries[index].at, value)
}

pub(super) fn refblock(pen: &mut Pen<'_>, which: Pick, how: RefblockDamage) -> io::Result<()> {
    let refblocks = pen.found.refblocks();
    let Some(index) = which.of(refblocks.len()) else {
        return Ok(());
    };
    let length = in_memory(pen.found.cluster_size());
    let at = refblocks[index].value;
    let bytes = match how {
        RefblockDamage::Zeroed => vec![0; length],
        RefblockDamage::Ones => vec![0xff; length],
        RefblockDamage::Random { seed } => random_bytes(seed, length),
        RefblockDamage::Scattered { seed } => return scatter(pen, at, seed),
        RefblockDamage::CopyOf { refblock } => {
            let mut bytes = vec![0; length];
            let index = refblock.of(refblocks.len()).unwrap_or(index);
            pen.image.read_at(refblocks[index].value, &mut bytes)?;
            bytes
        }
    };
    pen.write(at, &bytes)
}

/// Changes up to 16 refcounts, more often those of the refblock's first clusters.
fn scatter(pen: &mut Pen<'_>, refblock: u64, seed: u32) -> io::Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed.into());
    let refcounts = pen.found.refcounts_per_refblock();
    let near = pen.found.clusters().clamp(1, refcounts);
    for _ in 0..rng.random_range(1..=16) {
        let last = if rng.random_ratio(3, 4) {
            near
        } else {
            refcounts
        };
        let index = rng.random_range(0..last);
        let value = rng.random_range(0..5_u64);
        write_refcount(pen, refblock, index, value)?;
    }
    Ok(())
}

pub(super) fn refcount(pen: &mut Pen<'_>, among: Among, which: Pick, to: To) -> io::Result<()> {
    let mut candidates = Vec::new();
    for (block, entry) in pen.found.reftable_entries.iter().enumerate() {
        if !pen.found.is_table(entry.value) {
            continue;
        }
        let per_refblock = pen.found.refcounts_per_refblock();
        let first = block as u64 * per_refblock;
        let (from, until) = match among {
            Among::Allocated | Among::Free => (first, pen.found.clusters()),
            // A handful is enough to choose from.
            Among::PastEnd => (pen.found.clusters().max(first), pen.found.clusters() + 64),
        };
        for cluster in from..until.min(first + per_refblock) {
            let index = cluster - first;
            let value = read_refcount(pen.image, pen.found, entry.value, index)?;
            if among == Among::PastEnd || (among == Among::Allocated) == (value > 0) {
                candidates.push((entry.value, index, value));
            }
        }
    }
    let Some(chosen) = which.of(candidates.len()) else {
        return Ok(());
    };
    let (refblock, index, value) = candidates[chosen];
    let most = u64::MAX >> (64 - (1 << pen.found.refcount_order));
    let value = match to {
        To::Zero => 0,
        To::Up => value.saturating_add(1).min(most),
        To::Down => value.saturating_sub(1),
        To::Max => most,
        To::Exactly(value) => u64::from(value) & most,
    };
    write_refcount(pen, refblock, index, value)
}

/// The `index`th refcount of a refblock. Widths below a byte fill it from its low bits up; wider
/// ones are big-endian (specification, "Refcount block").
fn read_refcount(
    image: &dyn ReadWriteAt,
    found: &Structures,
    refblock: u64,
    index: u64,
) -> io::Result<u64> {
    let bits = 1 << found.refcount_order;
    let mut bytes = [0; 8];
    if bits < 8 {
        image.read_at(refblock + index * bits / 8, &mut bytes[..1])?;
        let shifted = bytes[0] >> (index * bits % 8);
        return Ok(u64::from(shifted) & ((1 << bits) - 1));
    }
    let width = bits / 8;
    let field = &mut bytes[8 - in_memory(width)..];
    image.read_at(refblock + index * width, field)?;
    Ok(u64::from_be_bytes(bytes))
}

fn write_refcount(pen: &mut Pen<'_>, refblock: u64, index: u64, value: u64) -> io::Result<()> {
    let bits = 1 << pen.found.refcount_order;
    if bits < 8 {
        let at = refblock + index * bits / 8;
        let mut byte = [0];
        pen.image.read_at(at, &mut byte)?;
        let shift = index * bits % 8;
        let [.., mask] = (((1_u64 << bits) - 1) << shift).to_be_bytes();
        let [.., value] = (value << shift).to_be_bytes();
        return pen.write(at, &[(byte[0] & !mask) | (value & mask)]);
    }
    let width = bits / 8;
    let field = &value.to_be_bytes()[8 - in_memory(width)..];
    pen.write(refblock + index * width, field)
}

/// As many random bytes as asked for, the same for the same seed.
pub(super) fn random_bytes(seed: u32, length: usize) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed.into());
    let mut bytes = vec![0; length];
    rng.fill(&mut bytes[..]);
    bytes
}
