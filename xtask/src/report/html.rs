//! The report as one page that opens from disk: no script, nothing loaded from elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, PreEscaped, html};
use recount_subjects::findings::{FOLDER, PAGE};

use super::model::{Count, Failure, Report, Run};
use super::picture::{Picture, Stretch, Use};
use super::question::rank;
use crate::columns;

/// How it looks; light or dark as the reader's system is.
const STYLE: &str = include_str!("report.css");
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
                    @for verdict in report.verdicts() {
                        p class={ "verdict " (if verdict.good { "good" } else { "bad" }) } { (verdict.text) }
                    }
                    ul .runs {
                        li {
                            (report.cases) " cases, " (report.synthetic) " of them synthetic, "
                            (columns::two_digits(report.rate())) " a second; "
                            strong { (failures) " failures" }
                        }
                        @for Run { seed, shard, seconds, .. } in &report.runs {
                            li {
                                "seed " (seed) ", shard " (shard.0) "/" (shard.1) ", "
                                (format_args!("{seconds:.0}")) " s"
                            }
                        }
                    }
                    (properties(report))
                    (comparisons(report))
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
    let columns = report.subjects.iter().filter_map(|subject| {
        let head = html! {
            @if subject.answerable { strong { (subject.name) } } @else { (subject.name) }
        };
        Some((head, report.properties.get(&subject.name)?))
    });
    html! {
        @if report.properties.values().any(|counts| !counts.is_empty()) {
            h2 { "Properties by subjects" }
            p {
                "How many repairs failed, of those that the property says anything about. Failures \
                 of subjects in " strong { "bold" } " count."
            }
            (table(&columns.collect::<Vec<_>>()))
        }
    }
}

fn comparisons(report: &Report) -> Markup {
    let columns = report.comparisons.iter();
    let columns = columns.map(|(version, counts)| (html! { (version) }, counts));
    html! {
        @if !report.comparisons.is_empty() {
            h2 { "recount compared with" }
            (table(&columns.collect::<Vec<_>>()))
            @if !report.on_purpose.is_empty() {
                p { "Differences on purpose:" }
                ul { @for (purpose, times) in &report.on_purpose { li { (purpose) ": " (times) } } }
            }
        }
    }
}

/// What was asked, by whom it was asked of.
fn table(columns: &[(Markup, &BTreeMap<String, Count>)]) -> Markup {
    let names = columns.iter().flat_map(|(_, by)| by.keys());
    let names: BTreeSet<_> = names.map(|name| (rank(name), name)).collect();
    html! {
        div .wide {
            table {
                thead { tr { th {} @for (head, _) in columns { th scope="col" { (head) } } } }
                tbody {
                    @for (_, name) in names {
                        tr {
                            th scope="row" { (name) }
                            @for (_, by) in columns { (cell(by.get(name))) }
                        }
                    }
                }
            }
        }
    }
}

fn cell(count: Option<&Count>) -> Markup {
    let count = count.copied().unwrap_or_default();
    html! {
        @if count.said() == 0 && count.declined == 0 {
            td .none { "–" }
        } @else {
            td class=(if count.failed > 0 { "bad" } else { "good" }) {
                b { (count.failed) } " of " (count.said())
                @if count.declined > 0 { small { (count.declined) " declined" } }
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
        @for alike in failures.chunk_by(|one, next| one.is_alike(next)) {
            @let (failure, others) = (alike[0], &alike[1..]);
            details open[failure.counts] {
                summary {
                    b { (failure.subject) } ": " (failure.what) " "
                    span .case { "case " (failure.case) }
                    @if !others.is_empty() { " and " (others.len()) " more alike" }
                }
                pre { (failure.story) }
                p { code { (failure.rerun) } }
                @if let Some(name) = &failure.finding {
                    p { a href={ (FOLDER) "/" (name) "/" (PAGE) } { "The image, a script that builds it, and what happened, to pass on" } }
                }
                @if let Some(minimal) = &failure.minimal { p { "Smaller: " code { (minimal) } } }
                @for (title, picture) in [("before", &failure.before), ("after", &failure.after)] {
                    @if let Some(picture) = picture { (figure(title, picture)) }
                }
                @if !others.is_empty() {
                    details {
                        summary { "The others" }
                        ul { @for other in others { li { code { (other.rerun) } } } }
                    }
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

#[cfg(test)]
mod tests;
