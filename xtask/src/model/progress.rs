//! How far the exploration is, on a terminal.

use std::cell::Cell;
use std::io::IsTerminal;
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use recount_oracle::explore;

/// Draws on the terminal's standard error, if it is one.
pub struct Progress {
    bar: ProgressBar,
    first: Mutex<Cell<Option<u64>>>,
}

impl Progress {
    pub fn new() -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        let template = "{msg} {wide_bar} {human_pos}/{human_len} runs, {per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self {
            bar,
            first: Mutex::default(),
        }
    }

    pub fn show(&self, state: explore::Progress) {
        self.bar.set_length(state.total);
        if let Ok(first) = self.first.lock()
            && first.get().is_none()
        {
            first.set(Some(state.done));
            // What was done before an interruption is not this run's speed.
            self.bar.reset_eta();
        }
        self.bar.set_position(state.done);
        self.bar.set_message(format!("{} clusters", state.clusters));
    }

    /// Clears the line; how many planner runs there were since the first report.
    pub fn finish(&self) -> u64 {
        self.bar.finish_and_clear();
        let first = self.first.lock().ok().and_then(|first| first.get());
        self.bar.position() - first.unwrap_or(0)
    }
}
