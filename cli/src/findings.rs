//! Findings as lines: by kind, the worst first, alike neighbours together. Of each kind there are only so
//! many, unless all are wanted.

use std::collections::BTreeSet;
use std::fmt;
use std::mem::discriminant;

use recount::finding::{Finding, L2Place, Miscount, Referrer};
use recount::step::of;
use recount::{Action, Offset};

use crate::places::{Guest, Place, Places};

/// Lines of a kind that are printed.
const LINES_MAX: usize = 20;
/// The bit of an entry that says whether its cluster has one reference.
const COPIED: u64 = 1 << 63;

/// What was found, by kind.
#[derive(Default)]
pub struct Findings {
    kinds: Vec<Kind>,
    /// One after the last byte that something leads to past the end of the file; 0 where nothing does.
    past_end: u64,
}

/// Findings of one kind with which one thing was done.
struct Kind {
    lines: Vec<Line>,
    /// What has no line: how many findings or clusters, and the first of them.
    left_out: u64,
    first_left_out: Option<Line>,
    /// All of them, clusters each on its own.
    total: u64,
}

/// What is told of a finding, and of so many alike side by side.
#[derive(Clone, Copy)]
pub struct Line {
    finding: Finding,
    action: Action,
    count: u64,
}

impl Findings {
    /// One more finding.
    pub fn note(&mut self, finding: &Finding, action: Action) {
        if let Finding::PastEnd(_, region) = finding {
            let end = region.offset.0.saturating_add(region.length);
            self.past_end = self.past_end.max(end);
        }
        let line = Line::of(finding, action);
        let kind = (discriminant(finding), action);
        let is_like = |line: &Line| (discriminant(&line.finding), line.action) == kind;
        let place = self.kinds.iter().position(|kind| is_like(&kind.lines[0]));
        let Some(place) = place else {
            self.kinds.push(Kind {
                lines: vec![line],
                left_out: 0,
                first_left_out: None,
                total: line.count,
            });
            return;
        };
        self.kinds[place].note(line);
    }

    /// How many there are for which this holds, clusters each on its own.
    pub fn count(&self, is_asked: impl Fn(&Finding) -> bool) -> u64 {
        let asked = self
            .kinds
            .iter()
            .filter(|kind| is_asked(&kind.lines[0].finding));
        asked.map(|kind| kind.total).sum()
    }

    /// One after the last byte that something leads to past the end of the file.
    pub fn past_end(&self) -> Option<u64> {
        Some(self.past_end).filter(|end| *end > 0)
    }

    /// The L2 tables that lines name.
    pub fn tables(&self) -> BTreeSet<Offset> {
        let lines = self.kinds.iter().flat_map(|kind| &kind.lines);
        let places = lines.filter_map(|line| Place::of(&line.finding, line.count));
        places.filter_map(Place::table).collect()
    }

    /// What is told of all, the worst first; what is found later begins anew.
    pub fn end(&mut self, places: Option<&Places<'_>>) -> Vec<Told> {
        let mut kinds = std::mem::take(&mut self.kinds);
        kinds.sort_by_key(|kind| severity(&kind.lines[0].finding));
        let told = |line: &Line, left_out: u64| {
            let place = Place::of(&line.finding, line.count).zip(places);
            let holds = places.and_then(|all| all.holds_text(&line.finding));
            Told {
                kind: line.finding.kind(),
                text: format!("{line}{}", holds.unwrap_or_default()),
                count: line.count,
                guest: place.and_then(|(place, all)| all.guest(place)),
                left_out,
            }
        };
        let of_kind = |kind: Kind| {
            let lines = kind.lines.iter().map(|line| told(line, 0));
            let more = kind.first_left_out.iter();
            let more = more.map(|first| told(first, kind.left_out));
            lines.chain(more).collect::<Vec<_>>()
        };
        kinds.into_iter().flat_map(of_kind).collect()
    }
}

/// A line about findings.
pub struct Told {
    /// The name of the kind.
    pub kind: &'static str,
    /// What is said of it.
    pub text: String,
    /// How many findings or clusters it is about.
    pub count: u64,
    /// Where in the virtual disk.
    pub guest: Option<Guest>,
    /// Where it stands for more of the kind that have no line: how many.
    pub left_out: u64,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.left_out > 0 {
            let more = self.left_out;
            write!(f, "... and {more} more (-v shows all), the first: ")?;
        }
        f.write_str(&self.text)?;
        match &self.guest {
            Some(guest) => write!(f, " ({guest})"),
            None => Ok(()),
        }
    }
}

impl Kind {
    fn note(&mut self, line: Line) {
        self.total += line.count;
        if let Some(last) = self.lines.last_mut()
            && self.left_out == 0
            && last.is_followed_by(&line.finding)
        {
            last.count += 1;
        } else if self.lines.len() < LINES_MAX {
            self.lines.push(line);
        } else {
            self.left_out += line.count;
            self.first_left_out.get_or_insert(line);
        }
    }
}

/// The worse the lower: what is lost already, what the next write may destroy, what only wastes space.
const fn severity(finding: &Finding) -> u8 {
    match finding {
        Finding::TooLow(..) | Finding::Overflow(..) | Finding::RefcountsUnreadable(..) => 1,
        Finding::L1Copied(_) | Finding::L2Copied(..) => 2,
        Finding::TableNotWritten { .. } => 3,
        Finding::Leak(..) => 4,
        _ => 0,
    }
}

impl Line {
    const fn of(finding: &Finding, action: Action) -> Self {
        let count = match finding {
            Finding::TooLow(_, count) | Finding::Leak(_, count) => count.0,
            _ => 1,
        };
        Self {
            finding: *finding,
            action,
            count,
        }
    }

    /// Whether a finding is the same of the next entry of the same table.
    fn is_followed_by(&self, next: &Finding) -> bool {
        match (self.finding, next) {
            (Finding::L2Copied(table, one), Finding::L2Copied(next_table, next)) => {
                table == *next_table
                    && one.index + self.count == next.index
                    && one.refcount == next.refcount
                    && (one.entry ^ next.entry) & COPIED == 0
            }
            (Finding::PastEnd(one, _), Finding::PastEnd(next, _)) => match (one, next) {
                (Referrer::Data(one), Referrer::Data(next)) => {
                    one.0 == next.0 && one.1 + self.count == next.1
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// A line for each finding and cluster, in the words of qemu-img.
    pub fn each(finding: &Finding, action: Action) -> impl Iterator<Item = String> {
        let Self { finding, count, .. } = Self::of(finding, action);
        let start = start(&finding, action);
        (0..count).map(move |number| match finding {
            Finding::TooLow(first, _) | Finding::Leak(first, _) => {
                format!("{start}{}", first.after(number))
            }
            _ => format!("{start}{finding}"),
        })
    }

    fn of_clusters(&self, miscount: Miscount, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cluster, refcount) = (miscount.cluster, miscount.refcount);
        let references = of(miscount.references, "reference");
        if self.count == 1 {
            return write!(f, "cluster {cluster}: refcount {refcount}, {references}");
        }
        let last = cluster.0 + self.count - 1;
        write!(
            f,
            "clusters {cluster} to {last}: refcount {refcount}, {references} each"
        )
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(start(&self.finding, self.action))?;
        match self.finding {
            Finding::TooLow(miscount, _) | Finding::Leak(miscount, _) => {
                self.of_clusters(miscount, f)
            }
            Finding::L2Copied(table, one) if self.count > 1 => {
                let (first, last) = (one.index, one.index + self.count - 1);
                let refcount = one.refcount;
                write!(
                    f,
                    "OFLAG_COPIED of L2 entries {first} to {last} of the table at {table}: "
                )?;
                write!(f, "data clusters with refcount={refcount}")
            }
            Finding::PastEnd(Referrer::Data(L2Place(table, first)), _) if self.count > 1 => {
                let last = first + self.count - 1;
                write!(
                    f,
                    "data clusters of L2 entries {first} to {last} of the table at {table} "
                )?;
                f.write_str("lie past the end of the file")
            }
            finding => write!(f, "{finding}"),
        }
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
