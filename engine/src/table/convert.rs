//! Counts taken from the width that they are held in to that of a refblock, each cut to what fits
//! there; and compared with a refblock on the way, which costs less than holding them wider would.

use super::width;
use crate::geometry::RefcountOrder;

/// Counts that are converted and compared before anybody looks at the result; those of any width are
/// whole bytes.
const BLOCK: usize = 64;

/// Writes the counts as a refblock has them. What is past the end of either stays.
pub fn convert(from: RefcountOrder, counts: &[u8], to: RefcountOrder, refblock: &mut [u8]) {
    if from == to {
        let length = counts.len().min(refblock.len());
        refblock[..length].copy_from_slice(&counts[..length]);
        return;
    }
    match (from, to.get()) {
        (RefcountOrder::BYTE, 4) => widen(counts, refblock, |count| u16::from(count).to_be_bytes()),
        (RefcountOrder::BYTE, 5) => widen(counts, refblock, |count| u32::from(count).to_be_bytes()),
        (RefcountOrder::BYTE, 6) => widen(counts, refblock, |count| u64::from(count).to_be_bytes()),
        _ => {
            for (number, block) in refblock.chunks_mut(block_bytes(to)).enumerate() {
                convert_block(from, counts, number * BLOCK, to, block);
            }
        }
    }
}

/// Whether a refblock is what [`convert`] writes.
pub fn equals(from: RefcountOrder, counts: &[u8], to: RefcountOrder, refblock: &[u8]) -> bool {
    if from == to {
        return *counts == *refblock;
    }
    match (from, to.get()) {
        (RefcountOrder::BYTE, 4) => are_equal(counts, refblock, |bytes, count| {
            u16::from_ne_bytes(bytes) ^ u16::from(count).to_be() == 0
        }),
        (RefcountOrder::BYTE, 5) => are_equal(counts, refblock, |bytes, count| {
            u32::from_ne_bytes(bytes) ^ u32::from(count).to_be() == 0
        }),
        (RefcountOrder::BYTE, 6) => are_equal(counts, refblock, |bytes, count| {
            u64::from_ne_bytes(bytes) ^ u64::from(count).to_be() == 0
        }),
        _ => {
            let mut buffer = [0; BLOCK * size_of::<u64>()];
            let mut blocks = refblock.chunks(block_bytes(to)).enumerate();
            refblock.len() << from.get() == counts.len() << to.get()
                && blocks.all(|(number, block)| {
                    let expected = &mut buffer[..block.len()];
                    convert_block(from, counts, number * BLOCK, to, expected);
                    *expected == *block
                })
        }
    }
}

const fn block_bytes(order: RefcountOrder) -> usize {
    BLOCK * order.bits() as usize / 8
}

/// Writes at most [`BLOCK`] counts, from the index `first` on: as many as `block` has room for.
fn convert_block(
    from: RefcountOrder,
    counts: &[u8],
    first: usize,
    to: RefcountOrder,
    block: &mut [u8],
) {
    let mut values = [0; BLOCK];
    width::decode(from, counts, first, &mut values);
    for value in &mut values {
        *value = (*value).min(to.max_refcount());
    }
    match to.get() {
        0..=2 => {
            let each = to.bits();
            let groups = values.chunks((8 / each) as usize);
            for (byte, group) in block.iter_mut().zip(groups) {
                let shifted = group.iter().zip((0..).step_by(each as usize));
                *byte = shifted.fold(0, |byte, (value, shift)| byte | (*value as u8) << shift);
            }
        }
        3 => store::<1>(&values, block),
        4 => store::<2>(&values, block),
        5 => store::<4>(&values, block),
        _ => store::<8>(&values, block),
    }
}

fn store<const N: usize>(values: &[u64], block: &mut [u8]) {
    for (bytes, value) in block.as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *bytes = width::to_bytes(*value);
    }
}

fn widen<const N: usize>(counts: &[u8], refblock: &mut [u8], wide: impl Fn(u8) -> [u8; N]) {
    for (bytes, count) in refblock.as_chunks_mut::<N>().0.iter_mut().zip(counts) {
        *bytes = wide(*count);
    }
}

/// Whether there are as many refcounts as counts, and each pair is the same.
fn are_equal<const N: usize>(
    counts: &[u8],
    refblock: &[u8],
    same: impl Fn([u8; N], u8) -> bool,
) -> bool {
    let refcounts = refblock.as_chunks::<N>().0;
    let blocks = refcounts.chunks(BLOCK).zip(counts.chunks(BLOCK));
    refcounts.len() == counts.len()
        && blocks.into_iter().all(|(refcounts, counts)| {
            let pairs = refcounts.iter().zip(counts);
            pairs.fold(true, |all, (bytes, count)| all & same(*bytes, *count))
        })
}
