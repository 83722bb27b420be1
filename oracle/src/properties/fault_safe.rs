//! `fault-safe`: whichever operation fails, and however often, the caller gets an error, and the
//! image is as `crash-atomic` says: at once, and after a power cut on top.

use super::Verdict;
use super::crash_atomic::{self, StateJudge};
use super::reading::Reading;
use crate::crash::Limits;
use crate::run::{Before, Run};

/// Of a run in which operations fail, and how many crash states were looked at. `whole` is as for
/// [`crash_atomic::judge`].
pub fn judge(
    before: &Before,
    run: &Run,
    whole: Option<&Reading>,
    limits: &Limits,
) -> (u64, Verdict) {
    if run.asked.faults_hit > 0 && run.outcome.is_ok() {
        let message = "an operation failed, and the caller was told that all is well";
        return (0, Verdict::fails(message));
    }
    if let Err(failure) = StateJudge::new(before, &run.trace, whole).state(&run.after) {
        return (1, Verdict::fails(format!("after the failure: {failure}")));
    }
    let (states, verdict) = crash_atomic::judge(before, &run.trace, whole, limits);
    (states + 1, verdict)
}
