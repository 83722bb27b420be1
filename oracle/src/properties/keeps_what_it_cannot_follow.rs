//! `keeps-what-it-cannot-follow`: while an entry leads nowhere, no cluster that was allocated is
//! released, discarded or written over, so that mending the entry later brings everything back.

use super::Verdict;
use crate::case::damage::ReadWriteAt;
use crate::run::{Before, Run};

/// Of the bytes after a repair, whether it ended well or not.
#[must_use]
pub fn judge(before: &Before, run: &Run) -> Verdict {
    let old = &before.reading;
    if !old.is_blind() {
        return Verdict::NotApplicable;
    }
    if run.trace.is_read_only() {
        return Verdict::Holds;
    }
    let after = match before.kind.read(&run.after) {
        Ok(after) => after,
        Err(error) => return Verdict::fails(format!("after the repair, {error}")),
    };
    let size = old.cluster_size() as usize;
    let end = ReadWriteAt::len(&before.bytes).div_ceil(size as u64);
    // Those with references are the matter of leaves-data-alone.
    let unreferenced = old
        .counts()
        .iter()
        .filter(|&(cluster, _)| *cluster < end && old.references_to(*cluster) == 0);
    for (&cluster, &count) in unreferenced {
        let now = after.count(cluster);
        if now.is_some_and(|now| now < count) {
            return Verdict::fails(format!(
                "cluster {cluster} had refcount {count} and has {}, although {}",
                now.unwrap_or(0),
                nowhere(before)
            ));
        }
        let start = cluster << old.cluster_bits;
        if run.after.bytes(start, size) != before.bytes.bytes(start, size) {
            return Verdict::fails(format!(
                "cluster {cluster} was allocated and has been written over, although {}",
                nowhere(before)
            ));
        }
    }
    Verdict::Holds
}

/// Which entry leads nowhere.
fn nowhere(before: &Before) -> String {
    let audit = before.reading.audit();
    let first = audit.and_then(|audit| audit.leads_nowhere().next());
    first.map_or_else(String::new, ToString::to_string)
}
