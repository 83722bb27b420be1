//! `keeps-what-it-cannot-follow`: while an entry leads nowhere, no cluster that was allocated is
//! released, discarded or written over, nor a refcount lowered, so that mending the entry later
//! brings everything back.

use super::Verdict;
use super::reading::Reading;
use crate::case::damage::{ReadWriteAt, SparseBytes};
use crate::run::{Before, Run};

/// Of the bytes after a repair, whether it ended well or not.
#[must_use]
pub fn judge(before: &Before, run: &Run) -> Verdict {
    if before.reading.nowhere.is_none() {
        return Verdict::NotApplicable;
    }
    if run.trace.is_read_only() {
        return Verdict::Holds;
    }
    match run.reading(before) {
        Ok(after) => of_readings(before, after, &run.after),
        Err(failure) => Verdict::Fails(failure),
    }
}

/// The same, of an image that leads nowhere, by what the audit says of the bytes afterwards.
pub(crate) fn of_readings(before: &Before, after: &Reading, bytes: &SparseBytes) -> Verdict {
    let old = &before.reading;
    let Some(nowhere) = &old.nowhere else {
        return Verdict::NotApplicable;
    };
    let size = old.cluster_size() as usize;
    let end = ReadWriteAt::len(&before.bytes).div_ceil(size as u64);
    // The old structures' own clusters are known to be free once there are new ones.
    let counted = old.counts().iter();
    let counted = counted.filter(|&(cluster, _)| *cluster < end && !old.own.contains_key(cluster));
    for (&cluster, &count) in counted {
        if let Some(now) = after.count(cluster).filter(|&now| now < count) {
            return Verdict::fails(format!(
                "cluster {cluster} had refcount {count} and has {now}, although {nowhere}"
            ));
        }
        // What happens to clusters with references is the matter of leaves-data-alone.
        let start = cluster << old.cluster_bits;
        let changed = || bytes.bytes(start, size) != before.bytes.bytes(start, size);
        if old.references_to(cluster) == 0 && changed() {
            return Verdict::fails(format!(
                "cluster {cluster} was allocated and has been written over, although {nowhere}"
            ));
        }
    }
    Verdict::Holds
}
