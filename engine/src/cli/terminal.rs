//! What the process prints: the result to standard output, messages to standard error, and on a
//! terminal a progress bar for whatever takes longer than a second.

use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, IsTerminal as _, Stderr, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use recount::finding::Miscount;
use recount::{Action, Finding, Observer, Stage, Step, StorageError};

/// How long work goes on without a progress bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes of messages that are written at once.
const MESSAGE_BYTES: usize = 64 << 10;

/// Failing to write messages changes nothing: there is nowhere left to say so.
pub struct Terminal {
    started: Instant,
    shows_progress: bool,
    bar: Option<ProgressBar>,
    messages: BufWriter<Stderr>,
}

impl Terminal {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            shows_progress: io::stderr().is_terminal(),
            bar: None,
            messages: BufWriter::with_capacity(MESSAGE_BYTES, io::stderr()),
        }
    }

    /// Prints one line of a message.
    pub fn say(&mut self, message: impl Display) {
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

    /// Takes the bar away and brings out every message.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let _ = self.messages.flush();
    }

    /// Prints the result, after every message that came before.
    pub fn print(&mut self, text: &str) -> io::Result<()> {
        self.finish();
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(text.as_bytes());
        match written.and_then(|()| stdout.flush()) {
            // Whoever read the output has seen enough; the exit code says the rest.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }
}

impl Observer for Terminal {
    /// In the manner of `qemu-img check`, whose messages scripts may look for.
    fn finding(&mut self, finding: &Finding, action: Action) {
        match (action, finding) {
            (Action::Reported, Finding::TooLow(miscount)) if self.bar.is_none() => {
                let _ = write_too_low(&mut self.messages, miscount);
            }
            (Action::Repaired, _) => self.say(format_args!("Repairing {finding}")),
            (Action::Reported, Finding::Leak(_)) => {
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
        if !self.shows_progress {
            return;
        }
        if self.bar.is_none() && self.started.elapsed() >= PATIENCE {
            let _ = self.messages.flush();
            self.bar = Some(new_bar());
        }
        if let Some(bar) = &self.bar {
            bar.set_message(match stage {
                Stage::References => "counting references",
                Stage::Refcounts => "comparing refcounts",
                Stage::Copied => "looking at COPIED bits",
                Stage::Writing => "writing",
            });
            bar.set_length(total);
            bar.set_position(done);
        }
    }
}

/// Writes the line of a refcount that is too low. An image that has lost its refcounts has one for
/// each cluster, and the formatting of the standard library would be most of the work.
fn write_too_low(lines: &mut impl Write, miscount: &Miscount) -> io::Result<()> {
    let mut digits = itoa::Buffer::new();
    let parts: [(&[u8], u64); 3] = [
        (b"ERROR cluster ", miscount.cluster.0),
        (b" refcount=", miscount.refcount),
        (b" reference=", miscount.references),
    ];
    for (word, number) in parts {
        lines.write_all(word)?;
        lines.write_all(digits.format(number).as_bytes())?;
    }
    lines.write_all(b"\n")
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

#[cfg(test)]
mod tests {
    use recount::Cluster;

    use super::*;

    #[test]
    fn the_line_of_a_refcount_that_is_too_low_is_what_the_finding_says() {
        for (cluster, refcount, references) in [(0, 0, 1), (123, 4, 50), (u64::MAX, 7, u64::MAX)] {
            let miscount = Miscount {
                cluster: Cluster(cluster),
                refcount,
                references,
            };
            let mut line = Vec::new();
            write_too_low(&mut line, &miscount).expect("in memory");
            let finding = Finding::TooLow(miscount);
            assert_eq!(line, format!("ERROR {finding}\n").as_bytes());
        }
    }
}
