//! `keeps-what-it-cannot-follow`: of the clusters that the specification keeps because the image is
//! damaged, none is released, discarded or written over, nor a refcount lowered, so that mending the
//! damage later brings everything back.

use super::Verdict;
use crate::run::{Before, Run};

/// Of the bytes after a repair.
#[must_use]
pub fn judge(before: &Before, run: &Run) -> Verdict {
    let Some(repaired) = run.repaired(before) else {
        return Verdict::NotApplicable;
    };
    let Some(damage) = repaired
        .damage
        .first()
        .filter(|_| !run.ask().release_unreachable)
    else {
        return Verdict::NotApplicable;
    };
    let after = match run.reading(before) {
        Ok(after) => after,
        Err(failure) => return Verdict::Fails(failure),
    };
    let old = &before.reading;
    let size = old.cluster_size() as usize;
    for (&cluster, &count) in &repaired.kept {
        if let Some(now) = after.count(cluster).filter(|&now| now < count) {
            return Verdict::fails(format!(
                "cluster {cluster} had refcount {count} and has {now}, although the image is \
                 damaged: {damage:?}"
            ));
        }
        // What happens to clusters with references is the matter of leaves-data-alone.
        let start = cluster << old.cluster_bits;
        let changed = || run.after.bytes(start, size) != before.bytes.bytes(start, size);
        if old.references_to(cluster) == 0 && changed() {
            return Verdict::fails(format!(
                "cluster {cluster} was allocated and has been written over, although the image is \
                 damaged: {damage:?}"
            ));
        }
    }
    Verdict::Holds
}
