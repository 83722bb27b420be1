//! `counts-every-cluster`: each cluster that is referred to has its number of references as its
//! refcount, the structures' own clusters included. What has a refcount and no reference is the
//! matter of `no-leaks`.

use super::reading::Reading;
use super::{Failure, Verdict};
use crate::run::{Before, Run};

/// Of the bytes after a repair.
#[must_use]
pub fn judge(before: &Before, run: &Run) -> Verdict {
    if run.outcome.is_err() {
        return Verdict::NotApplicable;
    }
    if before.reading.takes_header_for_a_table() {
        return Verdict::NotApplicable;
    }
    match run.reading(before) {
        Ok(after) => check(&before.reading, after).into(),
        Err(failure) => Verdict::Fails(failure),
    }
}

fn check(before: &Reading, after: &Reading) -> Result<(), Failure> {
    for (&cluster, &references) in &after.references {
        let references = references.min(after.max_refcount);
        // While references are hidden, a refcount that was larger is kept.
        let kept = before.count(cluster).filter(|_| before.is_blind());
        let most = kept.unwrap_or(0).max(references);
        let count = after.count(cluster);
        if !count.is_some_and(|count| (references..=most).contains(&count)) {
            let count = count.map_or("cannot be read".to_owned(), |count| format!("is {count}"));
            let message = format!(
                "the refcount of cluster {cluster} {count} after the repair; it should be \
                 {references}: {}",
                after.referrers(cluster)
            );
            return Err(Failure { message });
        }
    }
    Ok(())
}
