//! Refcounts wider than a byte, held in a byte each for as long as they fit: an eighth of the memory
//! for 64-bit refcounts, and as much less to touch while counting. Comparing with a refblock widens
//! them on the way, which costs less than the memory does.

use super::width::{Added, Piece};
use crate::geometry::{Geometry, RefcountOrder};

/// Which [`super::width`] reads these bytes with.
pub const ORDER: RefcountOrder = RefcountOrder::BYTE;

/// Counts that are widened and compared before anybody looks at the result.
const BLOCK: usize = 64;

/// Whether counts of this width are held so.
pub const fn holds(order: RefcountOrder) -> bool {
    order.get() > ORDER.get()
}

/// Adds `times` to each count of a run; `None`, and nothing added, if one would not fit a byte.
pub fn add_run(run: &mut [u8], times: u64) -> Option<Added> {
    let highest = run.iter().fold(0, |highest, count| highest.max(*count));
    let times = u8::try_from(times).ok()?;
    highest.checked_add(times)?;
    for count in run {
        *count += times;
    }
    Some(Added {
        left_over: 0,
        shared: highest > 0 || times > 1,
    })
}

/// The same for each of many runs, up to the first that would not fit; says how many did.
pub fn add_pieces(
    geometry: &Geometry,
    counts: &mut [u8],
    pieces: &[Piece],
    times: u64,
) -> (usize, Added) {
    let bits = geometry.refblock_bits();
    let mut shared = false;
    let mut fits = |piece: &&Piece| {
        let run = counts.get_mut(piece.range(bits)).unwrap_or_default();
        // Clusters that are not side by side are runs of one.
        if let [count] = run {
            let sum = times.saturating_add(u64::from(*count));
            if sum <= ORDER.max_refcount() {
                *count = sum as u8;
                shared |= sum > 1;
                return true;
            }
            return false;
        }
        let added = add_run(run, times);
        shared |= added.is_some_and(|added| added.shared);
        added.is_some()
    };
    let done = pieces.iter().take_while(&mut fits).count();
    let added = Added {
        left_over: 0,
        shared,
    };
    (done, added)
}

/// Adds `times` to the count at each index, up to the first that would not fit; says how many did.
pub fn add_hits(counts: &mut [u8], hits: &[u32], times: u64) -> (usize, Added) {
    let mut before = 0;
    let mut fits = |index: &&u32| {
        // The index is within the range of the refblock, which these are the counts of.
        let count = &mut counts[**index as usize];
        let sum = times.saturating_add(u64::from(*count));
        if sum > ORDER.max_refcount() {
            return false;
        }
        before |= *count;
        *count = sum as u8;
        true
    };
    let done = hits.iter().take_while(&mut fits).count();
    let added = Added {
        left_over: 0,
        shared: before > 0 || times > 1,
    };
    (done, added)
}

/// Writes the counts as a refblock has them.
pub fn widen(order: RefcountOrder, counts: &[u8], refblock: &mut [u8]) {
    match order.get() {
        4 => widen_to::<2>(counts, refblock),
        5 => widen_to::<4>(counts, refblock),
        _ => widen_to::<8>(counts, refblock),
    }
}

/// Whether a refblock has these counts.
pub fn equals(order: RefcountOrder, counts: &[u8], refblock: &[u8]) -> bool {
    match order.get() {
        4 => are_equal(counts, refblock, |bytes, count| {
            u16::from_ne_bytes(bytes) ^ u16::from(count).to_be() == 0
        }),
        5 => are_equal(counts, refblock, |bytes, count| {
            u32::from_ne_bytes(bytes) ^ u32::from(count).to_be() == 0
        }),
        _ => are_equal(counts, refblock, |bytes, count| {
            u64::from_ne_bytes(bytes) ^ u64::from(count).to_be() == 0
        }),
    }
}

fn widen_to<const N: usize>(counts: &[u8], refblock: &mut [u8]) {
    for (bytes, count) in refblock.as_chunks_mut::<N>().0.iter_mut().zip(counts) {
        *bytes = [0; N];
        bytes[N - 1] = *count;
    }
}

/// Whether there are as many refcounts as counts, and each pair is the same.
fn are_equal<const N: usize>(
    counts: &[u8],
    refblock: &[u8],
    same: impl Fn([u8; N], u8) -> bool,
) -> bool {
    let refcounts = refblock.as_chunks::<N>().0;
    let blocks = refcounts.chunks(BLOCK).zip(counts.chunks(BLOCK));
    refcounts.len() == counts.len()
        && blocks.into_iter().all(|(refcounts, counts)| {
            let pairs = refcounts.iter().zip(counts);
            pairs.fold(true, |all, (bytes, count)| all & same(*bytes, *count))
        })
}
