//! What was found, for people and for programs.

use std::fmt;

use recount::storage::shown;
use recount::{Image, Run};
use serde_json::{Map, Value, json};

use super::idle::{Entries, Idle};
use super::lines::{Kind, Lines};
use super::search::{Content, FoundTable};
use crate::args::FindArguments;

/// All of it.
pub struct Output<'a> {
    pub arguments: &'a FindArguments,
    pub image: Image,
    pub lines: Lines,
    pub tables: Vec<FoundTable>,
    pub idle: Idle,
    /// Lines of a kind.
    pub most: usize,
}

/// How it is called.
const fn name(content: Content) -> &'static str {
    match content {
        Content::L2Table => "L2 table",
        Content::L1Table => "L1 table",
        Content::SnapshotTable => "snapshot table",
        Content::Reftable => "refcount table",
        Content::Refblock => "refcount block",
        Content::Data => "data",
        Content::Compressed => "compressed data",
        Content::Zeros => "zeros",
        Content::NotRead => "not looked at",
    }
}

impl fmt::Display for Output<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lines.total {
            0 => return writeln!(f, "There is no cluster in use that nothing refers to."),
            1 => writeln!(f, "There is 1 cluster in use that nothing refers to:")?,
            total => writeln!(
                f,
                "There are {total} clusters in use that nothing refers to:"
            )?,
        }
        for (content, kind) in self.lines.kinds() {
            if content == Content::L2Table {
                self.tables(f)?;
            } else {
                clusters(f, content, kind)?;
            }
        }
        if self
            .lines
            .kinds()
            .any(|(content, _)| content == Content::NotRead)
        {
            let why = "1 GiB has been read, and no more is: the others were not looked at.";
            writeln!(f, "{why}")?;
        }
        if self.tables.is_empty() {
            return Ok(());
        }
        if self.idle.list.is_empty() {
            return writeln!(f, "\nEvery L1 entry leads to an L2 table.");
        }
        writeln!(f, "\nThese L1 entries lead to no L2 table:")?;
        self.idle
            .list
            .iter()
            .try_for_each(|entries| write!(f, "{entries}"))?;
        more(f, self.idle.left_out)?;
        let name = shown(&self.arguments.image.name);
        writeln!(
            f,
            "`recount mend {name} --l1 INDEX=OFFSET` shows what one of them would lead to."
        )
    }
}

impl Output<'_> {
    fn tables(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in self.tables.iter().take(self.most) {
            writeln!(f, "L2 table at {}: {table}", table.offset)?;
        }
        more(f, self.tables.len().saturating_sub(self.most) as u64)
    }

    /// For programs; the version changes where a field does.
    pub fn json(&self) -> Value {
        let table = |table: &FoundTable| {
            json!({
                "offset": table.offset.0,
                "entries": table.entries,
                "whole": table.whole,
                "lost": table.lost,
            })
        };
        let runs = |(content, kind): (Content, &Kind)| {
            let run = move |run: &Run| json!({"content": name(content), "first": run.first.0, "count": run.count.0});
            kind.runs.iter().map(run).collect::<Vec<_>>()
        };
        let mut left_out = Map::new();
        let kinds = self
            .lines
            .kinds()
            .map(|(content, kind)| (name(content), kind.left_out));
        let idle = ("L1 entries", self.idle.left_out);
        for (name, count) in kinds.chain([idle]).filter(|(_, count)| *count > 0) {
            left_out.insert(name.to_owned(), count.into());
        }
        let tables = self.tables.iter().take(self.most);
        json!({
            "version": 1,
            "filename": self.arguments.image.name.to_string_lossy(),
            "cluster-size": self.image.geometry().cluster_size(),
            "total": self.lines.total,
            "l2-tables": tables.map(table).collect::<Vec<_>>(),
            "clusters": self.lines.kinds().flat_map(runs).collect::<Vec<_>>(),
            "l1-entries": self.idle.list.iter().map(Entries::json).collect::<Vec<_>>(),
            "left-out": left_out,
        })
    }
}

/// A kind of which there are runs.
fn clusters(f: &mut fmt::Formatter<'_>, content: Content, kind: &Kind) -> fmt::Result {
    let name = name(content);
    for Run { first, count } in &kind.runs {
        let last = first.0 + count.0 - 1;
        match count.0 {
            1 => writeln!(f, "cluster {first}: {name}")?,
            _ => writeln!(f, "clusters {first} to {last}: {name}")?,
        }
    }
    more(f, kind.left_out)
}

impl fmt::Display for FoundTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            whole,
            entries,
            lost,
            ..
        } = self;
        write!(
            f,
            "{whole} of {entries} clusters are whole, {lost} used by nothing else"
        )
    }
}

impl fmt::Display for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, layer, guest) = (self.first, &self.layer, &self.guest);
        let last = first + self.count - 1;
        match self.count {
            1 => write!(f, "entry {first} of {layer} is ")?,
            _ => write!(f, "entries {first} to {last} of {layer} are ")?,
        }
        let what = if self.are_empty { "empty" } else { "damaged" };
        writeln!(f, "{what} (guest {} to {})", guest.start, guest.end - 1)
    }
}

impl Entries {
    fn json(&self) -> Value {
        json!({
            "layer": self.layer,
            "first": self.first,
            "count": self.count,
            "state": if self.are_empty { "empty" } else { "damaged" },
            "guest": {"start": self.guest.start, "end": self.guest.end},
        })
    }
}

/// What is left out.
fn more(f: &mut fmt::Formatter<'_>, count: u64) -> fmt::Result {
    match count {
        0 => Ok(()),
        _ => writeln!(f, "... and {count} more (-v shows all)"),
    }
}
