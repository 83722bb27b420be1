//! `grows-only-when-needed`: the file gets longer only where no placement exists inside it.

use super::planning::{Complaint, Planning};

/// Of a plan.
pub fn judge(run: &Planning<'_>) -> Result<(), Complaint> {
    let clusters = run.toy.clusters;
    if run.places.end <= clusters.into() {
        return Ok(());
    }
    match run.brute.least_inside_file() {
        Some(reftable) => Err(Complaint::GrowsWithoutNeed {
            clusters,
            end: run.places.end,
            reftable,
        }),
        None => Ok(()),
    }
}
