//! How far the exploration is, on a terminal.

use std::sync::OnceLock;

use indicatif::{ProgressBar, ProgressStyle};
use recount_oracle::explore;

/// Drawn on standard error, and only when that is a terminal.
pub struct Progress {
    bar: ProgressBar,
    /// What was done at the first report.
    first: OnceLock<u64>,
}

impl Progress {
    pub fn new() -> Self {
        let bar = ProgressBar::no_length();
        let template = "{msg} {wide_bar} {human_pos}/{human_len} runs, {per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self {
            bar,
            first: OnceLock::new(),
        }
    }

    pub fn show(&self, state: explore::Progress) {
        self.bar.set_length(state.total);
        if self.first.set(state.done).is_ok() {
            // What was done before an interruption is not this run's speed.
            self.bar.reset_eta();
        }
        self.bar.set_position(state.done);
        self.bar.set_message(format!("{} clusters", state.clusters));
    }

    /// Clears the line; how many planner runs there were since the first report.
    pub fn finish(&self) -> u64 {
        self.bar.finish_and_clear();
        self.bar.position() - self.first.get().copied().unwrap_or(0)
    }
}
