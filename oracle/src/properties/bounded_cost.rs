//! `bounded-cost`: each cluster of the new structures is written once, and once more where the old
//! snapshot table is released after a new one has been switched to, or where an L2 table lay in the
//! old structures and can be repaired only when these are given up; and at most [`FLUSHES_MAX`]
//! flushes are made.

use super::Verdict;
use super::reading::Reading;
use crate::audit::Referrer;
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
    let uncovered = has_table_in_structures(&before.reading);
    let most = 1 + usize::from(moved) + usize::from(uncovered);
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

/// Whether something takes a cluster of the refcount structures for an L2 table.
fn has_table_in_structures(reading: &Reading) -> bool {
    let is_table = |by: &Referrer| matches!(by, Referrer::L2 { .. });
    reading.audit().is_some_and(|audit| {
        let mut clusters = audit.references.values();
        clusters.any(|by| by.iter().any(Referrer::is_structure) && by.iter().any(is_table))
    })
}

fn snapshot_table(reading: &Reading) -> Option<u64> {
    Some(reading.audit()?.header.snapshots_offset)
}
