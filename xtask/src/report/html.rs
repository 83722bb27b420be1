//! The report as one page that opens from disk: no script, nothing loaded from elsewhere.

mod chart;
mod pictures;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::model::{Count, Failure, Report};

/// How it looks; light or dark as the reader's system is.
const STYLE: &str = include_str!("report.css");

/// The page.
pub fn of(report: &Report) -> String {
    let mut page = Page(String::new());
    page.head(report);
    page.summary(report);
    page.properties(report);
    page.comparisons(report);
    page.0 += &chart::of(report);
    page.failures(report);
    page.0 += "</main></body></html>\n";
    page.0
}

/// Text as it may stand in the page.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            c => safe.push(c),
        }
    }
    safe
}

struct Page(String);

impl Page {
    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.0.write_fmt(text);
    }

    fn head(&mut self, report: &Report) {
        let failures = report.counting();
        self.add(format_args!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\">\
             <title>recount differential: {failures} failures in {} cases</title>\
             <style>{STYLE}</style></head><body><main><h1>recount differential</h1>",
            report.cases
        ));
    }

    fn summary(&mut self, report: &Report) {
        let failures = report.counting();
        let verdict = if failures == 0 { "good" } else { "bad" };
        self.add(format_args!(
            "<p class=\"verdict {verdict}\">{} cases, {} of them synthetic, {:.1} a second; \
             <strong>{failures} failures</strong></p><ul class=\"runs\">",
            report.cases,
            report.synthetic,
            report.rate()
        ));
        for run in &report.runs {
            self.add(format_args!(
                "<li>seed {}, shard {}/{}, {:.0} s</li>",
                run.seed, run.shard.0, run.shard.1, run.seconds
            ));
        }
        self.0 += "</ul>";
    }

    /// Properties by subjects.
    fn properties(&mut self, report: &Report) {
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for by in report.properties.values() {
            names.extend(by.keys().map(String::as_str));
        }
        if names.is_empty() {
            return;
        }
        self.0 += "<h2>Properties by subjects</h2><p>How many repairs failed, of those that the \
                   property says anything about. Failures of subjects in <strong>bold</strong> \
                   count.</p><div class=\"wide\"><table><thead><tr><th></th>";
        for subject in &report.subjects {
            let name = escaped(&subject.name);
            let name = if subject.answerable {
                format!("<strong>{name}</strong>")
            } else {
                name
            };
            self.add(format_args!("<th scope=\"col\">{name}</th>"));
        }
        self.0 += "</tr></thead><tbody>";
        for name in names {
            self.add(format_args!("<tr><th scope=\"row\">{}</th>", escaped(name)));
            for subject in &report.subjects {
                let by = report.properties.get(&subject.name);
                self.cell(by.and_then(|by| by.get(name)));
            }
            self.0 += "</tr>";
        }
        self.0 += "</tbody></table></div>";
    }

    fn comparisons(&mut self, report: &Report) {
        if report.comparisons.is_empty() {
            return;
        }
        let versions: BTreeSet<&String> = report
            .comparisons
            .values()
            .flat_map(|by| by.keys())
            .collect();
        self.0 += "<h2>recount compared with</h2><div class=\"wide\"><table><thead><tr><th></th>";
        for version in &versions {
            self.add(format_args!("<th scope=\"col\">{}</th>", escaped(version)));
        }
        self.0 += "</tr></thead><tbody>";
        for (comparison, by) in &report.comparisons {
            self.add(format_args!(
                "<tr><th scope=\"row\">{}</th>",
                escaped(comparison)
            ));
            for version in &versions {
                self.cell(by.get(*version));
            }
            self.0 += "</tr>";
        }
        self.0 += "</tbody></table></div>";
        if !report.on_purpose.is_empty() {
            self.0 += "<p>Differences on purpose:</p><ul>";
            for (purpose, times) in &report.on_purpose {
                self.add(format_args!("<li>{}: {times}</li>", escaped(purpose)));
            }
            self.0 += "</ul>";
        }
    }

    fn cell(&mut self, count: Option<&Count>) {
        let Some(Count {
            passed,
            failed,
            on_purpose,
            ..
        }) = count.filter(|count| count.passed + count.failed + count.on_purpose > 0)
        else {
            self.0 += "<td class=\"none\">–</td>";
            return;
        };
        let all = passed + failed + on_purpose;
        let class = if *failed > 0 { "bad" } else { "good" };
        self.add(format_args!(
            "<td class=\"{class}\"><b>{failed}</b> of {all}"
        ));
        if *on_purpose > 0 {
            self.add(format_args!("<small>{on_purpose} on purpose</small>"));
        }
        self.0 += "</td>";
    }

    fn failures(&mut self, report: &Report) {
        let (counting, others): (Vec<_>, Vec<_>) =
            report.failures.iter().partition(|failure| failure.counts);
        if !counting.is_empty() {
            self.0 += "<h2>Failures</h2>";
            self.0 += &pictures::legend();
            for failure in counting {
                self.failure(failure);
            }
        }
        if !others.is_empty() {
            self.0 += "<h2>Examples of what others do</h2><p>These do not count: a program that is \
                       observed, not answered for.</p>";
            self.0 += &pictures::legend();
            for failure in others {
                self.failure(failure);
            }
        }
    }

    fn failure(&mut self, failure: &Failure) {
        let open = if failure.counts && !failure.story.is_empty() {
            " open"
        } else {
            ""
        };
        self.add(format_args!(
            "<details{open}><summary><b>{}</b>: {} <span class=\"case\">case {}</span></summary>",
            escaped(&failure.subject),
            escaped(&failure.what),
            escaped(&failure.case)
        ));
        if !failure.story.is_empty() {
            self.add(format_args!("<pre>{}</pre>", escaped(&failure.story)));
        }
        self.add(format_args!(
            "<p><code>{}</code></p>",
            escaped(&failure.rerun)
        ));
        if let Some(minimal) = &failure.minimal {
            self.add(format_args!(
                "<p>Smaller: <code>{}</code></p>",
                escaped(minimal)
            ));
        }
        for (title, picture) in [("before", &failure.before), ("after", &failure.after)] {
            if let Some(picture) = picture {
                self.0 += &pictures::of(title, picture);
            }
        }
        self.0 += "</details>";
    }
}

#[cfg(test)]
mod tests;
