//! Refcounts in a refblock's bytes (specification, "Refcount block entry"): widths below 8 bits
//! fill a byte from its low bits up, wider ones are big-endian.

use crate::geometry::RefcountOrder;

/// Refcounts that are decoded before anybody looks at them.
const BLOCK: usize = 64;

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

/// Sets the refcount at `index` to `value`, or to the maximum of the width if that is less; nothing
/// past the end.
pub fn set(order: RefcountOrder, block: &mut [u8], index: usize, value: u64) {
    let value = value.min(order.max_refcount());
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

/// The last `N` bytes of a big-endian number.
pub fn to_bytes<const N: usize>(value: u64) -> [u8; N] {
    std::array::from_fn(|index| (value >> (8 * (N - 1 - index))) as u8)
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

/// The last index whose refcount is not 0.
pub fn last_used(order: RefcountOrder, block: &[u8]) -> Option<usize> {
    let byte = block.iter().rposition(|byte| *byte != 0)?;
    let (first, past) = if order.get() < 3 {
        let per_byte_bits = 3 - order.get();
        (byte << per_byte_bits, (byte + 1) << per_byte_bits)
    } else {
        let index = byte >> (order.get() - 3);
        (index, index + 1)
    };
    (first..past)
        .rev()
        .find(|index| get(order, block, *index) != 0)
}

/// The first index from `from` on whose refcount is above `value`, and that refcount.
pub fn find_above(
    order: RefcountOrder,
    block: &[u8],
    from: usize,
    value: u64,
) -> Option<(usize, u64)> {
    if value >= order.max_refcount() {
        return None;
    }
    let entries = block.len() * 8 / order.bits() as usize;
    let mut counts = [0; BLOCK];
    (from..entries).step_by(BLOCK).find_map(|first| {
        decode(order, block, first, &mut counts);
        if counts
            .iter()
            .fold(0, |highest, count| (*count).max(highest))
            <= value
        {
            return None;
        }
        let position = counts.iter().position(|count| *count > value)?;
        Some((first + position, counts[position]))
    })
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
    let byte = first_byte + position(block.get(first_byte..)?, has)?;
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
    position(entries, |bytes| (*bytes == [0; N]) == zero)
}

/// The position of the first that is wanted. Blocks without one are passed over whole, looked at
/// without a branch for each.
fn position<T>(entries: &[T], is_wanted: impl Fn(&T) -> bool) -> Option<usize> {
    let (blocks, _) = entries.as_chunks::<32>();
    let lacks = |block: &&[T; 32]| {
        let wanted = block.iter().map(|entry| u8::from(is_wanted(entry)));
        wanted.fold(0, |any, wanted| any | wanted) == 0
    };
    let passed = blocks.iter().take_while(lacks).count() * 32;
    Some(passed + entries[passed..].iter().position(is_wanted)?)
}

#[cfg(test)]
mod tests;
