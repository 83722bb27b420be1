//! What the process prints: the result to standard output, messages to standard error, and on a
//! terminal a progress bar for whatever takes longer than a second.

use std::fmt;
use std::io::{self, BufWriter, ErrorKind, IsTerminal as _, Stderr, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use recount::{Action, Cluster, Finding, Miscount, Observer, Stage, Step, StorageError};

/// How long work goes on without a progress bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes of messages that are written at once.
const MESSAGE_BYTES: usize = 64 << 10;

/// Failing to write messages changes nothing: there is nowhere left to say so.
pub struct Terminal {
    /// From when on progress is shown, where anybody sees it.
    shows_progress_from: Option<Instant>,
    bar: Option<ProgressBar>,
    messages: BufWriter<Stderr>,
    too_low: TooLowLine,
}

impl Terminal {
    pub fn new() -> Self {
        let is_seen = io::stderr().is_terminal();
        Self {
            shows_progress_from: is_seen.then(|| Instant::now() + PATIENCE),
            bar: None,
            messages: BufWriter::with_capacity(MESSAGE_BYTES, io::stderr()),
            too_low: TooLowLine::default(),
        }
    }

    /// Prints one line of a message; beside a progress bar, when that moves on.
    pub fn say(&mut self, message: fmt::Arguments<'_>) {
        let _ = self.messages.write_fmt(message);
        let _ = self.messages.write_all(b"\n");
        self.flush_if_many();
    }

    fn flush_if_many(&mut self) {
        if self.messages.buffer().len() > MESSAGE_BYTES / 2 {
            self.flush();
        }
    }

    /// Brings out every message, above the progress bar.
    fn flush(&mut self) {
        let _ = match &self.bar {
            Some(bar) => bar.suspend(|| self.messages.flush()),
            None => self.messages.flush(),
        };
    }

    /// Prints lines of a message.
    pub fn say_all(&mut self, lines: &[String]) {
        for line in lines {
            self.say(format_args!("{line}"));
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
            (Action::Repaired, _) => self.say(format_args!("Repairing {finding}")),
            (Action::Reported, Finding::Leak(_)) => {
                self.say(format_args!("Leaked {finding}"));
            }
            (Action::Reported, Finding::TooLow(miscount)) if miscount.cluster.0 >= 100 => {
                for part in self.too_low.parts(miscount, &mut [0; 2]) {
                    let _ = self.messages.write_all(part);
                }
                self.flush_if_many();
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
        let is_time = |from| Instant::now() >= from;
        if self.bar.is_none() && self.shows_progress_from.is_some_and(is_time) {
            self.flush();
            self.bar = Some(new_bar());
        }
        if let Some(bar) = &self.bar {
            if !self.messages.buffer().is_empty() {
                let _ = bar.suspend(|| self.messages.flush());
            }
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

/// The message about a refcount that is too low. An image that has lost its refcounts has one of these
/// for each cluster, and putting numbers into words would be most of the work: mostly the next one
/// differs in the last two digits of the cluster's number alone.
#[derive(Default)]
struct TooLowLine {
    /// What it was last said of, with the cluster's number in hundreds.
    last: Option<Miscount>,
    before_digits: Vec<u8>,
    behind_digits: Vec<u8>,
}

impl TooLowLine {
    /// The line about a cluster whose number has more than two digits, which become `digits`.
    fn parts<'a>(&'a mut self, miscount: &Miscount, digits: &'a mut [u8; 2]) -> [&'a [u8]; 3] {
        let cluster = Cluster(miscount.cluster.0 / 100);
        let last = Miscount {
            cluster,
            ..*miscount
        };
        if self.last != Some(last) {
            let (refcount, references) = (last.refcount, last.references);
            self.last = Some(last);
            self.before_digits = format!("ERROR cluster {}", cluster.0).into();
            self.behind_digits = format!(" refcount={refcount} reference={references}\n").into();
        }
        let number = (miscount.cluster.0 % 100) as u16;
        // As one number: two bytes that have just been written one by one are slow to copy at once.
        *digits = (0x3030 + number / 10 + number % 10 * 0x100).to_le_bytes();
        [&self.before_digits, digits, &self.behind_digits]
    }
}

fn new_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed:>4} [{wide_bar}] {percent:>3}%  {msg}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::no_length().with_style(style.progress_chars("=> "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_refcount_that_is_too_low_is_what_the_finding_says() {
        let mut line = TooLowLine::default();
        for number in (100..1_200).chain(9_990..10_020).chain([100, u64::MAX]) {
            for (refcount, references) in [(0, 1), (0, 1), (0, 2), (3, 4), (0, u64::MAX)] {
                let miscount = Miscount {
                    cluster: Cluster(number),
                    refcount,
                    references,
                };
                let finding = Finding::TooLow(miscount);
                let said = line.parts(&miscount, &mut [0; 2]).concat();
                assert_eq!(said, format!("ERROR {finding}\n").as_bytes());
            }
        }
    }
}
