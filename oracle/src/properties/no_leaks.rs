//! `no-leaks`: nothing is allocated without a reference afterwards, except what the specification
//! keeps.

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
    let kept = run.repaired(before).map(|repaired| &repaired.kept);
    for (&cluster, &count) in after.counts() {
        let unused = after.references_to(cluster) == 0 && after.is_checked(cluster);
        if unused && !kept.is_some_and(|kept| kept.contains_key(&cluster)) {
            return Verdict::fails(format!(
                "cluster {cluster} has refcount {count} after the repair, and nothing refers to it"
            ));
        }
    }
    Verdict::Holds
}
