//! Refcounts in a refblock's bytes (specification, "Refcount block entry"): widths below 8 bits
//! fill a byte from its low bits up, wider ones are big-endian.

use crate::geometry::RefcountOrder;

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
    if count > 1 && times <= order.max_refcount() && fill_if_zero(order, block, first, count, times)
    {
        return Added {
            left_over: 0,
            shared: times > 1,
        };
    }
    let mut added = Added::default();
    for index in first..first + count {
        let before = get(order, block, index);
        let after = before.saturating_add(times).min(order.max_refcount());
        set(order, block, index, after);
        added.note(before, after, times);
    }
    added
}

/// Sets refcounts that are all 0 to `value`; whether they were.
fn fill_if_zero(
    order: RefcountOrder,
    block: &mut [u8],
    first: usize,
    count: usize,
    value: u64,
) -> bool {
    match order.get() {
        0..=2 => fill_bits_if_zero(order, block, first, count, value),
        3 => fill(
            run_of::<1>(block, first, count),
            (value as u8).to_be_bytes(),
        ),
        4 => fill(
            run_of::<2>(block, first, count),
            (value as u16).to_be_bytes(),
        ),
        5 => fill(
            run_of::<4>(block, first, count),
            (value as u32).to_be_bytes(),
        ),
        _ => fill(run_of::<8>(block, first, count), value.to_be_bytes()),
    }
}

fn fill<const N: usize>(run: &mut [[u8; N]], value: [u8; N]) -> bool {
    let free = is_zero(run.as_flattened());
    if free {
        run.fill(value);
    }
    free
}

/// The same for widths below 8 bits: whole bytes at once, what is left at both ends one by one.
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
mod tests {
    use super::*;

    fn orders() -> impl Iterator<Item = RefcountOrder> {
        (0..=6).filter_map(RefcountOrder::new)
    }

    #[test]
    fn sub_byte_widths_fill_a_byte_from_its_low_bits_up() {
        let order = |order| RefcountOrder::new(order).expect("at most 6");
        let mut block = [0; 2];
        set(order(0), &mut block, 9, 1);
        assert_eq!(block, [0, 0b10]);
        set(order(1), &mut block, 3, 2);
        assert_eq!(block, [0b1000_0000, 0b10]);
        set(order(2), &mut block, 0, 0xf);
        assert_eq!(block, [0b1000_1111, 0b10]);
    }

    #[test]
    fn wide_widths_are_big_endian() {
        let order = |order| RefcountOrder::new(order).expect("at most 6");
        let mut block = [0; 16];
        set(order(4), &mut block, 1, 0x0102);
        set(order(5), &mut block, 1, 0x0304_0506);
        set(order(6), &mut block, 1, 0x0708_090a_0b0c_0d0e);
        assert_eq!(block, [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
    }

    #[test]
    fn every_width_returns_what_was_set_and_leaves_its_neighbours_alone() {
        for order in orders() {
            let mut block = [0; 32];
            let entries = block.len() * 8 / order.bits() as usize;
            for index in 0..entries {
                set(order, &mut block, index, order.max_refcount());
                assert_eq!(get(order, &block, index), order.max_refcount());
                set(order, &mut block, index, u64::from(index % 2 == 1));
            }
            for index in 0..entries {
                assert_eq!(
                    get(order, &block, index),
                    (index % 2) as u64,
                    "{order:?} {index}"
                );
            }
            assert_eq!(get(order, &block, entries), 0);
        }
    }

    #[test]
    fn adding_to_a_run_stops_at_the_maximum_and_says_what_was_left_over() {
        for order in orders() {
            let mut block = [0; 32];
            set(order, &mut block, 1, order.max_refcount());
            let added = add_run(order, &mut block, 0, 3, 1);
            assert_eq!((added.left_over, added.shared), (1, true), "{order:?}");
            let counts: Vec<u64> = (0..4).map(|index| get(order, &block, index)).collect();
            assert_eq!(counts, [1, order.max_refcount(), 1, 0], "{order:?}");
            if order < RefcountOrder::MAX {
                let more = order.max_refcount() + 4;
                let added = add_run(order, &mut block, 2, 2, more);
                assert_eq!(added.left_over, 5 + 4, "{order:?}");
                assert_eq!(get(order, &block, 3), order.max_refcount());
            }
        }
    }

    #[test]
    fn adding_to_a_run_is_adding_to_each_of_its_refcounts() {
        for order in orders() {
            let entries = 128 * 8 / order.bits() as usize;
            for (first, count) in [(0, entries), (1, entries - 2), (3, 7), (5, 1), (9, 50)] {
                let count = count.min(entries - first);
                let mut block = [0; 128];
                for times in [1, 2] {
                    let mut expected = block;
                    let mut left_over = 0;
                    for index in first..first + count {
                        let sum = get(order, &expected, index) + times;
                        let kept = sum.min(order.max_refcount());
                        set(order, &mut expected, index, kept);
                        left_over += sum - kept;
                    }
                    let shared = times > 1;
                    let added = add_run(order, &mut block, first, count, times);
                    assert_eq!(
                        added,
                        Added { left_over, shared },
                        "{order:?} {first} {count}"
                    );
                    assert_eq!(block, expected, "{order:?} {first} {count}");
                }
            }
        }
    }

    #[test]
    fn finding_agrees_with_looking_at_each_refcount() {
        for order in orders() {
            let mut block = [0; 16];
            let entries = block.len() * 8 / order.bits() as usize;
            for index in (0..entries).filter(|index| index % 5 == 1 || index % 7 < 3) {
                set(order, &mut block, index, 1);
            }
            for from in 0..=entries {
                for zero in [false, true] {
                    let expected =
                        (from..entries).find(|index| (get(order, &block, *index) == 0) == zero);
                    assert_eq!(
                        find(order, &block, from, zero),
                        expected,
                        "{order:?} {from}"
                    );
                }
            }
        }
    }
}
