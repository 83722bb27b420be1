//! What the process prints: the result to standard output, messages to standard error, and on a
//! terminal a progress bar for whatever takes longer than a second.

use std::fmt;
use std::io::{self, BufWriter, ErrorKind, IsTerminal as _, Stderr, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use recount::finding::Finding;
use recount::{Action, Observer, Stage, Step, Storage, StorageError};

use crate::findings::{Findings, Line, Told};
use crate::places::Places;
use crate::stop::Stop;

/// How long work goes on without a progress bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes of messages that are written at once.
const MESSAGE_BYTES: usize = 64 << 10;

/// How much is said of an image; errors of the run always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    Quiet,
    /// Of each kind of finding only so many lines.
    Usual,
    /// A line for each finding, in the words of qemu-img.
    Full,
}

/// Failing to write messages changes nothing: there is nowhere left to say so.
pub struct Terminal {
    /// From when on progress is shown, where anybody sees it.
    shows_progress_from: Option<Instant>,
    bar: Option<ProgressBar>,
    messages: BufWriter<Stderr>,
    findings: Findings,
    detail: Detail,
    stop: Stop,
}

impl Terminal {
    /// Prints so much.
    pub fn new(detail: Detail) -> Self {
        let is_seen = io::stderr().is_terminal() && detail != Detail::Quiet;
        Self {
            shows_progress_from: is_seen.then(|| Instant::now() + PATIENCE),
            bar: None,
            messages: BufWriter::with_capacity(MESSAGE_BYTES, io::stderr()),
            findings: Findings::default(),
            detail,
            stop: Stop::default(),
        }
    }

    /// Lets signals end a repair between its phases from now on.
    pub fn stop_on_signals(&mut self) -> io::Result<()> {
        self.stop.listen()
    }

    /// What the process exits with where a signal ended it.
    pub fn exit_code_of_signal(&self) -> Option<u8> {
        self.stop.exit_code()
    }

    /// Prints one line of a message; beside a progress bar, when that moves on.
    pub fn say(&mut self, message: impl fmt::Display) {
        self.end_findings(None);
        self.put(message);
    }

    /// Takes note of damage of kinds that have not been found so far: what shows itself only to whoever
    /// plans a repair, tables that were lost for example.
    pub fn note_damage(&mut self, examples: &[Finding]) {
        let is_new = |finding: &&Finding| {
            let findings = &self.findings;
            findings.count(|other| other.kind() == finding.kind()) == 0
        };
        for finding in examples.iter().filter(is_new).copied().collect::<Vec<_>>() {
            self.finding(&finding, Action::Reported);
        }
    }

    /// What has been found and not yet been printed.
    pub const fn findings(&self) -> &Findings {
        &self.findings
    }

    /// Prints what is said first, then the findings, with where in the virtual disk they are; these.
    pub fn conclude(&mut self, verdict: &[String], storage: &dyn Storage) -> Vec<Told> {
        if self.detail == Detail::Quiet {
            return Vec::new();
        }
        for line in verdict {
            self.put(line);
        }
        let places = Places::read(storage, &self.findings.tables());
        // Whatever keeps them from being read has been said before.
        self.end_findings(places.ok().as_ref())
    }

    fn put(&mut self, line: impl fmt::Display) {
        let _ = writeln!(self.messages, "{line}");
        if self.messages.buffer().len() > MESSAGE_BYTES / 2 {
            self.flush();
        }
    }

    fn end_findings(&mut self, places: Option<&Places<'_>>) -> Vec<Told> {
        let all = self.findings.end(places);
        // With all detail each has had its line.
        if self.detail == Detail::Usual {
            for told in &all {
                self.put(told);
            }
        }
        all
    }

    /// Brings out every message, above the progress bar.
    fn flush(&mut self) {
        let _ = match &self.bar {
            Some(bar) if !self.messages.buffer().is_empty() => {
                bar.suspend(|| self.messages.flush())
            }
            _ => self.messages.flush(),
        };
    }

    /// Prints lines of a message.
    pub fn say_all(&mut self, lines: &[String]) {
        for line in lines {
            self.say(line);
        }
    }

    /// The same of what is said of an image.
    pub fn tell_all(&mut self, lines: &[String]) {
        if self.detail != Detail::Quiet {
            self.say_all(lines);
        }
    }

    /// Takes the bar away and brings out every message.
    pub fn finish(&mut self) {
        self.end_findings(None);
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.flush();
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
    fn finding(&mut self, finding: &Finding, action: Action) {
        if self.detail == Detail::Quiet {
            return;
        }
        self.findings.note(finding, action);
        if self.detail == Detail::Full {
            Line::each(finding, action).for_each(|line| self.put(line));
        }
    }

    fn not_released(&mut self, why: &StorageError) {
        self.say(format_args!(
            "recount: the space of freed clusters was not given back to the file system: {why}; the \
             repair is complete"
        ));
    }

    fn step(&mut self, step: &Step) {
        self.tell_all(&[format!("recount: {step}")]);
    }

    fn is_cancelled(&self) -> bool {
        self.stop.exit_code().is_some()
    }

    fn progress(&mut self, stage: Stage, done: u64, total: u64) {
        let is_time = |from| Instant::now() >= from;
        if !self.shows_progress_from.is_some_and(is_time) {
            return;
        }
        self.flush();
        let bar = self.bar.get_or_insert_with(new_bar);
        bar.set_message(stage.to_string());
        bar.set_length(total);
        bar.set_position(done);
    }
}

fn new_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed:>4} [{wide_bar}] {percent:>3}%  {msg}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::no_length().with_style(style.progress_chars("=> "))
}
