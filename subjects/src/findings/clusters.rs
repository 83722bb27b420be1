//! Each cluster of an image: what refers to it, what its refcount is, and whether that is right.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use recount_oracle::audit::{self, Audit, Referrer};
use recount_oracle::case::damage::SparseBytes;

/// Rows of a table, at most; what is left out is said.
const ROWS: usize = 1_000;
/// Things that refer to one cluster and are named.
const NAMED: usize = 6;
/// Other things that are wrong and are named.
const WRONG: usize = 40;

/// Whether a refcount is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not in use, and not counted.
    Free,
    /// As many references as it says.
    Right,
    /// It says that the cluster is free.
    CountsAsFree,
    /// Fewer than there are references.
    TooLow,
    /// More than there are references.
    TooHigh,
    /// There is no refcount to be read.
    Unreadable,
}

impl State {
    /// Whether it is as it has to be.
    pub const fn is_right(self) -> bool {
        matches!(self, Self::Free | Self::Right)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Free => "free",
            Self::Right => "right",
            Self::CountsAsFree => "WRONG: in use, but counts as free",
            Self::TooLow => "WRONG: too low",
            Self::TooHigh => "WRONG: too high, space is lost",
            Self::Unreadable => "WRONG: cannot be read",
        })
    }
}

/// Neighbouring clusters that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The first of them.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// What refers to the first, in words; to the others what follows that.
    pub refers: String,
    /// How many references there are to each.
    pub references: u64,
    /// The refcount of each.
    pub refcount: Option<u64>,
    /// Whether that is right.
    pub state: State,
}

/// All clusters of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The image as a whole, in a sentence.
    pub about: String,
    /// Its clusters.
    pub rows: Vec<Row>,
    /// Rows that are left out.
    pub left_out: usize,
    /// Clusters whose refcount is wrong.
    pub wrong_counts: u64,
    /// What else is wrong.
    pub wrong: Vec<String>,
}

/// The words of the specification for those of the audit.
pub fn plain(text: &str) -> String {
    let text = text.replace("reftable", "refcount table");
    let text = text.replace("refblock", "refcount block");
    text.replace(
        ": says that the refcount",
        ": bit 63 says that the refcount",
    )
}

/// The table of an image; why there is none of one that cannot be opened.
pub fn of(image: &SparseBytes) -> Result<Table, String> {
    if image.pages().next().is_none() {
        let bytes = image.len();
        return Err(format!(
            "of {bytes} bytes, no one is known: all are 0, or they are too many"
        ));
    }
    let audit = audit::audit(image).map_err(|error| plain(&error.to_string()))?;
    let mut rows = Vec::new();
    let mut before: Option<(Vec<Referrer>, Row)> = None;
    for (by, row) in all(&audit) {
        match &mut before {
            Some((last, open)) if continues(open, last, &row, &by) => {
                open.last = row.last;
                *last = by;
            }
            _ => rows.extend(before.replace((by, row)).map(closed)),
        }
    }
    rows.extend(before.map(closed));
    let wrong_counts = rows.iter().filter(|row| !row.state.is_right());
    let wrong_counts = wrong_counts.map(|row| row.last - row.first + 1).sum();
    let left_out = rows.len().saturating_sub(ROWS);
    rows.truncate(ROWS);
    Ok(Table {
        about: about(image, &audit),
        rows,
        left_out,
        wrong_counts,
        wrong: wrong(&audit),
    })
}

fn about(image: &SparseBytes, audit: &Audit) -> String {
    let header = &audit.header;
    let size = header.cluster_size();
    let mut text = format!(
        "{} bytes, {} clusters of {size} bytes, format version {}, refcounts of {} bits",
        image.len(),
        image.len().div_ceil(size),
        header.version,
        header.refcount_bits(),
    );
    for (count, what) in [
        (audit.snapshots.entries.len(), "snapshot"),
        (audit.bitmaps.len(), "bitmap"),
    ] {
        let plural = if count == 1 { "" } else { "s" };
        if count > 0 {
            let _ = write!(text, ", {count} {what}{plural}");
        }
    }
    text
}

/// A row for each stretch of free clusters and each cluster of another kind, with what refers to it.
fn all(audit: &Audit) -> impl Iterator<Item = (Vec<Referrer>, Row)> {
    let mut known: BTreeSet<u64> = audit.references.keys().copied().collect();
    known.extend(audit.disk.counts().keys());
    known.extend(audit.mismatches.iter().map(|wrong| wrong.cluster));
    let mut next = 0;
    let mut rows = Vec::new();
    for cluster in known {
        rows.extend(free(next, cluster));
        next = cluster.saturating_add(1);
        let by: Vec<Referrer> = audit.uses(cluster).copied().collect();
        rows.push((by, row(audit, cluster)));
    }
    rows.extend(free(next, audit.clusters));
    rows.into_iter()
}

fn free(first: u64, end: u64) -> Option<(Vec<Referrer>, Row)> {
    let row = Row {
        first,
        last: end.checked_sub(1)?,
        refers: String::new(),
        references: 0,
        refcount: Some(0),
        state: State::Free,
    };
    (first < end).then_some((Vec::new(), row))
}

fn row(audit: &Audit, cluster: u64) -> Row {
    let references = audit.references_to(cluster);
    let refcount = audit.disk.count(cluster);
    let due = references.min(audit.header.max_refcount());
    let state = match refcount {
        None => State::Unreadable,
        Some(0) if due == 0 => State::Free,
        Some(0) => State::CountsAsFree,
        Some(count) if count == due => State::Right,
        Some(count) if count < due => State::TooLow,
        Some(_) => State::TooHigh,
    };
    Row {
        first: cluster,
        last: cluster,
        refers: String::new(),
        references,
        refcount,
        state,
    }
}

/// Whether a row goes on where the one before it ends, with what follows.
fn continues(open: &Row, last: &[Referrer], next: &Row, by: &[Referrer]) -> bool {
    let alike = (open.references, open.refcount, open.state)
        == (next.references, next.refcount, next.state);
    alike && open.last + 1 == next.first && (last == by || follows(last, by))
}

/// Whether each is the L2 entry behind the other.
fn follows(last: &[Referrer], by: &[Referrer]) -> bool {
    let each = last.iter().zip(by);
    last.len() == by.len()
        && each.into_iter().all(|(last, by)| match *last {
            Referrer::Data {
                layer,
                l1_index,
                l2_index,
            } => {
                *by == Referrer::Data {
                    layer,
                    l1_index,
                    l2_index: l2_index + 1,
                }
            }
            _ => false,
        })
}

/// A row with what refers to it in words, `last` to the last of its clusters.
fn closed((last, mut row): (Vec<Referrer>, Row)) -> Row {
    let clusters = row.last - row.first;
    let mut words = Vec::new();
    for by in last.iter().take(NAMED) {
        words.push(match *by {
            Referrer::Data {
                layer,
                l1_index,
                l2_index,
            } if clusters > 0 && l2_index >= clusters => {
                let first = l2_index - clusters;
                format!("L2 entries {l1_index}/{first} to {l1_index}/{l2_index} of {layer}")
            }
            _ => by.to_string(),
        });
    }
    if last.len() > NAMED {
        words.push(format!("and {} more", last.len() - NAMED));
    }
    row.refers = plain(&words.join(", "));
    row
}

/// What is wrong beside refcounts.
fn wrong(audit: &Audit) -> Vec<String> {
    let all = audit.corruptions.iter().chain(&audit.qemu.copied);
    let mut all: Vec<String> = all.map(|wrong| plain(&wrong.to_string())).collect();
    all.dedup();
    if all.len() > WRONG {
        let more = all.len() - WRONG;
        all.truncate(WRONG);
        all.push(format!("and {more} more"));
    }
    all
}

/// The table as text.
pub fn text(title: &str, table: &Result<Table, String>) -> String {
    let table = match table {
        Ok(table) => table,
        Err(why) => return format!("{title}\n\nThere is nothing to list: {why}.\n"),
    };
    let mut text = format!("{title}: {}.\n\n", table.about);
    text += "\"L2 entry 0/3\" is entry 3 of the L2 table that entry 0 of the L1 table leads to. Snapshots and \
             bitmaps are counted from 0.\n\n";
    let _ = writeln!(
        text,
        "{:<15} {:>10} {:>8}  {:<34} refers to it",
        "cluster", "references", "refcount", "the refcount is"
    );
    for row in &table.rows {
        let (references, refers) = (row.references, &row.refers);
        let (clusters, refcount) = (row.clusters(), row.refcount());
        let state = row.state.to_string();
        let state = if refers.is_empty() {
            state
        } else {
            format!("{state:<34}")
        };
        let line = format!("{clusters:<15} {references:>10} {refcount:>8}  {state} {refers}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if table.left_out > 0 {
        let _ = writeln!(text, "… and {} lines more", table.left_out);
    }
    if !table.wrong.is_empty() {
        let _ = writeln!(text, "\nAlso wrong:\n- {}", table.wrong.join("\n- "));
    }
    text
}

impl Table {
    /// Whether anything is wrong.
    pub fn is_wrong(&self) -> bool {
        self.wrong_counts > 0 || !self.wrong.is_empty()
    }
}

impl Row {
    /// The clusters.
    pub fn clusters(&self) -> String {
        match self.last - self.first {
            0 => self.first.to_string(),
            _ => format!("{} to {}", self.first, self.last),
        }
    }

    /// The refcount.
    pub fn refcount(&self) -> String {
        self.refcount
            .map_or("?".to_owned(), |count| count.to_string())
    }
}
