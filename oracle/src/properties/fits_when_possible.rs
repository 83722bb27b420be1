//! `fits-when-possible`: it fails for space only where brute force finds no placement.

use recount::PlanError;

use super::planning::{Complaint, Planning};

/// Of a plan. Where the storage cannot grow, going on for ever is failing for space as well.
pub fn judge(run: &Planning<'_>) -> Result<(), Complaint> {
    match run.outcome {
        Ok(_) => return Ok(()),
        Err(PlanError::Diverges { .. }) if run.toy.capacity().is_none() => return Ok(()),
        Err(_) => (),
    }
    match run.brute.least_in_storage() {
        Some(reftable) => Err(Complaint::ThereIsRoom { reftable }),
        None => Ok(()),
    }
}
