//! `bounded-cost`: each cluster of the new structures is written once, and at most
//! [`FLUSHES_MAX`] flushes are made.

use super::Verdict;
use crate::disk::Event;
use crate::run::{Before, Run};

/// After the structures, after the header's pointer, after raised refcounts, after released ones,
/// after corrected table entries, and after the header's flags.
pub const FLUSHES_MAX: usize = 6;

/// Of a repair that built the structures anew.
#[must_use]
pub fn judge(before: &Before, run: &Run) -> Verdict {
    if run.outcome.is_err() {
        return Verdict::NotApplicable;
    }
    let after = match before.kind.read(&run.after) {
        Ok(after) => after,
        Err(error) => return Verdict::fails(format!("after the repair, {error}")),
    };
    let flush = |event: &&Event| matches!(event, Event::Flush);
    let flushes = run.trace.events().iter().filter(flush).count();
    if flushes > FLUSHES_MAX {
        return Verdict::fails(format!("{flushes} flushes; {FLUSHES_MAX} are enough"));
    }
    if after.pointer() == before.reading.pointer() {
        return Verdict::Holds;
    }
    for &cluster in after.own.keys() {
        let start = cluster << after.cluster_bits;
        let end = start + after.cluster_size();
        let meets =
            |&(offset, length): &(u64, usize)| offset < end && offset + length as u64 > start;
        let times = run.trace.writes().filter(meets).count();
        if times != 1 {
            return Verdict::fails(format!(
                "cluster {cluster} of the new structures was written {times} times"
            ));
        }
    }
    Verdict::Holds
}
