//! How far the exploration is, on a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use recount_oracle::explore;

/// Drawn on standard error, and only when that is a terminal; cleared in the end.
pub struct Progress(ProgressBar);

impl Progress {
    pub fn new() -> Self {
        let bar = ProgressBar::no_length();
        let template = "{msg} {wide_bar} {human_pos}/{human_len}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    pub fn show(&self, state: explore::Progress) {
        self.0.set_length(state.total as u64);
        self.0.set_position(state.done as u64);
        self.0.set_message(format!("{} clusters", state.clusters));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
