//! `clean-afterwards`: a sound image, of which only refcounts can be wrong, is clean afterwards: the
//! next check finds nothing, and the image is not marked as dirty or corrupt any more.

use super::Verdict;
use super::reading::{Found, Reading};
use crate::audit::{Audit, counters};
use crate::run::{Before, Run};

/// Bits 0 and 1 of the incompatible features (specification, "Header").
pub(crate) const DIRTY_AND_CORRUPT: u64 = 3;

/// Of the bytes after a repair.
#[must_use]
pub fn judge(before: &Before, run: &Run) -> Verdict {
    let is_toy = before.reading.audit().is_none();
    if run.outcome.is_err() || run.ask().only_leaks || !is_toy && !is_sound(before, run) {
        return Verdict::NotApplicable;
    }
    let after = match run.reading(before) {
        Ok(after) => after,
        Err(failure) => return Verdict::Fails(failure),
    };
    match &after.found {
        Found::Image(audit) => clean(audit),
        Found::Toy(_) => exact(after),
    }
}

/// Whether only refcounts can be wrong, and all of them can be set right: no cluster has more
/// references than can be counted.
fn is_sound(before: &Before, run: &Run) -> bool {
    let max = before.reading.max_refcount;
    run.repaired(before).is_some_and(|repaired| {
        repaired.damage.is_empty() && repaired.counts.values().all(|&count| count <= max)
    })
}

fn clean(audit: &Audit) -> Verdict {
    let counters = counters(audit);
    if audit.header.incompatible & DIRTY_AND_CORRUPT != 0 {
        return Verdict::fails(
            "nothing is wrong with the image, but it is still marked so".to_owned(),
        );
    }
    if counters.exit_code() == 0 {
        return Verdict::Holds;
    }
    let first = audit
        .corruptions
        .iter()
        .chain(&audit.qemu.copied)
        .map(ToString::to_string)
        .chain(audit.mismatches.iter().map(|wrong| {
            format!(
                "cluster {} has refcount {} and {} references",
                wrong.cluster, wrong.on_disk, wrong.references
            )
        }))
        .next()
        .unwrap_or_default();
    Verdict::fails(format!(
        "the check after the repair finds {} corruptions, {} leaks and {} errors; first: {first}",
        counters.corruptions, counters.leaks, counters.check_errors
    ))
}

/// A toy's check: every refcount is the number of references.
fn exact(after: &Reading) -> Verdict {
    for cluster in after.clusters_in_use() {
        let count = after.count(cluster).unwrap_or(0);
        if count != after.references_to(cluster).min(after.max_refcount) {
            return Verdict::fails(format!(
                "the check after the repair finds refcount {count} at cluster {cluster}: {}",
                after.referrers(cluster)
            ));
        }
    }
    Verdict::Holds
}
