//! Few counts, as a list of those that are not 0: each with its index, in ascending order.

use std::ops::Range;

use super::OutOfMemory;
use super::add::Added;
use super::width;
use crate::geometry::{Geometry, RefcountOrder};

/// An index and its count.
pub type Entry = (u32, u64);

/// How many times as much memory the packed counts may take up. Adding to a long list in no order
/// moves half of it each time; adding to packed counts moves nothing.
const FACTOR: usize = 8;

/// Whether a list of so many entries is much shorter than the refblock.
pub fn fits(geometry: &Geometry, entries: usize) -> bool {
    entries.saturating_mul(size_of::<Entry>() * FACTOR) < geometry.refblock_bytes()
}

/// Where an index is, or would be.
pub fn position(list: &[Entry], index: usize) -> Result<usize, usize> {
    list.binary_search_by_key(&(index as u32), |entry| entry.0)
}

/// Where the indices from `from` on begin.
fn start(list: &[Entry], from: usize) -> usize {
    list.partition_point(|entry| (entry.0 as usize) < from)
}

/// Puts an entry where [`position`] says that it would be.
pub fn insert(
    list: &mut Vec<Entry>,
    position: usize,
    index: usize,
    count: u64,
) -> Result<(), OutOfMemory> {
    list.try_reserve(1).map_err(|_| OutOfMemory)?;
    list.insert(position, (index as u32, count));
    Ok(())
}

/// Adds `times`, which is not 0, to a run of counts, each stopping at the end of 64 bits.
pub fn add_run(list: &mut Vec<Entry>, run: Range<usize>, times: u64) -> Result<Added, OutOfMemory> {
    let mut added = Added { shared: times > 1 };
    for index in run {
        match position(list, index) {
            Ok(position) => {
                list[position].1 = list[position].1.saturating_add(times);
                added.shared = true;
            }
            Err(position) => insert(list, position, index, times)?,
        }
    }
    Ok(added)
}

/// The first index from `from` on, of `end`, whose count is 0 (`zero`) or is not.
pub fn find(list: &[Entry], from: usize, zero: bool, end: usize) -> Option<usize> {
    let rest = &list[start(list, from)..];
    if !zero {
        return rest.first().map(|entry| entry.0 as usize);
    }
    let pairs = rest.iter().zip(from..);
    let listed = pairs.take_while(|(entry, index)| entry.0 as usize == *index);
    let index = from + listed.count();
    (index < end).then_some(index)
}

/// The first index from `from` on whose count is above `value`, and that count.
pub fn find_above(list: &[Entry], from: usize, value: u64) -> Option<(usize, u64)> {
    let rest = &list[start(list, from)..];
    let (index, count) = rest.iter().find(|entry| entry.1 > value)?;
    Some((*index as usize, *count))
}

/// How many of a run of counts are 1.
pub fn count_ones(list: &[Entry], run: &Range<usize>) -> u64 {
    let rest = list[start(list, run.start)..].iter();
    let inside = rest.take_while(|entry| (entry.0 as usize) < run.end);
    inside.filter(|entry| entry.1 == 1).count() as u64
}

/// Fills `counts` from the index `first` on.
pub fn decode(list: &[Entry], first: usize, counts: &mut [u64]) {
    counts.fill(0);
    for (index, value) in &list[start(list, first)..] {
        match counts.get_mut(*index as usize - first) {
            Some(count) => *count = *value,
            None => break,
        }
    }
}

/// Writes the counts as refcounts, each cut to what fits; all others become 0.
pub fn encode(list: &[Entry], order: RefcountOrder, refcounts: &mut [u8]) {
    refcounts.fill(0);
    for (index, value) in list {
        width::set(order, refcounts, *index as usize, *value);
    }
}

/// Whether refcounts are what [`encode`] writes.
pub fn equals(list: &[Entry], order: RefcountOrder, refcounts: &[u8]) -> bool {
    let mut from = 0;
    let listed = list.iter().all(|(index, value)| {
        let index = *index as usize;
        let next = width::find(order, refcounts, from, false);
        from = index + 1;
        let expected = (*value).min(order.max_refcount());
        next == Some(index) && width::get(order, refcounts, index) == expected
    });
    listed && width::find(order, refcounts, from, false).is_none()
}
