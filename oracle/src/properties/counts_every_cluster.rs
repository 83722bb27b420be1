//! `counts-every-cluster`: each cluster that is referred to has its number of references as its
//! refcount, as far as that can count, the structures' own clusters included; or what is kept. What
//! has a refcount and no reference is the matter of `no-leaks`.

use super::reading::Reading;
use super::{Failure, Verdict};
use crate::run::{Before, Run};

/// Of the bytes after a repair.
#[must_use]
pub fn judge(before: &Before, run: &Run) -> Verdict {
    if run.outcome.is_err() || run.ask().only_leaks {
        return Verdict::NotApplicable;
    }
    match run.reading(before) {
        Ok(after) => check(before, run, after).into(),
        Err(failure) => Verdict::Fails(failure),
    }
}

fn check(before: &Before, run: &Run, after: &Reading) -> Result<(), Failure> {
    let kept = run.repaired(before).map(|repaired| &repaired.kept);
    for (&cluster, &references) in &after.references {
        let kept = kept.and_then(|kept| kept.get(&cluster));
        let due = kept.map_or(references, |&kept| kept.max(references));
        let due = due.min(after.max_refcount);
        let count = after.count(cluster);
        if count != Some(due) {
            let count = count.map_or("cannot be read".to_owned(), |count| format!("is {count}"));
            let message = format!(
                "the refcount of cluster {cluster} {count} after the repair; it should be {due}: {}",
                after.referrers(cluster)
            );
            return Err(Failure { message });
        }
    }
    Ok(())
}
