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

/// Adds `times` to `count` refcounts from `first` on, each stopping at the maximum. Returns how much
/// was left over, summed. The range lies within the block.
pub fn add_run(
    order: RefcountOrder,
    block: &mut [u8],
    first: usize,
    count: usize,
    times: u64,
) -> u64 {
    match order.get() {
        0..=2 => {
            let mut left_over = 0;
            for index in first..first + count {
                let sum = get(order, block, index).saturating_add(times);
                set(order, block, index, sum.min(order.max_refcount()));
                left_over += sum.saturating_sub(order.max_refcount());
            }
            left_over
        }
        3 => add(run_of::<1>(block, first, count), times, |bytes, times| {
            let sum = u64::from(u8::from_be_bytes(bytes)).saturating_add(times);
            let kept = sum.min(u64::from(u8::MAX));
            ((kept as u8).to_be_bytes(), sum - kept)
        }),
        4 => add(run_of::<2>(block, first, count), times, |bytes, times| {
            let sum = u64::from(u16::from_be_bytes(bytes)).saturating_add(times);
            let kept = sum.min(u64::from(u16::MAX));
            ((kept as u16).to_be_bytes(), sum - kept)
        }),
        5 => add(run_of::<4>(block, first, count), times, |bytes, times| {
            let sum = u64::from(u32::from_be_bytes(bytes)).saturating_add(times);
            let kept = sum.min(u64::from(u32::MAX));
            ((kept as u32).to_be_bytes(), sum - kept)
        }),
        _ => add(run_of::<8>(block, first, count), times, |bytes, times| {
            let before = u64::from_be_bytes(bytes);
            let sum = before.saturating_add(times);
            (sum.to_be_bytes(), times - (sum - before))
        }),
    }
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
        3 => block
            .get(from..)?
            .iter()
            .position(|byte| (*byte == 0) == zero),
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
    // A byte that holds only the other kind is passed over whole.
    let full_of_others = |byte: u8| {
        if zero {
            (0..1 << per_byte_bits)
                .all(|slot| (byte >> (slot << order.get())) & order.max_refcount() as u8 != 0)
        } else {
            byte == 0
        }
    };
    let mut index = from;
    while index < entries {
        let within_byte = index & ((1 << per_byte_bits) - 1);
        if within_byte == 0 && full_of_others(block[index >> per_byte_bits]) {
            index += 1 << per_byte_bits;
        } else if (get(order, block, index) == 0) == zero {
            return Some(index);
        } else {
            index += 1;
        }
    }
    None
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

fn add<const N: usize>(
    run: &mut [[u8; N]],
    times: u64,
    sum_of: impl Fn([u8; N], u64) -> ([u8; N], u64),
) -> u64 {
    let mut left_over = 0;
    for bytes in run {
        let (sum, more) = sum_of(*bytes, times);
        *bytes = sum;
        left_over += more;
    }
    left_over
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
    entries.iter().position(|bytes| (*bytes == [0; N]) == zero)
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
            assert_eq!(add_run(order, &mut block, 0, 3, 1), 1, "{order:?}");
            let counts: Vec<u64> = (0..4).map(|index| get(order, &block, index)).collect();
            assert_eq!(counts, [1, order.max_refcount(), 1, 0], "{order:?}");
            if order < RefcountOrder::MAX {
                let more = order.max_refcount() + 4;
                assert_eq!(add_run(order, &mut block, 2, 2, more), 5 + 4, "{order:?}");
                assert_eq!(get(order, &block, 3), order.max_refcount());
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
