//! `evidence-stays`: what was seen to be damaged is seen to be damaged afterwards, unless it was
//! given up: so the next repair keeps what this one keeps.

use super::Verdict;
use crate::run::{Before, Run};
use crate::spec::{Expected, expect_of};

/// Of the bytes after a repair.
#[must_use]
pub fn judge(before: &Before, run: &Run) -> Verdict {
    let Some(repaired) = run.repaired(before).filter(|_| run.outcome.is_ok()) else {
        return Verdict::NotApplicable;
    };
    let Some(damage) = repaired
        .damage
        .first()
        .filter(|_| !run.ask().release_unreachable)
    else {
        return Verdict::NotApplicable;
    };
    if run.trace.is_read_only() {
        return Verdict::Holds;
    }
    let after = match run.reading(before) {
        Ok(after) => after,
        Err(failure) => return Verdict::Fails(failure),
    };
    let again = after
        .audit()
        .map(|audit| expect_of(audit, &run.after, run.ask(), Some(&run.after)));
    match again {
        Some(Ok(Expected::Repaired(again))) if again.damage.is_empty() => {
            Verdict::fails(format!("{damage:?} cannot be seen any more"))
        }
        _ => Verdict::Holds,
    }
}
