//! Refcounts in a refblock's bytes (specification, "Refcount block entry"): widths below 8 bits
//! fill a byte from its low bits up, wider ones are big-endian.

use std::ops::Range;

use crate::geometry::{Geometry, RefcountOrder};

/// The refcount at `index`; 0 past the end of the block.
pub fn get(order: RefcountOrder, block: &[u8], index: usize) -> u64 {
    match order.get() {
        0..=2 => {
            let per_byte_bits = 3 - order.get();
            let Some(byte) = block.get(index >> per_byte_bits) else {
                return 0;
            };
            u64::from(byte >> sub_byte_shift(order, index)) & order.max_refcount()
        }
        3 => block.get(index).copied().map_or(0, u64::from),
        4 => wide::<2>(block, index).map_or(0, |bytes| u64::from(u16::from_be_bytes(bytes))),
        5 => wide::<4>(block, index).map_or(0, |bytes| u64::from(u32::from_be_bytes(bytes))),
        _ => wide::<8>(block, index).map_or(0, u64::from_be_bytes),
    }
}

/// Fills `counts` with the refcounts from `first` on; 0 past the end of the block.
pub fn decode(order: RefcountOrder, block: &[u8], first: usize, counts: &mut [u64]) {
    match order.get() {
        0..=2 => {
            for (count, index) in counts.iter_mut().zip(first..) {
                *count = get(order, block, index);
            }
        }
        3 => decode_as::<1>(block, first, counts, |bytes| bytes[0].into()),
        4 => decode_as(block, first, counts, |bytes| {
            u16::from_be_bytes(bytes).into()
        }),
        5 => decode_as(block, first, counts, |bytes| {
            u32::from_be_bytes(bytes).into()
        }),
        _ => decode_as(block, first, counts, u64::from_be_bytes),
    }
}

fn decode_as<const N: usize>(
    block: &[u8],
    first: usize,
    counts: &mut [u64],
    value: impl Fn([u8; N]) -> u64,
) {
    let refcounts = block.as_chunks::<N>().0.get(first..).unwrap_or_default();
    let present = refcounts.len().min(counts.len());
    for (count, bytes) in counts.iter_mut().zip(&refcounts[..present]) {
        *count = value(*bytes);
    }
    counts[present..].fill(0);
}

/// Sets the refcount at `index` to `value`, which is cut to the width; nothing past the end.
pub fn set(order: RefcountOrder, block: &mut [u8], index: usize, value: u64) {
    match order.get() {
        0..=2 => {
            let per_byte_bits = 3 - order.get();
            let shift = sub_byte_shift(order, index);
            if let Some(byte) = block.get_mut(index >> per_byte_bits) {
                let mask = (order.max_refcount() as u8) << shift;
                *byte = (*byte & !mask) | (((value as u8) << shift) & mask);
            }
        }
        3 => store(block, index, [value as u8]),
        4 => store(block, index, (value as u16).to_be_bytes()),
        5 => store(block, index, (value as u32).to_be_bytes()),
        _ => store(block, index, value.to_be_bytes()),
    }
}

/// Clusters side by side whose refcounts are in the same refblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The number of the first.
    pub first: u64,
    /// How many clusters.
    pub count: u32,
}

impl Piece {
    /// Where its refcounts are in a refblock of 2^`refblock_bits` refcounts.
    pub const fn range(&self, refblock_bits: u32) -> Range<usize> {
        let first = (self.first & ((1 << refblock_bits) - 1)) as usize;
        first..first + self.count as usize
    }
}

/// What came of adding to refcounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// How much was over the maximum, summed.
    pub left_over: u64,
    /// Whether any of them is above 1 now, or would be but for its width.
    pub shared: bool,
}

impl Added {
    /// Takes note of a refcount that `times` was added to.
    pub const fn note(&mut self, before: u64, after: u64, times: u64) {
        self.left_over = self.left_over.saturating_add(times - (after - before));
        self.shared |= before > 0 || times > 1;
    }

    /// Takes what came of adding to others into account.
    pub const fn join(&mut self, other: Self) {
        self.left_over = self.left_over.saturating_add(other.left_over);
        self.shared |= other.shared;
    }
}

/// Adds `times` to `count` refcounts from `first` on, each stopping at the maximum. The range lies
/// within the block.
pub fn add_run(
    order: RefcountOrder,
    block: &mut [u8],
    first: usize,
    count: usize,
    times: u64,
) -> Added {
    match order.get() {
        0..=2 => add_bits(order, block, first, count, times),
        3 => add(run_of::<1>(block, first, count), times, order),
        4 => add(run_of::<2>(block, first, count), times, order),
        5 => add(run_of::<4>(block, first, count), times, order),
        _ => add(run_of::<8>(block, first, count), times, order),
    }
}

/// The same for each of many runs, which all lie within the block.
pub fn add_pieces(geometry: &Geometry, block: &mut [u8], pieces: &[Piece], times: u64) -> Added {
    let order = geometry.order();
    match order.get() {
        0..=2 => {
            let mut added = Added::default();
            for piece in pieces {
                let range = piece.range(geometry.refblock_bits());
                added.join(add_bits(order, block, range.start, range.len(), times));
            }
            added
        }
        3 => add_each::<1>(block, pieces, times, geometry),
        4 => add_each::<2>(block, pieces, times, geometry),
        5 => add_each::<4>(block, pieces, times, geometry),
        _ => add_each::<8>(block, pieces, times, geometry),
    }
}

fn add_each<const N: usize>(
    block: &mut [u8],
    pieces: &[Piece],
    times: u64,
    geometry: &Geometry,
) -> Added {
    let (order, refblock_bits) = (geometry.order(), geometry.refblock_bits());
    let entries = block.as_chunks_mut::<N>().0;
    let mut added = Added::default();
    for piece in pieces {
        let run = entries.get_mut(piece.range(refblock_bits));
        added.join(add(run.unwrap_or_default(), times, order));
    }
    added
}

/// Runs that are at least this long are nearly always of refcounts that are 0 yet.
const LONG_RUN: usize = 8;

#[inline]
fn add<const N: usize>(run: &mut [[u8; N]], times: u64, order: RefcountOrder) -> Added {
    let max = order.max_refcount();
    let mut added = Added::default();
    if run.len() >= LONG_RUN && times <= max && is_zero(run.as_flattened()) {
        run.fill(to_bytes(times));
        added.shared = times > 1;
        return added;
    }
    for bytes in run {
        let before = bytes
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte));
        let after = before.saturating_add(times).min(max);
        *bytes = to_bytes(after);
        added.note(before, after, times);
    }
    added
}

/// The last `N` bytes of a big-endian number.
fn to_bytes<const N: usize>(value: u64) -> [u8; N] {
    std::array::from_fn(|index| (value >> (8 * (N - 1 - index))) as u8)
}

fn add_bits(
    order: RefcountOrder,
    block: &mut [u8],
    first: usize,
    count: usize,
    times: u64,
) -> Added {
    let mut added = Added::default();
    if count >= LONG_RUN
        && times <= order.max_refcount()
        && fill_bits_if_zero(order, block, first, count, times)
    {
        added.shared = times > 1;
        return added;
    }
    for index in first..first + count {
        let before = get(order, block, index);
        let after = before.saturating_add(times).min(order.max_refcount());
        set(order, block, index, after);
        added.note(before, after, times);
    }
    added
}

/// Sets refcounts that are all 0 to `value`, for widths below 8 bits, and says whether they were:
/// whole bytes at once, what is left at both ends one by one.
fn fill_bits_if_zero(
    order: RefcountOrder,
    block: &mut [u8],
    first: usize,
    count: usize,
    value: u64,
) -> bool {
    let per_byte_bits = 3 - order.get();
    let end = first + count;
    let whole = first.next_multiple_of(1 << per_byte_bits).min(end);
    let past_whole = (end >> per_byte_bits << per_byte_bits).max(whole);
    let bytes = whole >> per_byte_bits..past_whole >> per_byte_bits;
    let mut ends = (first..whole).chain(past_whole..end);
    if !is_zero(&block[bytes.clone()]) || ends.clone().any(|index| get(order, block, index) != 0) {
        return false;
    }
    let pattern = (0..8_u32).step_by(order.bits() as usize);
    let pattern = pattern.fold(0, |byte, shift| byte | ((value as u8) << shift));
    block[bytes].fill(pattern);
    ends.by_ref()
        .for_each(|index| set(order, block, index, value));
    true
}

/// Whether all bytes are 0.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (blocks, rest) = bytes.as_chunks::<64>();
    let zero = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all | byte) == 0;
    blocks.iter().all(|block| zero(block)) && zero(rest)
}

/// How many of `count` refcounts from `first` on are 1. The range lies within the block.
pub fn count_ones(order: RefcountOrder, block: &[u8], first: usize, count: usize) -> u64 {
    match order.get() {
        0..=2 => (first..first + count)
            .filter(|index| get(order, block, *index) == 1)
            .count() as u64,
        3 => equal_to::<1>(block, first, count, 1_u8.to_be_bytes()),
        4 => equal_to::<2>(block, first, count, 1_u16.to_be_bytes()),
        5 => equal_to::<4>(block, first, count, 1_u32.to_be_bytes()),
        _ => equal_to::<8>(block, first, count, 1_u64.to_be_bytes()),
    }
}

/// The first index from `from` on whose refcount is 0 (`zero`) or is not (`!zero`).
pub fn find(order: RefcountOrder, block: &[u8], from: usize, zero: bool) -> Option<usize> {
    let position = match order.get() {
        0..=2 => {
            let entries = block.len() << (3 - order.get());
            return find_sub_byte(order, block, from, entries, zero);
        }
        3 => position_of::<1>(block, from, zero),
        4 => position_of::<2>(block, from, zero),
        5 => position_of::<4>(block, from, zero),
        _ => position_of::<8>(block, from, zero),
    };
    position.map(|position| from + position)
}

fn find_sub_byte(
    order: RefcountOrder,
    block: &[u8],
    from: usize,
    entries: usize,
    zero: bool,
) -> Option<usize> {
    let per_byte_bits = 3 - order.get();
    let first_byte = from.div_ceil(1 << per_byte_bits);
    let is_found = |index: &usize| (get(order, block, *index) == 0) == zero;
    let mut before = from..(first_byte << per_byte_bits).min(entries);
    if let Some(index) = before.find(is_found) {
        return Some(index);
    }
    // A byte that holds only the other kind is passed over whole.
    let has = |byte: &u8| {
        if zero {
            has_zero(order, *byte)
        } else {
            *byte != 0
        }
    };
    let byte = first_byte + block.get(first_byte..)?.iter().position(has)?;
    let first = byte << per_byte_bits;
    (first..first + (1 << per_byte_bits)).find(is_found)
}

/// Whether one of the refcounts in a byte is 0.
const fn has_zero(order: RefcountOrder, byte: u8) -> bool {
    // The lowest bit of each refcount is set when any of its bits is.
    let (any, lowest) = match order.get() {
        0 => (byte, 0xff),
        1 => (byte | byte >> 1, 0x55),
        _ => {
            let pairs = byte | byte >> 1;
            (pairs | pairs >> 2, 0x11)
        }
    };
    any & lowest != lowest
}

const fn sub_byte_shift(order: RefcountOrder, index: usize) -> u32 {
    let per_byte_bits = 3 - order.get();
    ((index & ((1 << per_byte_bits) - 1)) as u32) << order.get()
}

fn wide<const N: usize>(block: &[u8], index: usize) -> Option<[u8; N]> {
    block.as_chunks::<N>().0.get(index).copied()
}

fn store<const N: usize>(block: &mut [u8], index: usize, bytes: [u8; N]) {
    if let Some(slot) = block.as_chunks_mut::<N>().0.get_mut(index) {
        *slot = bytes;
    }
}

fn run_of<const N: usize>(block: &mut [u8], first: usize, count: usize) -> &mut [[u8; N]] {
    block
        .as_chunks_mut::<N>()
        .0
        .get_mut(first..first + count)
        .unwrap_or_default()
}

fn equal_to<const N: usize>(block: &[u8], first: usize, count: usize, value: [u8; N]) -> u64 {
    let run = block
        .as_chunks::<N>()
        .0
        .get(first..first + count)
        .unwrap_or_default();
    run.iter().filter(|bytes| **bytes == value).count() as u64
}

fn position_of<const N: usize>(block: &[u8], from: usize, zero: bool) -> Option<usize> {
    let entries = block.as_chunks::<N>().0.get(from..)?;
    // Blocks without it are passed over whole, compared without a branch for each entry.
    let (blocks, _) = entries.as_chunks::<32>();
    let lacks = |block: &&[[u8; N]; 32]| {
        let found = block
            .iter()
            .map(|bytes| u8::from((*bytes == [0; N]) == zero));
        found.fold(0, |any, found| any | found) == 0
    };
    let passed = blocks.iter().take_while(lacks).count() * 32;
    let mut rest = entries[passed..].iter();
    let position = rest.position(|bytes| (*bytes == [0; N]) == zero)?;
    Some(passed + position)
}

#[cfg(test)]
mod tests;
