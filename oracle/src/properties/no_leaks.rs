//! `no-leaks`: nothing is allocated without a reference afterwards, except what is kept because an
//! entry that leads nowhere may have led to it.

use super::Verdict;
use crate::run::{Before, Run};

/// Of the bytes after a repair.
#[must_use]
pub fn judge(before: &Before, run: &Run) -> Verdict {
    if run.outcome.is_err() {
        return Verdict::NotApplicable;
    }
    let after = match run.reading(before) {
        Ok(after) => after,
        Err(failure) => return Verdict::Fails(failure),
    };
    let kept = |cluster: u64| {
        // A cluster of the old structures may be something else as well, by its refcount.
        let own = before.reading.own.get(&cluster).copied().unwrap_or(0);
        let was = before
            .reading
            .count(cluster)
            .map_or(own == 0, |count| count > own);
        before.reading.is_blind() && was
    };
    for (&cluster, &count) in after.counts() {
        let unused = after.references_to(cluster) == 0 && after.is_checked(cluster);
        if unused && !kept(cluster) {
            return Verdict::fails(format!(
                "cluster {cluster} has refcount {count} after the repair, and nothing refers to it"
            ));
        }
    }
    Verdict::Holds
}
