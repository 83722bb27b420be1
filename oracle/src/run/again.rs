//! The repair of what a disturbed one has left: it ends as the disturbed one would have.

use super::{Before, Repair, Run, run};
use crate::case::damage::SparseBytes;
use crate::properties::reading::Kind;
use crate::properties::undo_restores::Points;
use crate::properties::{Failure, Property, Verdict, judge_all};

/// A second repair.
pub struct Again {
    /// What it begins with.
    pub left: Before,
    /// What it does.
    pub run: Run,
    /// What must hold of it.
    pub verdicts: Vec<(Property, Verdict)>,
}

/// Repairs the bytes that are left where the repair of `before`, which ends as `quiet` says when
/// nothing goes wrong, was disturbed. `None` of a toy, which has nothing that could be surveyed: the
/// contract is about images. A failure of [`crash-atomic`](Property::CrashAtomic) where the bytes cannot be read.
pub fn again(
    before: &Before,
    repair: &dyn Repair,
    quiet: &Run,
    bytes: SparseBytes,
) -> Result<Option<Again>, Failure> {
    let kind = before.kind.clone();
    if matches!(kind, Kind::Toy(_)) {
        return Ok(None);
    }
    let left = Before::new(bytes, before.capacity, kind);
    let left =
        left.map_err(|error| Failure::new(format!("the image cannot be read any more: {error}")))?;
    let run = run(repair, &left, &[]);
    let mut verdicts = judge_all(&left, &run, repair, Points::Spread(1));
    let ends_alike = ends_alike(before, quiet, &left, &run);
    verdicts.push((Property::CrashAtomic, ends_alike.into()));
    Ok(Some(Again {
        left,
        run,
        verdicts,
    }))
}

/// The final counts of everything but refcount structures are the same (rule 9), whichever clusters
/// these take or, where the end of the file cuts them off, would take; a repair that refuses refuses
/// again.
fn ends_alike(before: &Before, quiet: &Run, left: &Before, again: &Run) -> Result<(), Failure> {
    let other = match (&quiet.outcome, &again.outcome) {
        (Ok(_), Ok(_)) => None,
        (Err(_), Err(_)) => return Ok(()),
        (Err(error), Ok(_)) => Some(("goes through; that would have failed", error)),
        (Ok(_), Err(error)) => Some(("fails", error)),
    };
    if let Some((how, error)) = other {
        let message = format!("the repair after the disturbed one {how}: {error}");
        return Err(Failure::new(message));
    }
    // Where there is none, `as-specified` says so.
    let (Some(first), Some(second)) = (quiet.repaired(before), again.repaired(left)) else {
        return Ok(());
    };
    let (structures, others) = (quiet.reading(before)?, again.reading(left)?);
    let cut: Vec<_> = before.reading.cut_structures().collect();
    let is_structure = |cluster: &u64| {
        let own = [&structures.own, &others.own];
        own.iter().any(|own| own.contains_key(cluster))
            || cut.iter().any(|cut| cut.contains(cluster))
                && !before.reading.references.contains_key(cluster)
    };
    let clusters = first.counts.keys().chain(second.counts.keys());
    for cluster in clusters.filter(|cluster| !is_structure(cluster)) {
        let (first, second) = (first.counts.get(cluster), second.counts.get(cluster));
        Failure::unless(first == second, || {
            format!(
                "the repair after the disturbed one ends with refcount {second:?} of cluster \
                 {cluster}; the disturbed one would have ended with {first:?}"
            )
        })?;
    }
    Ok(())
}
