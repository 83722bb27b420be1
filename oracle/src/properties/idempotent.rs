//! `idempotent`: a second repair writes nothing.

use super::Verdict;
use super::reading::Kind;
use crate::run::{self, Before, Repair, Run};

/// Repairs the bytes after a repair once more. A toy has no check that could find nothing to do.
#[must_use]
pub fn judge(before: &Before, first: &Run, repair: &dyn Repair) -> Verdict {
    let header_changes = before.reading.takes_header_for_a_table();
    if first.outcome.is_err() || matches!(before.kind, Kind::Toy(_)) || header_changes {
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
