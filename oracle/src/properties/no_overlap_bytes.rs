//! `no-overlap`, of bytes: the new structures lie in clusters that nothing else refers to, each in
//! its own, and, as long as the old ones are needed, not in theirs.

use super::Verdict;
use super::reading::{Kind, Reading};
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
    if after.pointer() == before.reading.pointer() {
        return Verdict::NotApplicable;
    }
    for (&cluster, &uses) in &after.own {
        if uses > 1 {
            return Verdict::fails(format!("two new structures lie in cluster {cluster}"));
        }
        if after.foreign_references_to(cluster) > 0 {
            return Verdict::fails(format!(
                "a new structure lies in cluster {cluster}: {}",
                after.referrers(cluster)
            ));
        }
        if !run.ask().reuse_old && is_reserved(before, &before.reading, cluster) {
            return Verdict::fails(format!(
                "a new structure lies in cluster {cluster}, which belongs to the old ones"
            ));
        }
    }
    Verdict::Holds
}

fn is_reserved(before: &Before, reading: &Reading, cluster: u64) -> bool {
    match &before.kind {
        Kind::Toy(toy) => toy.reserved.iter().any(|&old| u64::from(old) == cluster),
        Kind::Image => reading.own.contains_key(&cluster),
    }
}
