//! The results of a run as they come in, and what is printed of them at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use recount_oracle::requirements::cause;

use crate::columns;
use crate::report::model::{Count, Failure, Report, Run, SubjectReport};
use crate::report::picture::Picture;

use super::cases::CaseName;
use super::differences;
use super::examine::Findings;
use super::field::Field;
use super::question::{Answer, Question};
use super::session::Seen;

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
    pub subject: String,
    pub question: Question,
}

impl Tally {
    /// Of a run that begins; or that goes on where `earlier` ended.
    pub fn new(field: &Field, run: Run, earlier: Option<Report>) -> Self {
        let subjects = field.all().map(|subject| SubjectReport {
            answerable: field.answers(&subject.name(), Question::Ends),
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
        case: &CaseName,
        rerun: &dyn Fn(&str) -> String,
        synthetic: bool,
        Seen {
            damaged, findings, ..
        }: &Seen,
    ) -> Vec<Failed> {
        self.report.cases += 1;
        self.report.synthetic += u64::from(synthetic);
        self.report.too_much += u64::from(findings.too_much);
        self.count(findings);
        let mut failed = Vec::new();
        for finding in &findings.all {
            let (Some(story), subject) = (finding.failure(), &finding.subject) else {
                continue;
            };
            let what = finding.question.to_string();
            let counts = field.answers(subject, finding.question);
            let cause = cause(story);
            let tells = self.report.tells(subject, &what, &cause);
            if !counts && !tells {
                continue;
            }
            if counts && tells {
                failed.push(Failed {
                    index: self.report.failures.len(),
                    subject: subject.clone(),
                    question: finding.question,
                });
            }
            let picture = |image| if tells { Picture::of(image) } else { None };
            self.report.failures.push(Failure {
                case: case.to_string(),
                subject: subject.clone(),
                what,
                counts,
                rerun: rerun(subject),
                story: story.to_owned(),
                cause,
                brief: !tells,
                minimal: None,
                finding: None,
                before: picture(damaged),
                after: findings.after(finding).and_then(picture),
            });
        }
        self.note_time();
        failed
    }

    fn count(&mut self, findings: &Findings) {
        let report = &mut self.report;
        let mut shown = BTreeSet::new();
        for (subject, _) in &findings.repairs {
            report.properties.entry(subject.clone()).or_default();
        }
        for finding in &findings.all {
            let counts = if finding.question.is_comparison() {
                &mut report.comparisons
            } else {
                &mut report.properties
            };
            let by = counts.entry(finding.subject.clone()).or_default();
            let count = by.entry(finding.question.to_string()).or_default();
            match &finding.answer {
                Answer::Passed => count.passed += 1,
                Answer::NotApplicable => count.not_applicable += 1,
                Answer::Declined => count.declined += 1,
                Answer::Failed(_) => count.failed += 1,
                Answer::OnPurpose(name) => {
                    count.on_purpose += 1;
                    shown.insert(*name);
                }
            }
        }
        // Once a case, however many comparisons it shows in.
        for name in shown {
            *report.on_purpose.entry(name.to_owned()).or_default() += 1;
        }
    }

    /// Where the smaller case of a failure is, and the folder that tells of it.
    pub fn set_files(&mut self, failed: &Failed, case: Option<String>, folder: Option<String>) {
        if let Some(failure) = self.report.failures.get_mut(failed.index) {
            (failure.minimal, failure.finding) = (case, folder);
        }
    }

    /// That a group of cases is done.
    pub fn done(&mut self, group: u64) {
        let Some(run) = self.report.runs.first_mut() else {
            return;
        };
        run.done.push((group, group + 1));
        run.done.sort_unstable();
        run.done.dedup_by(|next, last| {
            let follows = last.1 == next.0;
            if follows {
                last.1 = next.1;
            }
            follows
        });
    }

    /// The groups that are done: from, to (exclusive).
    pub fn done_groups(&self) -> Vec<(u64, u64)> {
        let run = self.report.runs.first();
        run.map(|run| run.done.clone()).unwrap_or_default()
    }

    fn note_time(&mut self) {
        let seconds = self.earlier + self.begin.elapsed().as_secs_f64();
        if let Some(run) = self.report.runs.first_mut() {
            run.seconds = seconds;
        }
    }

    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// The same, at the end of the run.
    pub fn finish(&mut self) -> Report {
        self.note_time();
        self.report.sort();
        self.report.clone()
    }
}

/// Prints what was found, for people.
pub fn print(report: &Report) {
    let counting = report.failures.iter().filter(|failure| failure.counts);
    let counting: Vec<&Failure> = counting.collect();
    for alike in counting.chunk_by(|one, next| one.is_alike(next)) {
        let Failure {
            case,
            subject,
            what,
            story,
            rerun,
            minimal,
            ..
        } = alike[0];
        let more = match alike.len() {
            1 => String::new(),
            all => format!(", and {} more alike", all - 1),
        };
        println!("case {case}: {subject}: {what}{more}\n    {story}\n    rerun: {rerun}");
        if let Some(minimal) = minimal {
            println!("    smaller: {minimal}");
        }
        println!();
    }
    print_comparisons(report);
    print_properties(report);
    for verdict in report.verdicts() {
        println!("{}", verdict.text);
    }
    for (name, times) in &report.on_purpose {
        println!("differs on purpose: {name}: in {times} cases");
        if let Some(one) = differences::ALL.iter().find(|one| one.name == name) {
            println!("    qemu-img {}", one.theirs);
        }
    }
    if report.too_much > 0 {
        println!(
            "of {} cases only what a check says was compared: they take the audit too long",
            report.too_much
        );
    }
    println!(
        "{} {} ({} synthetic) in {} s, {} a second, {} failures",
        report.cases,
        if report.cases == 1 { "case" } else { "cases" },
        report.synthetic,
        columns::two_digits(report.seconds()),
        columns::two_digits(report.rate()),
        report.counting()
    );
}

fn print_comparisons(report: &Report) {
    let rows: Vec<_> = Question::comparisons().map(|one| one.to_string()).collect();
    for (qemu, by) in &report.comparisons {
        let counts = || {
            rows.iter()
                .map(|row| by.get(row).copied().unwrap_or_default())
        };
        let column = |name: &str, of: fn(Count) -> u64| {
            (
                name.to_owned(),
                counts().map(|count| Some(of(count).to_string())).collect(),
            )
        };
        let columns = [
            column("passed", |count| count.passed),
            column("failed", |count| count.failed),
            column("on purpose", |count| count.on_purpose),
            column("n/a", |count| count.not_applicable),
        ];
        let title = format!("recount and {qemu}");
        println!("\n{}", columns::lines(&title, &rows, &columns).join("\n"));
    }
}

/// How often each property failed, of how many times it said anything.
fn print_properties(report: &Report) {
    if report.properties.values().all(BTreeMap::is_empty) {
        return;
    }
    let rows: Vec<_> = Question::properties().map(|one| one.to_string()).collect();
    let columns = report.properties.iter().map(|(subject, by)| {
        let cell = |property| {
            let count = by.get(property)?;
            Some(format!(
                "{} of {}",
                count.failed,
                count.passed + count.failed
            ))
        };
        (subject.clone(), rows.iter().map(cell).collect())
    });
    let columns: Vec<_> = columns.collect();
    println!(
        "\n{}",
        columns::lines("failed of asked", &rows, &columns).join("\n")
    );
}
