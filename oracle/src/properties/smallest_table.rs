//! `smallest-table`: no smaller reftable could do.

use super::planning::{Complaint, Planning};

/// Of a plan.
pub fn judge(run: &Planning<'_>) -> Result<(), Complaint> {
    let Some(layout) = run.layout() else {
        return Ok(());
    };
    let clusters = layout.reftable.count.0;
    match run.brute.least_in_storage() {
        None => Err(Complaint::Impossible { clusters }),
        Some(least) if u64::from(least) < clusters => {
            Err(Complaint::LargerThanNeeded { clusters, least })
        }
        Some(least) if u64::from(least) > clusters => Err(Complaint::Impossible { clusters }),
        Some(_) => Ok(()),
    }
}
