//! Adding to a run, to pieces and to hits is adding to each count, as long as all of them fit.

use super::*;
use crate::table::width::find_above;

fn orders() -> impl Iterator<Item = RefcountOrder> {
    (0..=6).filter_map(RefcountOrder::new)
}

/// Two refblocks' worth of counts, of which one stands at the maximum and one is 1.
fn block(order: RefcountOrder, full: usize, one: usize) -> Vec<u8> {
    let mut block = vec![0; 128];
    set(order, &mut block, one, 1);
    set(order, &mut block, full, order.max_refcount());
    block
}

#[test]
fn adding_to_a_run_is_adding_to_each_of_its_counts_if_all_fit() {
    for order in orders() {
        let max = order.max_refcount();
        for run in [0..16, 1..14, 3..10, 5..6, 0..9] {
            for (full, one) in [(15, 15), (2, 3), (5, 9), (0, 1)] {
                for times in [1, 2, 3, max - 1, max, max.saturating_add(1)] {
                    let before = block(order, full, one);
                    let sum = |index| get(order, &before, index).checked_add(times);
                    let fits = |sum: Option<u64>| sum.is_some_and(|sum| sum <= max);
                    let all_fit = run.clone().all(|index| fits(sum(index)));
                    let mut after = before.clone();
                    let added = add_run(order, &mut after, run.clone(), times);
                    let mut expected = before.clone();
                    // The widest has nothing wider to go to.
                    if all_fit || order == RefcountOrder::MAX {
                        for index in run.clone() {
                            let sum = sum(index).unwrap_or(u64::MAX);
                            set(order, &mut expected, index, sum);
                        }
                        let shared = find_above(order, &expected[..], run.start, 1)
                            .is_some_and(|(index, _)| run.contains(&index));
                        assert!(added.is_some_and(|added| added.shared || !shared));
                    } else {
                        assert_eq!(added, None, "{order:?} {run:?} {times}");
                    }
                    assert_eq!(after, expected, "{order:?} {run:?} {times}");
                }
            }
        }
    }
}

#[test]
fn pieces_and_hits_are_added_up_to_the_first_that_does_not_fit() {
    for order in orders().filter(|order| *order < RefcountOrder::MAX) {
        let indices = [1, 9, 4, 4, 11, 2];
        // The cluster at the maximum is the fifth; with one bit, one of the fourth is too many.
        let fitting = if order.max_refcount() == 1 { 3 } else { 4 };
        let mut expected = block(order, 11, 15);
        for index in &indices[..fitting] {
            let count = get(order, &expected, *index);
            set(order, &mut expected, *index, count + 1);
        }
        let mut pieced = block(order, 11, 15);
        let pieces = indices.map(|index| Piece {
            first: 0x30 + index as u64,
            count: 1,
        });
        let added = add_pieces(order, 4, &mut pieced, &pieces, 1);
        assert_eq!((added.0, &pieced), (fitting, &expected), "{order:?}");
        assert_eq!(added.1.shared, fitting == 4, "{order:?}");
        let mut hit = block(order, 11, 15);
        let hits = indices.map(|index| index as u32);
        let added = add_hits(order, &mut hit, &hits, 1);
        assert_eq!((added.0, &hit), (fitting, &expected), "{order:?}");
        assert_eq!(added.1.shared, fitting == 4, "{order:?}");
    }
}

#[test]
fn only_what_is_above_1_is_shared() {
    for order in orders() {
        let mut counts = vec![0; 128];
        let added = |shared| Some(Added { shared });
        assert_eq!(add_run(order, &mut counts, 0..16, 1), added(false));
        if order.max_refcount() > 1 {
            assert_eq!(add_run(order, &mut counts, 3..4, 1), added(true));
            assert_eq!(add_run(order, &mut [0; 128], 0..16, 2), added(true));
        }
    }
}
