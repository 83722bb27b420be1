//! Times by commit: a file of JSON lines that only grows, and a page with a curve for each task.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::compare::Row;
use super::revision;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 120.0;

/// One task at one commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    /// The commit that was checked out; the tree may have had changes on top.
    commit: String,
    /// When it was made, in seconds since 1970.
    time: i64,
    task: String,
    /// Median processor seconds.
    seconds: f64,
}

/// Appends a line for each task.
pub fn append(path: &Path, rows: &[Row]) -> io::Result<()> {
    let commit = revision::commit("HEAD")?;
    let time = revision::time(&commit)?;
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    for row in rows {
        let entry = Entry {
            commit: commit.clone(),
            time,
            task: row.name.clone(),
            seconds: row.after,
        };
        writeln!(file, "{}", serde_json::to_string(&entry)?)?;
    }
    Ok(())
}

/// Writes the page next to the file; where it is.
pub fn write_page(path: &Path) -> io::Result<PathBuf> {
    let text = fs::read_to_string(path)?;
    let entries: Result<Vec<Entry>, _> = text.lines().map(serde_json::from_str).collect();
    let page = path.with_extension("html");
    fs::write(&page, html(&entries?))?;
    Ok(page)
}

fn html(entries: &[Entry]) -> String {
    let mut tasks: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        tasks.entry(&entry.task).or_default().push(entry);
    }
    let mut page = "<!doctype html>\n<meta charset=\"utf-8\">\n<title>recount: times by commit\
                    </title>\n<style>body { font: 14px sans-serif; margin: 2em } \
                    svg { overflow: visible }</style>\n<h1>recount: processor time by \
                    commit</h1>\n<p>A point for each time a commit was measured, oldest first; \
                    pointing at one shows which commit it is.</p>\n"
        .to_owned();
    for (task, mut entries) in tasks {
        entries.sort_by_key(|entry| entry.time);
        let _ = writeln!(page, "<h2>{task}</h2>\n{}", curve(&entries));
    }
    page
}

/// From 0 to the longest time, commits at equal distances.
fn curve(entries: &[&Entry]) -> String {
    let longest = entries
        .iter()
        .map(|entry| entry.seconds)
        .fold(0.0, f64::max);
    let steps = (1..entries.len().max(2)).fold(0.0, |steps, _| steps + 1.0);
    let step = WIDTH / steps;
    let mut x = 0.0;
    let mut line = String::new();
    let mut dots = String::new();
    for entry in entries {
        let y = HEIGHT * (1.0 - entry.seconds / longest.max(f64::MIN_POSITIVE));
        let _ = write!(line, "{x:.1},{y:.1} ");
        let commit = short(&entry.commit);
        let _ = writeln!(
            dots,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"><title>{commit}: {:.2} ms</title></circle>",
            entry.seconds * 1e3,
        );
        x += step;
    }
    let ends = [
        (entries.first(), 0.0, "start"),
        (entries.last(), WIDTH, "end"),
    ];
    // A single one is both.
    let named = if entries.len() > 1 { 2 } else { 1 };
    let labels = ends[..named].iter().filter_map(|(entry, x, anchor)| {
        let commit = entry.map(|entry| short(&entry.commit))?;
        let y = HEIGHT + 16.0;
        Some(format!(
            "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" fill=\"#666\">{commit}</text>\n"
        ))
    });
    format!(
        "<svg viewBox=\"-10 -10 {} {}\" width=\"{}\" font-size=\"11\">\n\
         <line x2=\"{WIDTH}\" y1=\"{HEIGHT}\" y2=\"{HEIGHT}\" stroke=\"#999\"/>\
         <line x2=\"{WIDTH}\" stroke=\"#ddd\"/>\
         <text x=\"{3}\" y=\"{4}\" fill=\"#666\">0</text>\
         <text x=\"{3}\" y=\"4\" fill=\"#666\">{5:.2} ms</text>\n\
         <polyline points=\"{line}\" fill=\"none\" stroke=\"#3a6ea5\"/>\n{dots}{6}</svg>",
        WIDTH + 90.0,
        HEIGHT + 40.0,
        WIDTH + 90.0,
        WIDTH + 8.0,
        HEIGHT + 4.0,
        longest * 1e3,
        labels.collect::<String>(),
    )
}

/// As much of a commit's name as tells it from others.
fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_a_curve_for_each_task_and_a_dot_for_each_commit() {
        let entry = |commit: &str, time, task: &str| Entry {
            commit: commit.to_owned(),
            time,
            task: task.to_owned(),
            seconds: 0.002,
        };
        let page = html(&[
            entry("b", 2, "one"),
            entry("a", 1, "one"),
            entry("a", 1, "two"),
        ]);
        assert_eq!(page.matches("<polyline").count(), 2);
        assert_eq!(page.matches("<circle").count(), 3);
        assert!(page.find("<title>a: 2.00 ms").unwrap() < page.find("<title>b").unwrap());
    }
}
