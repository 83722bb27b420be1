//! `no-overlap`: new structures meet no referenced cluster, no reserved one, nor each other, and
//! stay within the storage.

use super::planning::{Complaint, Planning};

/// Of a plan.
pub fn judge(run: &Planning<'_>) -> Result<(), Complaint> {
    let allocated = run.places.allocated();
    if let Some(cluster) = allocated.and(run.toy.used).first() {
        return Err(Complaint::OnReferenced { cluster });
    }
    if let Some(cluster) = allocated.and(run.toy.old).first() {
        return Err(Complaint::OnReserved { cluster });
    }
    if let Some(cluster) = run.places.shared.first() {
        return Err(Complaint::Shared { cluster });
    }
    match run.toy.capacity() {
        Some(capacity) if run.places.end > capacity.into() => Err(Complaint::PastCapacity {
            end: run.places.end,
            capacity,
        }),
        _ => Ok(()),
    }
}
