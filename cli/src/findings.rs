//! Findings as lines. Of each kind there are only so many, unless all are wanted.

use std::fmt;
use std::mem::discriminant;

use recount::Action;
use recount::finding::{Finding, Miscount};
use recount::step::of;

/// Lines of a kind that are printed.
const LINES_MAX: u64 = 20;

/// Which findings get a line: of each kind how many did, how many did not, and the first of these.
#[derive(Default)]
pub struct Findings(Vec<(Line, u64, u64)>);

/// What is told of a finding.
#[derive(Clone, Copy)]
pub struct Line(pub Finding, pub Action);

impl Findings {
    /// Whether one more finding gets its line.
    pub fn shows(&mut self, finding: &Finding, action: Action) -> bool {
        let kind = (discriminant(finding), action);
        let mut kinds = self.0.iter_mut();
        let is_like = |line: &Line| (discriminant(&line.0), line.1) == kind;
        let Some((line, lines, left_out)) = kinds.find(|(line, ..)| is_like(line)) else {
            self.0.push((Line(*finding, action), 1, 0));
            return true;
        };
        if *lines < LINES_MAX {
            *lines += 1;
            return true;
        }
        if *left_out == 0 {
            line.0 = *finding;
        }
        *left_out += clusters(finding).map_or(1, |(_, count)| count);
        false
    }

    /// What is said of those left out when nothing more is found for now; the lines begin anew then.
    pub fn end(&mut self) -> Vec<String> {
        let kinds = std::mem::take(&mut self.0).into_iter();
        let cut = kinds.filter(|(_, _, left_out)| *left_out > 0);
        let more = |(line, _, left_out)| {
            format!("... and {left_out} more (-v shows all), the first: {line}")
        };
        cut.map(more).collect()
    }
}

/// The first of the clusters that a finding is about, and how many there are side by side.
const fn clusters(finding: &Finding) -> Option<(Miscount, u64)> {
    match finding {
        Finding::TooLow(first, count) | Finding::Leak(first, count) => Some((*first, count.0)),
        _ => None,
    }
}

impl Line {
    /// A line for each cluster, in the words of qemu-img.
    pub fn each(&self) -> impl Iterator<Item = String> {
        let Self(finding, action) = *self;
        let miscounts = clusters(&self.0);
        (0..miscounts.map_or(1, |(_, count)| count)).map(move |number| match miscounts {
            Some((first, _)) => format!("{}{}", start(&finding, action), first.after(number)),
            None => format!("{}{finding}", start(&finding, action)),
        })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(finding, action) = self;
        f.write_str(start(finding, *action))?;
        let Some((miscount, count)) = clusters(finding) else {
            return write!(f, "{finding}");
        };
        let (cluster, refcount) = (miscount.cluster, miscount.refcount);
        let references = of(miscount.references, "reference");
        if count == 1 {
            return write!(f, "cluster {cluster}: refcount {refcount}, {references}");
        }
        let clusters = format_args!("clusters {cluster} to {}", cluster.0 + count - 1);
        write!(f, "{clusters}: refcount {refcount}, {references} each")
    }
}

/// How the message of a finding begins in `qemu-img check`.
const fn start(finding: &Finding, action: Action) -> &'static str {
    match (action, finding) {
        (Action::Repaired, _) => "Repairing ",
        (Action::Reported, Finding::Leak(..)) => "Leaked ",
        (Action::Reported, _) => "ERROR ",
    }
}
