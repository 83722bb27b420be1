//! Refcounts of every width, one by one and in runs.

use super::*;

fn orders() -> impl Iterator<Item = RefcountOrder> {
    (0..=6).filter_map(RefcountOrder::new)
}

#[test]
fn narrow_widths_fill_a_byte_from_its_low_bits_up_and_wide_ones_are_big_endian() {
    let bytes = |order, index, value| {
        let mut bytes = [0; 16];
        set(
            RefcountOrder::new(order).expect("at most 6"),
            &mut bytes,
            index,
            value,
        );
        u128::from_be_bytes(bytes)
    };
    assert_eq!(bytes(0, 9, 1), 0b10 << 112);
    assert_eq!(bytes(1, 3, 2), 0b1000_0000 << 120);
    assert_eq!(bytes(2, 6, 0xf), 0xf << 96);
    assert_eq!(bytes(3, 2, 0x12), 0x12 << 104);
    assert_eq!(bytes(4, 1, 0x0102), 0x0102 << 96);
    assert_eq!(bytes(5, 1, 0x0304_0506), 0x0304_0506 << 64);
    assert_eq!(bytes(6, 1, 0x0708_090a_0b0c_0d0e), 0x0708_090a_0b0c_0d0e);
}

#[test]
fn a_block_is_what_was_set_one_by_one_cut_to_the_maximum_and_to_its_bytes() {
    for order in orders() {
        let counts = std::array::from_fn(|index| [u64::MAX, 0, 1, index as u64][index % 4]);
        let length = block_bytes(order);
        // As much as there is, and parts of words.
        for length in [length, length / 2, 4.min(length), 1, 0] {
            // None is cut off.
            let length = length - length % (order.bits() as usize).div_ceil(8);
            let there = length * 8 / order.bits() as usize;
            let mut bytes = vec![0; length];
            for (index, count) in counts.into_iter().enumerate() {
                for value in [u64::MAX, count] {
                    set(order, &mut bytes, index, value);
                }
            }
            let refcounts = counts.map(|count| count.min(order.max_refcount()));
            let expected =
                std::array::from_fn(|index| if index < there { refcounts[index] } else { 0 });
            let all = 0..BLOCK;
            assert!(all.map(|index| get(order, &bytes, index)).eq(expected));
            assert_eq!(decode(order, &bytes), expected, "{order:?} {length}");
            let mut again = vec![7; length];
            encode(order, &counts, &mut again);
            assert_eq!(again, bytes, "{order:?} {length}");
        }
    }
}

#[test]
fn adding_to_a_run_is_adding_to_each_up_to_a_word_in_which_one_does_not_fit() {
    for order in orders() {
        let max = order.max_refcount();
        let runs = [0..64, 1..60, 30..40, 63..64, 5..6, 0..9, 4..4];
        let all_times = [1, 2, 3, max - 1, max, max.saturating_add(1)];
        let cases = runs
            .iter()
            .flat_map(|run| all_times.map(|times| (run, times)));
        for ((run, times), full) in cases.flat_map(|case| [0, 5, 39, 63].map(|full| (case, full))) {
            let mut before = vec![0; 8 * order.bits() as usize];
            set(order, &mut before, 7, 1);
            set(order, &mut before, full, max);
            let sum = |index| get(order, &before, index).saturating_add(times);
            let mut after = before.clone();
            let past = add(order, &mut after, run.clone(), times);
            let end = (past | (64 / order.bits() as usize - 1)) + 1;
            let does_not_fit = |index| sum(index) > max;
            assert!(
                past == run.end || (past..end.min(run.end)).any(does_not_fit),
                "{order:?}"
            );
            let added_up_to = |past: usize| {
                let mut expected = before.clone();
                (run.start..past).for_each(|index| set(order, &mut expected, index, sum(index)));
                expected
            };
            assert_eq!(after, added_up_to(past), "{order:?} {run:?} {times}");
            let mut after = before.clone();
            let past = run.start + add_each(order, &mut after, run.clone(), times);
            assert_eq!(after, added_up_to(past), "{order:?} {run:?} {times}");
            let stops_early = order != RefcountOrder::BYTE && (order.get(), times) != (0, 1);
            assert!(past == run.end || stops_early || does_not_fit(past));
        }
    }
}
