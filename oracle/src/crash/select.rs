//! Which of the possible outcomes of a power cut are looked at: all of them where they are few,
//! telling ones and random ones where they are many. A selection has a choice for each item.

use std::collections::HashSet;
use std::ops::ControlFlow;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Limits;
use super::volatile::Item;

/// Called for each selection until it has seen enough.
pub(super) type Visit<'v, B> = &'v mut dyn FnMut(&[usize]) -> ControlFlow<B>;

/// Visits selections, no one twice, and not the one in which nothing was kept.
pub(super) fn each<B>(items: &[&Item], limits: &Limits, visit: Visit<'_, B>) -> ControlFlow<B> {
    if fits(items, limits.exhaustive_bits) {
        return all(items, visit);
    }
    let mut seen = HashSet::from([vec![0; items.len()]]);
    let mut once = |selection: Vec<usize>| {
        if seen.contains(&selection) {
            return ControlFlow::Continue(());
        }
        visit(&selection)?;
        seen.insert(selection);
        ControlFlow::Continue(())
    };
    let live: Vec<usize> = items.iter().map(|item| item.live).collect();
    once(live.clone())?;
    in_order(items, limits, &mut once)?;
    for position in spread(items.len(), limits.samples) {
        let mut one_lost = live.clone();
        one_lost[position] = 0;
        once(one_lost)?;
        let mut one_kept = vec![0; items.len()];
        one_kept[position] = live[position];
        once(one_kept)?;
    }
    for seed in 0..u64::from(limits.samples) {
        once(random(items, limits.seed.wrapping_add(seed)))?;
    }
    ControlFlow::Continue(())
}

/// The selection that a seed stands for: 0 keeps nothing, `u64::MAX` what programs read.
pub(super) fn random(items: &[&Item], seed: u64) -> Vec<usize> {
    match seed {
        0 => vec![0; items.len()],
        u64::MAX => items.iter().map(|item| item.live).collect(),
        seed => {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let choose = |item: &&Item| rng.random_range(0..item.choices());
            items.iter().map(choose).collect()
        }
    }
}

/// Whether all selections together are at most 2^bits.
fn fits(items: &[&Item], bits: u32) -> bool {
    let mut choices = items.iter().map(|item| item.choices());
    let product = choices.try_fold(1_usize, usize::checked_mul);
    product.is_some_and(|product| product <= 1 << bits)
}

/// Counts through all selections but the first.
fn all<B>(items: &[&Item], visit: Visit<'_, B>) -> ControlFlow<B> {
    let mut selection = vec![0; items.len()];
    loop {
        let mut positions = items.iter().zip(&mut selection);
        let carried = positions.all(|(item, choice)| {
            *choice = (*choice + 1) % item.choices();
            *choice == 0
        });
        if carried {
            return ControlFlow::Continue(());
        }
        visit(&selection)?;
    }
}

/// Everything up to a write reached the disk and nothing after it; and the same with only the
/// first half of that write's sectors.
fn in_order<B>(
    items: &[&Item],
    limits: &Limits,
    once: &mut dyn FnMut(Vec<usize>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let mut events: Vec<usize> = items.iter().flat_map(|item| item.events()).collect();
    events.sort_unstable();
    events.dedup();
    for position in spread(events.len(), limits.samples) {
        let event = events[position];
        let done: Vec<usize> = items.iter().map(|item| item.as_of(event)).collect();
        let of_event = |item: &usize| items[*item].events().any(|of| of == event);
        let of_event: Vec<usize> = (0..items.len()).filter(of_event).collect();
        let mut torn = done.clone();
        for &item in &of_event[of_event.len() / 2..] {
            torn[item] = event
                .checked_sub(1)
                .map_or(0, |last| items[item].as_of(last));
        }
        once(torn)?;
        once(done)?;
    }
    ControlFlow::Continue(())
}

/// At most `count` of the positions below `length`, evenly spread, first and last among them.
fn spread(length: usize, count: u32) -> impl Iterator<Item = usize> {
    let taken = length.min(count as usize);
    (0..taken).map(move |index| index * (length - 1) / (taken - 1).max(1))
}
