//! Times by commit: a file of JSON lines that only grows, and a page with a curve for each task.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use maud::{Markup, PreEscaped, html};
use serde::{Deserialize, Serialize};

use super::compare::Row;
use super::revision;
use crate::error::Result;
use crate::versus::report::tenths;

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
pub fn append(path: &Path, rows: &[Row]) -> Result<()> {
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
pub fn write_page(path: &Path) -> Result<PathBuf> {
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
    for entries in tasks.values_mut() {
        entries.sort_by_key(|entry| entry.time);
    }
    let page = html! {
        (PreEscaped("<!doctype html>"))
        meta charset="utf-8";
        title { "recount: times by commit" }
        style { "body { font: 14px sans-serif; margin: 2em } svg { overflow: visible }" }
        h1 { "recount: processor time by commit" }
        p {
            "A point for each time a commit was measured, oldest first; pointing at one shows which \
             commit it is."
        }
        @for (task, entries) in &tasks {
            h2 { (task) }
            (curve(entries))
        }
    };
    page.into_string()
}

/// From 0 to the longest time, commits at equal distances.
fn curve(entries: &[&Entry]) -> Markup {
    let longest = entries
        .iter()
        .map(|entry| entry.seconds)
        .fold(0.0, f64::max);
    let steps = u32::try_from(entries.len().max(2) - 1).unwrap_or(u32::MAX);
    let x = |number: u32| tenths(WIDTH * f64::from(number) / f64::from(steps));
    let y = |entry: &Entry| tenths(HEIGHT * (1.0 - entry.seconds / longest.max(f64::MIN_POSITIVE)));
    // As much of a commit's name as tells it from others.
    let short = |entry: &Entry| entry.commit.chars().take(12).collect::<String>();
    let points = (0..).zip(entries);
    let line = points
        .clone()
        .map(|(number, entry)| format!("{},{}", x(number), y(entry)));
    // A single one is at the left alone.
    let ends = entries.first().map(|first| (first, 0.0, "start"));
    let ends = ends.into_iter().chain(match entries {
        [_, .., last] => Some((last, WIDTH, "end")),
        _ => None,
    });
    html! {
        svg viewBox={ "-10 -10 " (WIDTH + 90.0) " " (HEIGHT + 40.0) } width=(WIDTH + 90.0)
            font-size="11" {
            line x2=(WIDTH) y1=(HEIGHT) y2=(HEIGHT) stroke="#999" {}
            line x2=(WIDTH) stroke="#ddd" {}
            text x=(WIDTH + 8.0) y=(HEIGHT + 4.0) fill="#666" { "0" }
            text x=(WIDTH + 8.0) y="4" fill="#666" { (format!("{:.2} ms", longest * 1e3)) }
            polyline points=(line.collect::<Vec<_>>().join(" ")) fill="none" stroke="#3a6ea5" {}
            @for (number, entry) in points {
                circle cx=(x(number)) cy=(y(entry)) r="3" {
                    title { (short(entry)) ": " (format!("{:.2} ms", entry.seconds * 1e3)) }
                }
            }
            @for (entry, x, anchor) in ends {
                text x=(x) y=(HEIGHT + 16.0) text-anchor=(anchor) fill="#666" { (short(entry)) }
            }
        }
    }
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
