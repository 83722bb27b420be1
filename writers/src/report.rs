//! What a writer did wrong, and how much was asked of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use recount_oracle::case::damage::SparseBytes;

use crate::Done;
use crate::judge::Kind;
use crate::operation::Operation;

/// How many of the last operations are told.
const TOLD: usize = 6;

/// What was said of all runs.
#[derive(Debug, Default)]
pub struct Report {
    writer: String,
    runs: u32,
    /// Operations that a writer did, and that it does not support, by their first word.
    operations: BTreeMap<&'static str, (u32, u32)>,
    power_cuts: u64,
    leaks: usize,
    findings: BTreeMap<Kind, Finding>,
    /// Why images could not be made.
    refused: Vec<String>,
}

/// A run that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) run: u32,
    pub(crate) operations: Vec<Operation>,
    pub(crate) image: SparseBytes,
}

/// All failures of one kind.
#[derive(Debug)]
struct Finding {
    count: u32,
    /// The one after the fewest operations.
    shortest: Failure,
    folder: Option<PathBuf>,
}

impl Report {
    pub(crate) fn new(writer: &str) -> Self {
        Self {
            writer: writer.to_owned(),
            ..Self::default()
        }
    }

    pub(crate) fn refuse(&mut self, why: &str) {
        self.refused.push(why.to_owned());
    }

    pub(crate) fn count(&mut self, operation: &Operation, done: Done) {
        let name = match operation {
            Operation::Write { .. } => "writes",
            Operation::Discard { .. } => "discards",
            Operation::Snapshot { .. } => "snapshots",
            Operation::DeleteSnapshot { .. } => "deletions of snapshots",
            Operation::Flush | Operation::Reopen => return,
        };
        let (supported, not) = self.operations.entry(name).or_default();
        match done {
            Done::Done => *supported += 1,
            Done::Unsupported => *not += 1,
        }
    }

    pub(crate) const fn states(&mut self, states: u64) {
        self.power_cuts += states;
    }

    pub(crate) const fn leak(&mut self, clusters: usize) {
        self.leaks += clusters;
    }

    pub(crate) fn end(&mut self, failure: Option<Failure>) {
        self.runs += 1;
        let Some(failure) = failure else {
            return;
        };
        let Some(finding) = self.findings.get_mut(&failure.kind) else {
            let kind = failure.kind;
            let finding = Finding {
                count: 1,
                shortest: failure,
                folder: None,
            };
            self.findings.insert(kind, finding);
            return;
        };
        finding.count += 1;
        if failure.operations.len() < finding.shortest.operations.len() {
            finding.shortest = failure;
        }
    }

    /// The kinds of failures that there are, each with the fewest operations after which one was seen.
    pub fn failed(&self) -> impl Iterator<Item = (Kind, usize)> {
        let findings = self.findings.iter();
        findings.map(|(kind, finding)| (*kind, finding.shortest.operations.len()))
    }

    /// Clusters that closed images leaked, all together.
    pub const fn leaks(&self) -> usize {
        self.leaks
    }

    /// States after a power cut that were looked at.
    pub const fn power_cuts(&self) -> u64 {
        self.power_cuts
    }

    /// Stores the image of each kind of failure in a folder of this test in `folder`, in the place of
    /// what an earlier run has stored there. What cannot be stored is left out.
    pub fn store(&mut self, folder: &Path, test: &str) {
        let folder = folder.join(format!("{}-{test}", self.writer));
        let _ = std::fs::remove_dir_all(&folder);
        for (kind, finding) in &mut self.findings {
            let path = folder.join(format!("{kind}.qcow2"));
            let stored = std::fs::create_dir_all(&folder);
            let stored = stored.and_then(|()| finding.shortest.image.store(&path));
            finding.folder = stored.is_ok().then_some(path);
        }
    }

    /// # Panics
    ///
    /// With the report, if something is wrong, if an image could not be made, or if a kind of operation
    /// was asked for and never supported: then it was not judged.
    pub fn check(&self) {
        let mut counts = self.operations.values();
        let is_judged = self.runs > 0 && counts.all(|(supported, _)| *supported > 0);
        let is_well = self.findings.is_empty() && self.refused.is_empty();
        assert!(is_well && is_judged, "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} images", self.writer, self.runs)?;
        for (name, (supported, not)) in &self.operations {
            match not {
                0 => write!(f, ", {supported} {name}")?,
                not => write!(f, ", {supported} of {} {name} supported", supported + not)?,
            }
        }
        writeln!(f, ", {} states after power cuts", self.power_cuts)?;
        if self.leaks > 0 {
            writeln!(f, "warning: closed images leak {} clusters", self.leaks)?;
        }
        for why in &self.refused {
            writeln!(f, "no image: {why}")?;
        }
        for (kind, finding) in &self.findings {
            let times = if finding.count == 1 {
                "image"
            } else {
                "images"
            };
            let first = &finding.shortest;
            let (count, done) = (finding.count, &first.operations);
            writeln!(
                f,
                "{kind}: {count} {times}, soonest in run {} at operation {}",
                first.run,
                done.len()
            )?;
            writeln!(f, "  {}", first.message)?;
            let from = done.len().saturating_sub(TOLD);
            for (number, operation) in (1..).zip(done).skip(from) {
                writeln!(f, "    {number}. {operation}")?;
            }
            if let Some(path) = &finding.folder {
                writeln!(f, "  the image is {}", path.display())?;
            }
        }
        Ok(())
    }
}
