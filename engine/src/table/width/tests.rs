//! Refcounts of every width, one by one and in runs.

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
fn what_is_set_is_cut_to_the_maximum() {
    for order in orders() {
        let mut block = [0; 16];
        set(order, &mut block, 1, u64::MAX);
        assert_eq!(get(order, &block, 1), order.max_refcount());
        assert_eq!(
            (get(order, &block, 0), block[15]),
            (0, if order == RefcountOrder::MAX { 0xff } else { 0 })
        );
    }
}

#[test]
fn blocks_are_decoded_and_encoded_as_each_refcount_is() {
    for order in orders() {
        let bytes: Vec<u8> = (0..8 * order.bits())
            .map(|byte| (byte * 37) as u8)
            .collect();
        // As much as there is, and parts of words.
        for length in [bytes.len(), bytes.len() / 2, 4.min(bytes.len()), 1, 0] {
            let bytes = &bytes[..length];
            let counts = decode(order, bytes);
            let each = (0..BLOCK).map(|index| get(order, bytes, index));
            assert!(each.eq(counts), "{order:?} {length}");
            let mut again = vec![7; length];
            encode(order, &counts, &mut again);
            assert_eq!(again, bytes, "{order:?}");
            encode(order, &[u64::MAX; BLOCK], &mut again);
            assert_eq!(again, vec![0xff; length]);
        }
    }
}

#[test]
fn adding_to_a_run_is_adding_to_each_up_to_the_first_that_does_not_fit() {
    for order in orders() {
        let max = order.max_refcount();
        for run in [0..64, 1..60, 30..40, 63..64, 5..6, 0..9, 4..4] {
            for (full, times) in [1, 2, 3, max - 1, max, max.saturating_add(1)]
                .into_iter()
                .flat_map(|times| [0, 5, 39, 63].map(|full| (full, times)))
            {
                let mut bytes = vec![0; 8 * order.bits() as usize];
                set(order, &mut bytes, 7, 1);
                set(order, &mut bytes, full, max);
                let mut expected = bytes.clone();
                let sum = |index| get(order, &bytes, index).saturating_add(times);
                // The widest has nothing wider to go to.
                let fits = |index: &usize| sum(*index) <= max;
                let first = run.clone().find(|index| !fits(index)).unwrap_or(run.end);
                let mut added = bytes.clone();
                let reached = add(order, &mut added, run.clone(), times);
                // Those of a word are added all at once or not at all.
                let word = first >> (6 - order.get()) << (6 - order.get());
                let past = if first == run.end {
                    first
                } else {
                    word.max(run.start)
                };
                for index in run.start..past {
                    set(order, &mut expected, index, sum(index));
                }
                assert_eq!(
                    (reached, &added),
                    (past, &expected),
                    "{order:?} {run:?} {times}"
                );
                if run.len() == 1 && add_one(order, &mut bytes, run.start, times) {
                    assert_eq!(bytes, expected, "{order:?} {run:?} {times}");
                }
            }
        }
    }
}
