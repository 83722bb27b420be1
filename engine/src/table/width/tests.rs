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
