//! `idempotent`: a second repair writes nothing.

use super::Verdict;
use super::reading::Kind;
use crate::audit::{Corruption, Referrer, Referrers, Wrong};
use crate::case::damage::{ReadWriteAt, SparseBytes};
use crate::run::{self, Before, Repair, Run};

/// Whether a repair made the file longer where an entry or a table had led past its end. That is
/// zeros then, and the next repair, which can follow it, may have more to do.
#[must_use]
pub fn has_outgrown(before: &Before, after: &SparseBytes) -> bool {
    let length = ReadWriteAt::len(&before.bytes);
    let Some(audit) = before.reading.audit() else {
        return false;
    };
    let past_end = |found: &Corruption| matches!(found.wrong, Wrong::PastTheEnd { .. });
    let last = length / before.reading.cluster_size();
    let in_part = !length.is_multiple_of(before.reading.cluster_size());
    let of_snapshots = |by: &Referrers| by.contains(&Referrer::SnapshotTable);
    let table_is_cut = in_part && audit.references.get(&last).is_some_and(of_snapshots);
    let leads_past_end = audit.corruptions.iter().any(past_end) || before.reading.is_blind();
    ReadWriteAt::len(after) > length && (leads_past_end || table_is_cut)
}

/// Repairs the bytes after a repair once more. A toy has no check that could find nothing to do.
#[must_use]
pub fn judge(before: &Before, first: &Run, repair: &dyn Repair) -> Verdict {
    let header_changes = before.reading.takes_header_for_a_table();
    let toy = matches!(before.kind, Kind::Toy(_));
    if first.outcome.is_err() || toy || header_changes || has_outgrown(before, &first.after) {
        return Verdict::NotApplicable;
    }
    let bytes = first.after.clone();
    let again = Before::new(bytes, before.sector, before.capacity, before.kind.clone());
    let again = match again {
        Ok(again) => again,
        Err(error) => return Verdict::fails(format!("after the repair, {error}")),
    };
    let second = run::run(repair, &again, &[]);
    if let Err(error) = &second.outcome {
        return Verdict::fails(format!("a second repair fails: {error}"));
    }
    let mut changes = second.trace.events().iter();
    match changes.find(|event| !event.is_flush()) {
        None => Verdict::Holds,
        Some(event) => Verdict::fails(format!("a second repair does this: {event}")),
    }
}
