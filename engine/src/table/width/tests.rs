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
fn the_last_used_and_those_above_a_value_are_those_of_each_refcount() {
    for order in orders() {
        let mut block = [0; 128];
        let entries = block.len() * 8 / order.bits() as usize;
        assert_eq!(last_used(order, &block), None);
        for index in [0, 1, 5, entries / 2, entries - 3] {
            set(order, &mut block, index, 1 + index as u64 % 4);
            assert_eq!(last_used(order, &block), Some(index), "{order:?}");
        }
        for (from, value) in (0..=entries).flat_map(|from| (0..4).map(move |value| (from, value))) {
            let counts = (from..entries).map(|index| (index, get(order, &block, index)));
            let expected = counts.into_iter().find(|(_, count)| *count > value);
            assert_eq!(
                find_above(order, &block, from, value),
                expected,
                "{order:?}"
            );
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
