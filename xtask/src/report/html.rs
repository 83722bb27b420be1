//! The report as one page that opens from disk: no script, nothing loaded from elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, PreEscaped, html};

use super::model::{Count, Failure, Report, Run};
use super::picture::{Picture, Stretch, Use};
use crate::versus::report::tenths;

/// How it looks; light or dark as the reader's system is.
const STYLE: &str = include_str!("report.css");
/// Width and height of the chart.
const CHART: (f64, f64) = (600.0, 160.0);
/// Room for the numbers at its sides.
const MARGIN: f64 = 40.0;
/// Stretches of clusters longer than this are one cell with a number.
const LONGEST: u64 = 16;

/// The page.
pub fn of(report: &Report) -> String {
    let failures = report.counting();
    let (counting, others): (Vec<_>, Vec<_>) =
        report.failures.iter().partition(|failure| failure.counts);
    let page = html! {
        (PreEscaped("<!doctype html>"))
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "recount differential: " (failures) " failures in " (report.cases) " cases" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { "recount differential" }
                    p class={ "verdict " (if failures == 0 { "good" } else { "bad" }) } {
                        (report.cases) " cases, " (report.synthetic) " of them synthetic, "
                        (format_args!("{:.1}", report.rate())) " a second; "
                        strong { (failures) " failures" }
                    }
                    ul .runs {
                        @for Run { seed, shard, seconds, .. } in &report.runs {
                            li {
                                "seed " (seed) ", shard " (shard.0) "/" (shard.1) ", "
                                (format_args!("{seconds:.0}")) " s"
                            }
                        }
                    }
                    (properties(report))
                    (comparisons(report))
                    (chart(report))
                    @if !counting.is_empty() {
                        h2 { "Failures" }
                        (failure_list(&counting))
                    }
                    @if !others.is_empty() {
                        h2 { "Examples of what others do" }
                        p { "These do not count: a program that is observed, not answered for." }
                        (failure_list(&others))
                    }
                }
            }
        }
    };
    page.into_string()
}

/// Properties by subjects.
fn properties(report: &Report) -> Markup {
    let properties = &report.properties;
    let names: BTreeSet<&String> = properties.values().flat_map(BTreeMap::keys).collect();
    let heads = report.subjects.iter().map(|subject| {
        html! {
            @if subject.answerable { strong { (subject.name) } } @else { (subject.name) }
        }
    });
    let row = |name: &String| {
        let counts = report.subjects.iter().map(|subject| {
            let by = properties.get(&subject.name);
            by.and_then(|by| by.get(name)).copied()
        });
        (name.clone(), counts.collect())
    };
    html! {
        @if !names.is_empty() {
            h2 { "Properties by subjects" }
            p {
                "How many repairs failed, of those that the property says anything about. Failures \
                 of subjects in " strong { "bold" } " count."
            }
            (table(&heads.collect::<Vec<_>>(), names.into_iter().map(row)))
        }
    }
}

fn comparisons(report: &Report) -> Markup {
    let comparisons = &report.comparisons;
    let versions: BTreeSet<&String> = comparisons.values().flat_map(BTreeMap::keys).collect();
    let heads: Vec<Markup> = versions.iter().map(|version| html! { (version) }).collect();
    let rows = comparisons.iter().map(|(name, by)| {
        let counts = versions.iter().map(|version| by.get(*version).copied());
        (name.clone(), counts.collect())
    });
    html! {
        @if !versions.is_empty() {
            h2 { "recount compared with" }
            (table(&heads, rows))
            @if !report.on_purpose.is_empty() {
                p { "Differences on purpose:" }
                ul { @for (purpose, times) in &report.on_purpose { li { (purpose) ": " (times) } } }
            }
        }
    }
}

fn table(heads: &[Markup], rows: impl Iterator<Item = (String, Vec<Option<Count>>)>) -> Markup {
    html! {
        div .wide {
            table {
                thead { tr { th {} @for head in heads { th scope="col" { (head) } } } }
                tbody {
                    @for (name, counts) in rows {
                        tr {
                            th scope="row" { (name) }
                            @for count in counts { (cell(count)) }
                        }
                    }
                }
            }
        }
    }
}

fn cell(count: Option<Count>) -> Markup {
    let count = count.unwrap_or_default();
    html! {
        @if count.said() == 0 {
            td .none { "–" }
        } @else {
            td class=(if count.failed > 0 { "bad" } else { "good" }) {
                b { (count.failed) } " of " (count.said())
                @if count.on_purpose > 0 { small { (count.on_purpose) " on purpose" } }
            }
        }
    }
}

fn failure_list(failures: &[&Failure]) -> Markup {
    html! {
        p .legend {
            @for holds in Use::all() { span { i class={ "c " (holds) } {} (holds) } }
            span { i class="c data wrong" {} "refcount wrong" }
        }
        @for failure in failures {
            details open[failure.counts && !failure.story.is_empty()] {
                summary {
                    b { (failure.subject) } ": " (failure.what) " "
                    span .case { "case " (failure.case) }
                }
                @if !failure.story.is_empty() { pre { (failure.story) } }
                p { code { (failure.rerun) } }
                @if let Some(minimal) = &failure.minimal { p { "Smaller: " code { (minimal) } } }
                @for (title, picture) in [("before", &failure.before), ("after", &failure.after)] {
                    @if let Some(picture) = picture { (figure(title, picture)) }
                }
            }
        }
    }
}

/// An image as coloured cells, a cluster a cell.
fn figure(title: &str, picture: &Picture) -> Markup {
    html! {
        figure {
            figcaption {
                (title) ": " (picture.clusters) " clusters of " (picture.cluster_size) " bytes"
            }
            div .cells {
                @for stretch in &picture.stretches { (cells(stretch)) }
                @if picture.left_out > 0 {
                    span .more { "and " (picture.left_out) " stretches more" }
                }
            }
        }
    }
}

fn cells(stretch: &Stretch) -> Markup {
    let (first, name) = (stretch.first, stretch.holds);
    let end = first + stretch.clusters;
    let (class, says) = if stretch.wrong {
        (" wrong", ", refcount wrong")
    } else {
        ("", "")
    };
    html! {
        @if stretch.clusters > LONGEST {
            i class={ "c " (name) (class) " many" }
                title={ "clusters " (first) " to " (end - 1) ": " (name) (says) }
                { "×" (stretch.clusters) }
        } @else {
            @for cluster in first..end {
                i class={ "c " (name) (class) } title={ "cluster " (cluster) ": " (name) (says) } {}
            }
        }
    }
}

/// How fast each run was, over its time: a line of cases a second, between one note and the next.
fn chart(report: &Report) -> Markup {
    let runs: Vec<Vec<(f64, f64)>> = report.runs.iter().map(rates).collect();
    let points = || runs.iter().flatten();
    let longest = points().map(|point| point.0).fold(0.0, f64::max);
    let fastest = points().map(|point| point.1).fold(0.0, f64::max);
    let (width, height) = CHART;
    let x = |seconds: f64| tenths(MARGIN + (width - 2.0 * MARGIN) * seconds / longest);
    let y = |rate: f64| tenths(height - MARGIN / 2.0 - (height - MARGIN) * rate / fastest);
    let line = |run: &Vec<(f64, f64)>| {
        let points = run.iter();
        let points = points.map(|(seconds, rate)| format!("{},{}", x(*seconds), y(*rate)));
        points.collect::<Vec<_>>().join(" ")
    };
    html! {
        @if longest > 0.0 && fastest > 0.0 {
            h2 { "Cases a second" }
            svg viewBox={ "0 0 " (width) " " (height) } role="img"
                aria-label="cases a second over time" {
                @for rate in [0.0, fastest] {
                    @let at = y(rate);
                    line x1=(MARGIN) x2=(width - MARGIN) y1=(at) y2=(at) {}
                    text x=(MARGIN - 6.0) y=(at + 4.0) text-anchor="end" {
                        (format_args!("{rate:.0}"))
                    }
                }
                @for run in &runs { polyline points=(line(run)) {} }
                text x=(width - MARGIN) y=(height - 4.0) text-anchor="end" {
                    (format_args!("{longest:.0} s"))
                }
            }
        }
    }
}

/// Seconds, and cases a second since the note before.
#[expect(clippy::cast_precision_loss, reason = "a point of a line is not exact")]
fn rates(run: &Run) -> Vec<(f64, f64)> {
    let notes = run.progress.iter().zip(run.progress.iter().skip(1));
    let passed = notes.filter(|(before, now)| now.seconds > before.seconds);
    let rate = passed.map(|(before, now)| {
        let done = now.cases.saturating_sub(before.cases) as f64;
        (now.seconds, done / (now.seconds - before.seconds))
    });
    rate.collect()
}

#[cfg(test)]
mod tests;
