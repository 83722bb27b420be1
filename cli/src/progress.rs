//! A progress bar for work whose findings are not told one by one.

use recount::{Observer, Stage};

use crate::terminal::Terminal;

/// Shows how far the work is, and nothing else.
pub struct Progress<'a>(pub &'a mut Terminal);

impl Observer for Progress<'_> {
    fn progress(&mut self, stage: Stage, done: u64, total: u64) {
        self.0.progress(stage, done, total);
    }
}
