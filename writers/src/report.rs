//! What a writer did wrong, and how much was asked of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use recount_oracle::case::damage::SparseBytes;

use crate::Done;
use crate::feature::Feature;
use crate::judge::Kind;
use crate::operation::Operation;
use crate::start::Start;

/// How many of the last operations are told one by one.
const TOLD: usize = 12;

/// What was said of all runs.
#[derive(Debug, Default)]
pub struct Report {
    writer: String,
    runs: u32,
    /// Operations that a writer did, and that it does not support, by their first word.
    operations: BTreeMap<&'static str, (u32, u32)>,
    power_cuts: u64,
    leaks: usize,
    /// Operations on the disk that failed, and errors of the writer after that.
    disk_failures: (u32, u32),
    disk_is_to_fail: bool,
    /// Images that were declined: how many for one reason, and what all of them have.
    declined: BTreeMap<String, (u32, BTreeSet<Feature>)>,
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
    pub(crate) start: Start,
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
            Operation::Flush | Operation::Reopen | Operation::Kill | Operation::Fail(_) => return,
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

    pub(crate) const fn disk_is_to_fail(&mut self) {
        self.disk_is_to_fail = true;
    }

    pub(crate) const fn disk_failures(&mut self, failures: u32) {
        self.disk_failures.0 += failures;
    }

    pub(crate) const fn operation_failed(&mut self) {
        self.disk_failures.1 += 1;
    }

    pub(crate) fn decline(&mut self, why: &str, features: &BTreeSet<Feature>) {
        let declined = self.declined.entry(why.to_owned());
        let (count, common) = declined.or_insert_with(|| (0, features.clone()));
        *count += 1;
        common.retain(|feature| features.contains(feature));
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

    /// Has each failure that is told made shorter.
    pub(crate) fn shorten(&mut self, shorter: impl Fn(Failure) -> Failure) {
        let findings = std::mem::take(&mut self.findings).into_iter();
        let shortened = findings.map(|(kind, finding)| {
            let shortest = shorter(finding.shortest);
            (
                kind,
                Finding {
                    shortest,
                    ..finding
                },
            )
        });
        self.findings = shortened.collect();
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

    /// Operations on the disk that failed as they were told to.
    pub const fn failures_of_the_disk(&self) -> u32 {
        self.disk_failures.0
    }

    /// Images that the writer declined to open, by its reason: how many, and what all of them have.
    pub fn declined(&self) -> impl Iterator<Item = (&str, u32, &BTreeSet<Feature>)> {
        let declined = self.declined.iter();
        declined.map(|(why, (count, features))| (why.as_str(), *count, features))
    }

    /// Stores the image of each kind of failure, before and after, in a folder of this test in `folder`,
    /// in the place of what an earlier run has stored there. What cannot be stored is left out.
    pub fn store(&mut self, folder: &Path, test: &str) {
        let folder = folder.join(format!("{}-{test}", self.writer));
        let _ = std::fs::remove_dir_all(&folder);
        for (kind, finding) in &mut self.findings {
            let path = folder.join(format!("{kind}.qcow2"));
            let stored = std::fs::create_dir_all(&folder);
            let Failure { start, image, .. } = &finding.shortest;
            let stored = stored.and_then(|()| start.store(&folder.join(format!("{kind}-before"))));
            let stored = stored.and_then(|()| image.store(&path));
            finding.folder = stored.is_ok().then_some(path);
        }
    }

    /// # Panics
    ///
    /// With the report, if something is wrong, if an image could not be made, if all were declined, if a
    /// kind of operation was asked for and never supported, or if the disk was to fail and none of its
    /// operations did: then it was not judged.
    pub fn check(&self) {
        let mut counts = self.operations.values();
        let declined: u32 = self.declined.values().map(|(count, _)| count).sum();
        let has_failed = self.disk_failures.0 > 0 || !self.disk_is_to_fail;
        let is_judged =
            has_failed && self.runs > declined && counts.all(|(supported, _)| *supported > 0);
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
        write!(f, ", {} states after power cuts", self.power_cuts)?;
        match self.disk_failures {
            (0, _) => writeln!(f)?,
            (failed, errors) => writeln!(
                f,
                ", {failed} operations of the disk failed and {errors} of the writer after them"
            )?,
        }
        if self.leaks > 0 {
            writeln!(f, "warning: closed images leak {} clusters", self.leaks)?;
        }
        for (why, (count, features)) in &self.declined {
            let features: Vec<String> = features.iter().map(Feature::to_string).collect();
            let (features, why) = (features.join(", "), why.trim_end());
            writeln!(f, "declined: {} with {features}: {why}", images(*count))?;
        }
        for why in &self.refused {
            writeln!(f, "no image: {why}")?;
        }
        let mut findings = self.findings.iter();
        findings.try_for_each(|(kind, finding)| tell(f, *kind, finding))
    }
}

fn images(count: u32) -> String {
    format!("{count} image{}", if count == 1 { "" } else { "s" })
}

fn tell(f: &mut fmt::Formatter<'_>, kind: Kind, finding: &Finding) -> fmt::Result {
    let Failure {
        message,
        run,
        operations,
        start,
        ..
    } = &finding.shortest;
    writeln!(
        f,
        "{kind}: {}, as in run {run}, {start}",
        images(finding.count)
    )?;
    writeln!(f, "  {message}")?;
    let from = operations.len().saturating_sub(TOLD);
    for (number, operation) in (1..).zip(operations).skip(from) {
        writeln!(f, "    {number}. {operation}")?;
    }
    if let Some(path) = &finding.folder {
        writeln!(f, "  the image is {}", path.display())?;
    }
    let operations: Vec<String> = operations.iter().map(Operation::to_string).collect();
    let operations = operations.join("; ");
    writeln!(
        f,
        "  again: replay(&writer, &settings, {run}, \"{operations}\")"
    )
}
