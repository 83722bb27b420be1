//! `as-specified`: the image is what the specification says must come of the repair, byte for byte;
//! or nothing is written, for the reason that it gives.

use super::Verdict;
use crate::judge::{Ended, against};
use crate::run::{Before, Run, Stopped};

/// Of a repair in which no operation fails.
#[must_use]
pub fn judge(before: &Before, run: &Run) -> Verdict {
    let Some(expected) = run.expected(before) else {
        return Verdict::NotApplicable;
    };
    let ended = match &run.outcome {
        Ok(_) => Ended::Well,
        Err(Stopped::Repair(failure)) => Ended::of_failure(failure),
        Err(_) => return Verdict::NotApplicable,
    };
    let (left, has_written) = (&run.after, !run.trace.is_read_only());
    match against(run.ask(), expected, &before.bytes, left, ended, has_written) {
        Ok(()) => Verdict::Holds,
        Err(message) => Verdict::fails(message),
    }
}
