//! Refcounts as a refblock has them (specification, "Refcount block entry"): widths below 8 bits
//! fill a byte from its low bits up, wider ones are big-endian.
//!
//! All work is done on words of 64 bits, in which the first refcount has the lowest bits and the
//! others follow, whatever their width.

use std::ops::Range;

use crate::geometry::RefcountOrder;

/// Refcounts that are decoded or encoded in one go: whole words at every width.
pub const BLOCK: usize = 64;

/// A block of refcounts, one number each.
pub type Counts = [u64; BLOCK];

/// The refcount at `index`; 0 past the end.
pub fn get(order: RefcountOrder, bytes: &[u8], index: usize) -> u64 {
    let (number, shift) = position(order, index);
    word(order, bytes, number) >> shift & order.max_refcount()
}

/// Sets the refcount at `index` to `value`, or to the maximum of the width if that is less; nothing
/// past the end.
pub fn set(order: RefcountOrder, bytes: &mut [u8], index: usize, value: u64) {
    let (number, shift) = position(order, index);
    let max = order.max_refcount();
    let others = word(order, bytes, number) & !(max << shift);
    if let Some(bytes) = bytes.chunks_mut(8).nth(number) {
        store(order, others | value.min(max) << shift, bytes);
    }
}

/// Adds `times` to the refcounts of a run, word by word up to the first in which one would exceed the
/// width, or that is not there; says where it stopped. The widest stay at their maximum.
pub fn add(order: RefcountOrder, bytes: &mut [u8], run: Range<usize>, times: u64) -> usize {
    if times > order.max_refcount() {
        return run.start;
    }
    let words = bytes.as_chunks_mut::<8>().0;
    let lowest = lowest_bits(order);
    let highest = lowest << (order.bits() - 1);
    let mut from = run.start;
    while from < run.end {
        let (number, shift) = position(order, from);
        let end = run.end.min((number + 1) << (6 - order.get()));
        let bits = (end - from) << order.get();
        let Some(bytes) = words.get_mut(number) else {
            break;
        };
        let before = swapped(order, u64::from_le_bytes(*bytes));
        let more = (lowest * times) & ((u64::MAX >> (64 - bits)) << shift);
        let sum = if order == RefcountOrder::MAX {
            before.saturating_add(more)
        } else {
            // All at once; the highest bit of each apart, so that none carries into the next.
            let sum = ((before & !highest) + (more & !highest)) ^ ((before ^ more) & highest);
            if (before & more | (before | more) & !sum) & highest != 0 {
                break;
            }
            sum
        };
        *bytes = swapped(order, sum).to_le_bytes();
        from = end;
    }
    from
}

/// Adds `times` to the refcounts at many indices, where the width is a bit or a byte, up to the first
/// that does not fit; says how many did.
pub fn add_each(
    order: RefcountOrder,
    bytes: &mut [u8],
    indices: impl Iterator<Item = usize>,
    times: u64,
) -> usize {
    let mut added = 0;
    match order {
        RefcountOrder::BIT if times == 1 => {
            for index in indices {
                let (byte, bit) = (&mut bytes[index / 8], 1 << (index % 8));
                if *byte & bit != 0 {
                    break;
                }
                *byte |= bit;
                added += 1;
            }
        }
        RefcountOrder::BYTE => {
            for index in indices {
                let sum = times.saturating_add(bytes[index].into());
                let Ok(sum) = u8::try_from(sum) else { break };
                bytes[index] = sum;
                added += 1;
            }
        }
        _ => {}
    }
    added
}

/// The block of refcounts that `bytes` begin with; 0 past their end.
pub fn decode(order: RefcountOrder, bytes: &[u8]) -> Counts {
    let mut counts = [0; BLOCK];
    match order.get() {
        3 => decode_wide::<1>(bytes, &mut counts),
        4 => decode_wide::<2>(bytes, &mut counts),
        5 => decode_wide::<4>(bytes, &mut counts),
        6 => decode_wide::<8>(bytes, &mut counts),
        _ => {
            for (count, index) in counts.iter_mut().zip(0..(bytes.len() * 8) >> order.get()) {
                *count = get(order, bytes, index);
            }
        }
    }
    counts
}

/// Refcounts of `N` bytes each: how many is known when this is compiled, for it to be quick.
fn decode_wide<const N: usize>(bytes: &[u8], counts: &mut Counts) {
    for (count, bytes) in counts.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *count = bytes
            .iter()
            .fold(0, |count, byte| count << 8 | u64::from(*byte));
    }
}

/// Fills `bytes`, those of a block at most, with refcounts, each at most the maximum of the width.
pub fn encode<T: Copy + Into<u64>>(order: RefcountOrder, counts: &[T; BLOCK], bytes: &mut [u8]) {
    let max = order.max_refcount();
    match order.get() {
        3 => encode_wide::<1, T>(counts, bytes),
        4 => encode_wide::<2, T>(counts, bytes),
        5 => encode_wide::<4, T>(counts, bytes),
        6 => encode_wide::<8, T>(counts, bytes),
        _ => {
            let words = counts.chunks_exact(64 >> order.get());
            for (counts, bytes) in words.zip(bytes.chunks_mut(8)) {
                let shifted = counts.iter().zip((0..).step_by(order.bits() as usize));
                let shifted = shifted.map(|(count, shift)| (*count).into().min(max) << shift);
                store(order, shifted.fold(0, |word, one| word | one), bytes);
            }
        }
    }
}

/// As [`decode_wide`].
fn encode_wide<const N: usize, T: Copy + Into<u64>>(counts: &[T; BLOCK], bytes: &mut [u8]) {
    for (bytes, count) in bytes.as_chunks_mut::<N>().0.iter_mut().zip(counts) {
        let refcount = (*count).into().min(u64::MAX >> (64 - 8 * N));
        bytes.copy_from_slice(&refcount.to_be_bytes()[8 - N..]);
    }
}

/// Fills `bytes` with one refcount, at most the maximum of the width.
pub fn fill(order: RefcountOrder, count: u64, bytes: &mut [u8]) {
    let count = count.min(order.max_refcount());
    let word = swapped(order, lowest_bits(order) * count).to_le_bytes();
    let (words, rest) = bytes.as_chunks_mut();
    words.fill(word);
    rest.copy_from_slice(&word[..rest.len()]);
}

/// Whether all bytes are 0.
pub fn is_zero(bytes: &[u8]) -> bool {
    let zero = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all | byte) == 0;
    bytes.chunks(BLOCK).all(zero)
}

/// Bytes of a block of refcounts.
pub const fn block_bytes(order: RefcountOrder) -> usize {
    BLOCK * order.bits() as usize / 8
}

/// The count that all of a block have, if that is so.
pub fn same(order: RefcountOrder, block: &[u8]) -> Option<u64> {
    let first = get(order, block, 0);
    let word = swapped(order, lowest_bits(order) * first).to_le_bytes();
    let is_same = block.as_chunks().0.iter().all(|other| *other == word);
    is_same.then_some(first)
}

/// A word; 0 past the end of the bytes.
pub fn word(order: RefcountOrder, bytes: &[u8], number: usize) -> u64 {
    let (words, rest) = bytes.as_chunks();
    let mut word = [0; 8];
    match words.get(number) {
        Some(whole) => word = *whole,
        None if number == words.len() => word[..rest.len()].copy_from_slice(rest),
        None => {}
    }
    swapped(order, u64::from_le_bytes(word))
}

/// Writes a word, or as much of it as there is room for.
fn store(order: RefcountOrder, word: u64, bytes: &mut [u8]) {
    bytes.copy_from_slice(&swapped(order, word).to_le_bytes()[..bytes.len()]);
}

/// A word read or to be written as little-endian, with the bytes of each refcount in the other order.
const fn swapped(order: RefcountOrder, word: u64) -> u64 {
    const LOW_BYTES: u64 = 0x00ff_00ff_00ff_00ff;
    match order.get() {
        0..=3 => word,
        4 => (word & LOW_BYTES) << 8 | (word >> 8) & LOW_BYTES,
        5 => word.swap_bytes().rotate_left(32),
        _ => word.swap_bytes(),
    }
}

/// The lowest bit of each refcount of a word.
const fn lowest_bits(order: RefcountOrder) -> u64 {
    u64::MAX / order.max_refcount()
}

/// In which word a refcount is, and how far from its lowest bit.
const fn position(order: RefcountOrder, index: usize) -> (usize, u32) {
    let per_word_bits = 6 - order.get();
    let in_word = index & ((1 << per_word_bits) - 1);
    (index >> per_word_bits, (in_word << order.get()) as u32)
}

#[cfg(test)]
mod tests;
