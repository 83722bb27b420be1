//! `bounded-cost`: each cluster of the new structures is written once, and once more where the old
//! snapshot table is released after a new one has been switched to; and at most [`FLUSHES_MAX`]
//! flushes are made.

use super::Verdict;
use super::reading::Reading;
use crate::disk::Event;
use crate::run::{Before, Run};

/// One after each of these, at most: replaced table entries, a new snapshot table, new structures,
/// the header's pointer to them, its pointer to the snapshot table, lowered refcounts, COPIED bits,
/// the header's flags.
pub const FLUSHES_MAX: usize = 8;

/// Of a repair that built the structures anew.
#[must_use]
pub fn judge(before: &Before, run: &Run) -> Verdict {
    if run.outcome.is_err() {
        return Verdict::NotApplicable;
    }
    let after = match run.reading(before) {
        Ok(after) => after,
        Err(failure) => return Verdict::Fails(failure),
    };
    let flush = |event: &&Event| matches!(event, Event::Flush);
    let flushes = run.trace.events().iter().filter(flush).count();
    if flushes > FLUSHES_MAX {
        return Verdict::fails(format!("{flushes} flushes; {FLUSHES_MAX} are enough"));
    }
    if after.pointer() == before.reading.pointer() {
        return Verdict::Holds;
    }
    let moved = snapshot_table(after) != snapshot_table(&before.reading);
    let most = 1 + usize::from(moved);
    for &cluster in after.own.keys() {
        let start = cluster << after.cluster_bits;
        let end = start + after.cluster_size();
        let meets =
            |&(offset, length): &(u64, usize)| offset < end && offset + length as u64 > start;
        let times = run.trace.writes().filter(meets).count();
        if !(1..=most).contains(&times) {
            return Verdict::fails(format!(
                "cluster {cluster} of the new structures was written {times} times"
            ));
        }
    }
    Verdict::Holds
}

fn snapshot_table(reading: &Reading) -> Option<u64> {
    Some(reading.audit()?.header.snapshots_offset)
}
