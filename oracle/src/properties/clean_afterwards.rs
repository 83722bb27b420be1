//! `clean-afterwards`: when only refcount structures were damaged, the next check finds nothing, and
//! the image is not marked as dirty or corrupt any more.

use super::Verdict;
use super::reading::{Found, Reading};
use crate::audit::{Audit, Referrer, counters};
use crate::run::{Before, Run};

/// Bits 0 and 1 of the incompatible features (specification, "Header").
pub(crate) const DIRTY_AND_CORRUPT: u64 = 3;

/// Of the bytes after a repair.
#[must_use]
pub fn judge(before: &Before, run: &Run) -> Verdict {
    if run.outcome.is_err() || !only_refcounts_damaged(&before.reading) {
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

/// Whether every corruption is one of the structures, or follows from them.
fn only_refcounts_damaged(before: &Reading) -> bool {
    let Some(audit) = before.audit() else {
        return true;
    };
    let mut corruptions = audit.corruptions.iter();
    let followed = audit.blocked.is_none() && !before.is_blind();
    followed
        && corruptions.all(|corruption| corruption.referrer.is_structure())
        && !audit.references.values().any(|by| is_mixed_up(by))
}

/// Whether a table of the active layer is in a cluster with something else, and not of the refcount
/// structures: nobody can tell which of the two its bytes are, so a repair does not set its bits.
fn is_mixed_up(by: &[Referrer]) -> bool {
    let is_l1 = |by: &Referrer| matches!(by, Referrer::L1 { .. });
    let is_l2 = |by: &Referrer| matches!(by, Referrer::L2 { .. });
    let mut others = by.iter().filter(|by| !by.is_structure());
    by.iter().any(|by| is_l1(by) || is_l2(by)) && !(others.clone().all(is_l1) || others.all(is_l2))
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
        .chain(&audit.copied)
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
