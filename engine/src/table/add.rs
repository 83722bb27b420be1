//! Adding to counts that are held in bytes, in any width, for as long as the sums fit. Where one
//! does not, the counts have to be widened first. Nothing exceeds 64 bits: those stop at their
//! maximum.

use std::ops::Range;

use super::width::{get, is_zero, set, to_bytes};
use crate::geometry::RefcountOrder;

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

/// What came of adding to counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Whether any of them is above 1 now.
    pub shared: bool,
}

impl Added {
    /// Takes what came of adding to others into account.
    pub const fn join(&mut self, other: Self) {
        self.shared |= other.shared;
    }

    /// What came of adding `times` where the highest count was `before`.
    const fn to(before: u64, times: u64) -> Self {
        Self {
            shared: before > 0 || times > 1,
        }
    }
}

/// Adds `times` to each count of a run, which has some and lies within `counts`; `None`, and nothing added, if
/// one would not fit.
pub fn add_run(
    order: RefcountOrder,
    counts: &mut [u8],
    run: Range<usize>,
    times: u64,
) -> Option<Added> {
    match order.get() {
        0..=2 => add_bits(order, counts, run, times),
        3 => add_bytes(counts.get_mut(run).unwrap_or_default(), times),
        4 => add_wide::<2>(counts, run, times),
        5 => add_wide::<4>(counts, run, times),
        _ => add_wide::<8>(counts, run, times),
    }
}

/// The same for each of many runs, up to the first that would not fit; says how many did.
pub fn add_pieces(
    order: RefcountOrder,
    refblock_bits: u32,
    counts: &mut [u8],
    pieces: &[Piece],
    times: u64,
) -> (usize, Added) {
    let ranges = pieces.iter().map(|piece| piece.range(refblock_bits));
    match order.get() {
        0..=2 => add_while(ranges, |run| add_bits(order, counts, run, times)),
        3 => add_while(ranges, |run| {
            let run = counts.get_mut(run).unwrap_or_default();
            // Clusters that are not side by side are runs of one.
            if let [count] = run {
                let sum = times.saturating_add(u64::from(*count));
                *count = u8::try_from(sum).ok()?;
                return Some(Added { shared: sum > 1 });
            }
            add_bytes(run, times)
        }),
        4 => add_while(ranges, |run| add_wide::<2>(counts, run, times)),
        5 => add_while(ranges, |run| add_wide::<4>(counts, run, times)),
        _ => add_while(ranges, |run| add_wide::<8>(counts, run, times)),
    }
}

/// Adds `times` to the count at each index, up to the first that would not fit; says how many did.
pub fn add_hits(
    order: RefcountOrder,
    counts: &mut [u8],
    hits: &[u32],
    times: u64,
) -> (usize, Added) {
    if order == RefcountOrder::BYTE {
        return add_hits_to_bytes(counts, hits, times);
    }
    let runs = hits.iter().map(|index| *index as usize);
    add_while(runs.map(|index| index..index + 1), |run| {
        add_run(order, counts, run, times)
    })
}

fn add_while(
    runs: impl Iterator<Item = Range<usize>>,
    mut add: impl FnMut(Range<usize>) -> Option<Added>,
) -> (usize, Added) {
    let mut sum = Added::default();
    let mut fits = |run: Range<usize>| {
        let added = add(run);
        sum.join(added.unwrap_or_default());
        added.is_some()
    };
    let mut done = 0;
    for run in runs {
        if !fits(run) {
            break;
        }
        done += 1;
    }
    (done, sum)
}

fn add_hits_to_bytes(counts: &mut [u8], hits: &[u32], times: u64) -> (usize, Added) {
    let mut before = 0;
    let mut fits = |index: &&u32| {
        // The index is within the range of the refblock, which these are the counts of.
        let count = &mut counts[**index as usize];
        let sum = times.saturating_add(u64::from(*count));
        if sum > RefcountOrder::BYTE.max_refcount() {
            return false;
        }
        before |= *count;
        *count = sum as u8;
        true
    };
    let done = hits.iter().take_while(&mut fits).count();
    if done == 0 {
        return (0, Added::default());
    }
    (done, Added::to(before.into(), times))
}

fn add_bytes(run: &mut [u8], times: u64) -> Option<Added> {
    let highest = run.iter().fold(0, |highest, count| highest.max(*count));
    let times = u8::try_from(times).ok()?;
    highest.checked_add(times)?;
    for count in run {
        *count += times;
    }
    Some(Added::to(highest.into(), times.into()))
}

/// Runs that are at least this long are nearly always of counts that are 0 yet.
const LONG_RUN: usize = 8;

#[inline]
fn add_wide<const N: usize>(counts: &mut [u8], run: Range<usize>, times: u64) -> Option<Added> {
    let max = u64::MAX >> (64 - 8 * N);
    let run = counts.as_chunks_mut::<N>().0.get_mut(run);
    let run = run.unwrap_or_default();
    if run.len() >= LONG_RUN && times <= max && is_zero(run.as_flattened()) {
        run.fill(to_bytes(times));
        return Some(Added::to(0, times));
    }
    let value = |bytes: &[u8; N]| {
        let bytes = bytes.iter();
        bytes.fold(0, |value, byte| value << 8 | u64::from(*byte))
    };
    let highest = run
        .iter()
        .fold(0, |highest, count| value(count).max(highest));
    if highest.saturating_add(times) > max {
        return None;
    }
    for count in run {
        *count = to_bytes(value(count).saturating_add(times));
    }
    Some(Added::to(highest, times))
}

fn add_bits(
    order: RefcountOrder,
    counts: &mut [u8],
    run: Range<usize>,
    times: u64,
) -> Option<Added> {
    let room = order.max_refcount().checked_sub(times)?;
    if run.len() >= LONG_RUN && fill_bits_if_zero(order, counts, run.clone(), times) {
        return Some(Added::to(0, times));
    }
    let before = |index| get(order, counts, index);
    let highest = run.clone().map(before).max().unwrap_or(0);
    if highest > room {
        return None;
    }
    for index in run {
        let before = get(order, counts, index);
        set(order, counts, index, before + times);
    }
    Some(Added::to(highest, times))
}

/// Sets counts that are all 0 to `value`, for widths below 8 bits, and says whether they were:
/// whole bytes at once, what is left at both ends one by one.
fn fill_bits_if_zero(
    order: RefcountOrder,
    counts: &mut [u8],
    run: Range<usize>,
    value: u64,
) -> bool {
    let per_byte_bits = 3 - order.get();
    let whole = run.start.next_multiple_of(1 << per_byte_bits).min(run.end);
    let past_whole = (run.end >> per_byte_bits << per_byte_bits).max(whole);
    let bytes = whole >> per_byte_bits..past_whole >> per_byte_bits;
    let mut ends = (run.start..whole).chain(past_whole..run.end);
    if !is_zero(&counts[bytes.clone()]) || ends.clone().any(|index| get(order, counts, index) != 0)
    {
        return false;
    }
    let pattern = (0..8_u32).step_by(order.bits() as usize);
    let pattern = pattern.fold(0, |byte, shift| byte | ((value as u8) << shift));
    counts[bytes].fill(pattern);
    ends.by_ref()
        .for_each(|index| set(order, counts, index, value));
    true
}

#[cfg(test)]
mod tests;
