//! What goes to standard error: messages, and on a terminal a progress bar for whatever takes
//! longer than a second.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal as _, Stderr, Write as _};
use std::time::{Duration, Instant};

use recount::{Action, Finding, Observer, Stage, Step, StorageError};

use super::too_low::TooLowLine;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How long work goes on without a progress bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes of messages that are written at once.
const MESSAGE_BYTES: usize = 64 << 10;

/// Standard error. Failing to write there changes nothing: there is nowhere left to say so.
pub struct Terminal {
    started: Instant,
    shows_progress: bool,
    bar: Option<ProgressBar>,
    messages: BufWriter<Stderr>,
    too_low: TooLowLine,
    /// Those of refcounts that are too low, which came after what `messages` holds.
    lines: Vec<u8>,
}

impl Terminal {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            shows_progress: io::stderr().is_terminal(),
            bar: None,
            messages: BufWriter::with_capacity(MESSAGE_BYTES, io::stderr()),
            too_low: TooLowLine::new(),
            lines: Vec::with_capacity(MESSAGE_BYTES),
        }
    }

    /// Prints one line.
    pub fn say(&mut self, message: impl Display) {
        self.bring_out_lines();
        match &self.bar {
            Some(bar) => bar.suspend(|| {
                let _ = writeln!(self.messages, "{message}");
                let _ = self.messages.flush();
            }),
            None => {
                let _ = writeln!(self.messages, "{message}");
            }
        }
    }

    /// Hands over the lines that were put together here.
    fn bring_out_lines(&mut self) {
        if !self.lines.is_empty() {
            let _ = self.messages.write_all(&self.lines);
            self.lines.clear();
        }
    }

    /// Shows how far the work is, once it has taken long enough to ask.
    fn show_progress(&mut self, stage: Stage, done: u64, total: u64) {
        if !self.shows_progress {
            return;
        }
        if self.bar.is_none() && self.started.elapsed() >= PATIENCE {
            self.bring_out_lines();
            let _ = self.messages.flush();
            self.bar = Some(new_bar());
        }
        if let Some(bar) = &self.bar {
            bar.set_message(name(stage));
            bar.set_length(total);
            bar.set_position(done);
        }
    }

    /// Takes the bar away and brings out every message, before the result is printed.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.bring_out_lines();
        let _ = self.messages.flush();
    }
}

impl Observer for Terminal {
    /// In the manner of `qemu-img check`, whose messages scripts may look for.
    fn finding(&mut self, finding: &Finding, action: Action) {
        match (action, finding) {
            (
                Action::Reported,
                &Finding::TooLow {
                    cluster,
                    refcount,
                    references,
                },
            ) if self.bar.is_none() => {
                let counts = (refcount, references);
                self.too_low.append(&mut self.lines, cluster, counts);
                if self.lines.len() >= MESSAGE_BYTES {
                    self.bring_out_lines();
                }
            }
            (Action::Repaired, _) => self.say(format_args!("Repairing {finding}")),
            (Action::Reported, Finding::Leak { .. }) => {
                self.say(format_args!("Leaked {finding}"));
            }
            (Action::Reported, _) => self.say(format_args!("ERROR {finding}")),
        }
    }

    fn not_released(&mut self, why: &StorageError) {
        self.say(format_args!(
            "recount: the space of freed clusters was not given back to the file system: {why}; the \
             repair is complete"
        ));
    }

    fn step(&mut self, step: &Step) {
        self.say(format_args!("recount: {step}"));
    }

    fn progress(&mut self, stage: Stage, done: u64, total: u64) {
        self.show_progress(stage, done, total);
    }
}

const fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::References => "counting references",
        Stage::Refcounts => "comparing refcounts",
        Stage::Copied => "looking at COPIED bits",
        Stage::Writing => "writing",
    }
}

fn new_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) =
        ProgressStyle::with_template("{elapsed:>4} [{wide_bar}] {percent:>3}%  {msg}")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}
