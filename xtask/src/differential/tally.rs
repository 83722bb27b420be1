//! The results of a run as they come in, and what is printed of them at the end.

use std::collections::BTreeSet;
use std::time::Instant;

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::properties::Verdict;

use crate::report::model::{Count, Failure, Progress, Report, Run, SubjectReport};
use crate::report::picture::Picture;

use super::comparison::{Comparison, Ending};
use super::differences;
use super::examine::Findings;
use super::field::Field;
use super::standing::Quality;

/// Seconds from one note of how far the run is to the next.
const NOTE: f64 = 1.0;

/// The results so far.
pub struct Tally {
    begin: Instant,
    /// Seconds that the run had taken before.
    earlier: f64,
    report: Report,
}

/// A case that failed, to be made smaller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Where in the report.
    pub index: usize,
    /// Who.
    pub subject: String,
    /// What.
    pub what: String,
}

impl Tally {
    /// Of a run that begins; or that goes on where `earlier` ended.
    pub fn new(field: &Field, run: Run, earlier: Option<Report>) -> Self {
        let subjects = field.all().map(|subject| SubjectReport {
            answerable: field.answers(&subject.name(), Quality::Ends.name()),
            name: subject.name(),
        });
        let before = earlier.as_ref().and_then(|report| report.runs.first());
        Self {
            begin: Instant::now(),
            earlier: before.map_or(0.0, |run| run.seconds),
            report: earlier.unwrap_or_else(|| Report::new(run, subjects.collect())),
        }
    }

    /// Adds what one case gave; the failures that count and are told in full.
    pub fn add(
        &mut self,
        field: &Field,
        case: &str,
        rerun: &str,
        synthetic: bool,
        damaged: &SparseBytes,
        findings: &Findings,
    ) -> Vec<Failed> {
        self.report.cases += 1;
        self.report.synthetic += u64::from(synthetic);
        self.count(findings);
        let mut failed = Vec::new();
        for (subject, what, story, after) in findings.failures() {
            let is_comparison = Comparison::ALL.iter().any(|one| one.to_string() == what);
            let counts = is_comparison || field.answers(subject, &what);
            let tells = self.report.tells(subject, &what);
            if !counts && !tells {
                continue;
            }
            if counts && tells {
                failed.push(Failed {
                    index: self.report.failures.len(),
                    subject: subject.to_owned(),
                    what: what.clone(),
                });
            }
            let picture = |image| if tells { Picture::of(image) } else { None };
            self.report.failures.push(Failure {
                case: case.to_owned(),
                subject: subject.to_owned(),
                what,
                counts,
                rerun: rerun.to_owned(),
                story: if tells {
                    story.to_owned()
                } else {
                    String::new()
                },
                minimal: None,
                before: picture(damaged),
                after: after.and_then(picture),
            });
        }
        self.note();
        failed
    }

    fn count(&mut self, findings: &Findings) {
        let report = &mut self.report;
        let mut shown = BTreeSet::new();
        for one in &findings.compared {
            let by = report.comparisons.entry(one.comparison.to_string());
            let count = by.or_default().entry(one.qemu.clone()).or_default();
            match &one.ending {
                Ending::Passed => count.passed += 1,
                Ending::NotApplicable => count.not_applicable += 1,
                Ending::Failed(_) => count.failed += 1,
                Ending::OnPurpose(name) => {
                    count.on_purpose += 1;
                    shown.insert(*name);
                }
            }
        }
        // Once a case, however many comparisons it shows in.
        for name in shown {
            *report.on_purpose.entry(name.to_owned()).or_default() += 1;
        }
        for one in &findings.stood {
            let by = report.properties.entry(one.subject.clone()).or_default();
            for (quality, verdict) in &one.standing {
                let count = by.entry(quality.to_string()).or_default();
                match verdict {
                    Verdict::Holds => count.passed += 1,
                    Verdict::Fails(_) => count.failed += 1,
                    Verdict::NotApplicable => count.not_applicable += 1,
                }
            }
        }
    }

    /// Where the smaller case of a failure is.
    pub fn set_minimal(&mut self, failed: &Failed, file: String) {
        if let Some(failure) = self.report.failures.get_mut(failed.index) {
            failure.minimal = Some(file);
        }
    }

    /// That a group of cases is done.
    pub fn done(&mut self, group: u64) {
        let Some(run) = self.report.runs.first_mut() else {
            return;
        };
        run.done.push((group, group + 1));
        run.done.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for &(from, to) in &run.done {
            match joined.last_mut() {
                Some(last) if last.1 == from => last.1 = to,
                _ => joined.push((from, to)),
            }
        }
        run.done = joined;
    }

    /// The groups that are done: from, to (exclusive).
    pub fn done_groups(&self) -> Vec<(u64, u64)> {
        let run = self.report.runs.first();
        run.map(|run| run.done.clone()).unwrap_or_default()
    }

    fn note(&mut self) {
        let seconds = self.earlier + self.begin.elapsed().as_secs_f64();
        let (cases, failures) = (self.report.cases, self.report.counting() as u64);
        if let Some(run) = self.report.runs.first_mut() {
            run.seconds = seconds;
            let last = run.progress.last().map_or(-NOTE, |last| last.seconds);
            // Ever fewer notes the longer it runs.
            if seconds - last >= NOTE.max(seconds / 200.0) {
                run.progress.push(Progress {
                    seconds,
                    cases,
                    failures,
                });
            }
        }
    }

    /// All that was found so far.
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// The same, for good.
    pub fn into_report(mut self) -> Report {
        self.note();
        self.report.sort();
        self.report
    }
}

/// Prints what was found, for people.
pub fn print(report: &Report) {
    for failure in report.failures.iter().filter(|failure| failure.counts) {
        let Failure {
            case,
            subject,
            what,
            rerun,
            story,
            minimal,
            ..
        } = failure;
        if story.is_empty() {
            println!("case {case}: {subject}: {what}: {rerun}");
        } else {
            println!("case {case}: {subject}: {what}\n    {story}\n    rerun: {rerun}");
            if let Some(minimal) = minimal {
                println!("    smaller: {minimal}");
            }
            println!();
        }
    }
    print_comparisons(report);
    print_properties(report);
    for (name, times) in &report.on_purpose {
        println!("differs on purpose: {name}: in {times} cases");
        if let Some(one) = differences::ALL.iter().find(|one| one.name == name) {
            println!("    qemu-img {}", one.theirs);
        }
    }
    let seconds: f64 = report
        .runs
        .iter()
        .map(|run| run.seconds)
        .fold(0.0, f64::max);
    println!(
        "{} cases ({} synthetic) in {seconds:.1} s, {:.1} a second, {} failures",
        report.cases,
        report.synthetic,
        report.rate(),
        report.counting()
    );
}

fn print_comparisons(report: &Report) {
    let head = ["passed", "failed", "on purpose", "n/a"];
    println!(
        "{:<42}{:>9}{:>9}{:>12}{:>9}",
        "recount and", head[0], head[1], head[2], head[3]
    );
    for comparison in Comparison::ALL {
        let Some(by) = report.comparisons.get(&comparison.to_string()) else {
            continue;
        };
        for (qemu, count) in by {
            let Count {
                passed,
                failed,
                on_purpose,
                not_applicable,
            } = count;
            println!(
                "{qemu:<14}{comparison:<28}{passed:>9}{failed:>9}{on_purpose:>12}{not_applicable:>9}"
            );
        }
    }
}

/// How often each property failed, of how many times it said anything.
fn print_properties(report: &Report) {
    let subjects: Vec<&String> = report.properties.keys().collect();
    let has_some = report.properties.values().any(|by| !by.is_empty());
    if !has_some {
        return;
    }
    print!("\n{:<28}", "failed of asked");
    for subject in &subjects {
        print!("{subject:>19}");
    }
    println!();
    for quality in Quality::ALL {
        print!("{quality:<28}");
        for subject in &subjects {
            let count = report.properties[*subject].get(quality.name());
            let cell = count.map_or("-".to_owned(), |count| {
                format!("{} of {}", count.failed, count.passed + count.failed)
            });
            print!("{cell:>19}");
        }
        println!();
    }
}
