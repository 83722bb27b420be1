//! The new structures in the bytes after a repair: `no-overlap` and `bounded-cost`.

use super::Failure;
use super::reading::{Kind, Reading};
use crate::audit::Referrer;
use crate::disk::Event;
use crate::run::{Before, Run};

/// One after each of these, at most: replaced table entries, a new snapshot table, new structures,
/// the header's pointer to them, its pointer to the snapshot table, lowered refcounts, COPIED bits,
/// the header's flags.
const FLUSHES_MAX: usize = 8;

/// The new structures lie in clusters that nothing else refers to, each in its own, and, as long as
/// the old ones are needed, not in theirs.
pub(super) fn no_overlap(before: &Before, run: &Run) -> Result<(), Failure> {
    let after = run.reading(before)?;
    let is_reserved = |cluster: u64| match &before.kind {
        Kind::Toy(toy) => toy.old.iter().any(|&old| u64::from(old) == cluster),
        Kind::Image => before.reading.own.contains_key(&cluster),
    };
    for (&cluster, &uses) in &after.own {
        Failure::unless(uses == 1, || {
            format!("two new structures lie in cluster {cluster}")
        })?;
        Failure::unless(after.foreign_references_to(cluster) == 0, || {
            let by = after.referrers(cluster);
            format!("a new structure lies in cluster {cluster}: {by}")
        })?;
        Failure::unless(run.ask().options.reuse_old || !is_reserved(cluster), || {
            format!("a new structure lies in cluster {cluster}, which belongs to the old ones")
        })?;
    }
    Ok(())
}

/// At most [`FLUSHES_MAX`] flushes are made. Each cluster of new structures is written once, and once
/// more where the old snapshot table is released after a new one has been switched to, or where an
/// L2 table lay in the old structures and can be repaired only when these are given up.
pub(super) fn bounded_cost(before: &Before, run: &Run) -> Result<(), Failure> {
    let (old, after, trace) = (&before.reading, run.reading(before)?, &run.trace);
    let flush = |event: &&Event| matches!(event, Event::Flush);
    let flushes = trace.events.iter().filter(flush).count();
    Failure::unless(flushes <= FLUSHES_MAX, || {
        format!("{flushes} flushes; {FLUSHES_MAX} are enough")
    })?;
    if after.pointer() == old.pointer() {
        return Ok(());
    }
    let moved = snapshot_table(after) != snapshot_table(old);
    let most = 1 + usize::from(moved) + usize::from(has_table_in_structures(old));
    for &cluster in after.own.keys() {
        let start = cluster << after.cluster_bits;
        let end = start + after.cluster_size();
        let meets =
            |&(offset, length): &(u64, usize)| offset < end && offset + length as u64 > start;
        let times = trace.writes().filter(meets).count();
        Failure::unless((1..=most).contains(&times), || {
            format!("cluster {cluster} of the new structures was written {times} times")
        })?;
    }
    Ok(())
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
