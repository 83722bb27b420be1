//! Findings as lines. Neighbours that are alike share one, and of each kind there are only so many,
//! unless all are wanted.

use std::fmt;
use std::mem::discriminant;

use recount::Action;
use recount::finding::{Finding, Miscount};
use recount::step::of;

/// Lines of a kind that are printed.
const LINES_MAX: u64 = 20;

/// Turns findings into lines.
#[derive(Default)]
pub struct Findings {
    /// What the next line tells of.
    pending: Option<Line>,
    /// Of each kind the last line, how many there were, and how many findings got none.
    kinds: Vec<(Line, u64, u64)>,
}

/// So many findings that differ in their cluster alone, side by side from that of the first on.
#[derive(Clone, Copy)]
pub struct Line(Finding, Action, u64);

impl Findings {
    /// Takes one more finding; returns the line that is complete by it.
    pub fn add(&mut self, finding: Finding, action: Action) -> Option<Line> {
        let line = Line(finding, action, 1);
        if let Some(pending) = &mut self.pending
            && pending.goes_on_with(&line)
        {
            pending.2 += 1;
            return None;
        }
        let complete = self.pending.replace(line)?;
        self.within_limit(complete)
    }

    /// The lines that are left when nothing more is found for now; of each kind they begin anew then.
    pub fn end(&mut self) -> Vec<String> {
        let last = self.pending.take().and_then(|line| self.within_limit(line));
        let mut lines: Vec<_> = last.iter().map(Line::to_string).collect();
        for (line, _, left_out) in std::mem::take(&mut self.kinds) {
            let more = format!("... and {left_out} more (-v shows all), the last: {line}");
            lines.extend((left_out > 0).then_some(more));
        }
        lines
    }

    fn within_limit(&mut self, line: Line) -> Option<Line> {
        let mut kinds = self.kinds.iter_mut();
        let Some((last, lines, left_out)) = kinds.find(|(last, ..)| last.is_like(&line)) else {
            self.kinds.push((line, 1, 0));
            return Some(line);
        };
        *last = line;
        if *lines == LINES_MAX {
            *left_out += line.2;
            return None;
        }
        *lines += 1;
        Some(line)
    }
}

impl Line {
    fn is_like(&self, other: &Self) -> bool {
        discriminant(&self.0) == discriminant(&other.0) && self.1 == other.1
    }

    fn goes_on_with(&self, other: &Self) -> bool {
        let next = self.miscount().map(|mut miscount| {
            miscount.cluster.0 += self.2;
            miscount
        });
        next.is_some() && next == other.miscount() && self.is_like(other)
    }

    const fn miscount(&self) -> Option<Miscount> {
        match self.0 {
            Finding::TooLow(miscount) | Finding::Leak(miscount) => Some(miscount),
            _ => None,
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(finding, action, count) = self;
        f.write_str(start(finding, *action))?;
        let Some(miscount) = self.miscount() else {
            return write!(f, "{finding}");
        };
        let (cluster, refcount) = (miscount.cluster, miscount.refcount);
        let references = of(miscount.references, "reference");
        if *count == 1 {
            return write!(f, "cluster {cluster}: refcount {refcount}, {references}");
        }
        let clusters = format_args!("clusters {cluster} to {}", cluster.0 + count - 1);
        write!(f, "{clusters}: refcount {refcount}, {references} each")
    }
}

/// How the message of a finding begins in `qemu-img check`.
pub const fn start(finding: &Finding, action: Action) -> &'static str {
    match (action, finding) {
        (Action::Repaired, _) => "Repairing ",
        (Action::Reported, Finding::Leak(_)) => "Leaked ",
        (Action::Reported, _) => "ERROR ",
    }
}
