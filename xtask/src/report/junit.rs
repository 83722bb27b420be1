//! The report as `JUnit` XML: a suite for each subject, a test for each property and comparison.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report as Xml, TestCase, TestCaseStatus, TestSuite};

use super::model::{Count, Failure, Report};

/// The XML of a report.
pub fn of(report: &Report) -> Xml {
    let mut xml = Xml::new("recount differential");
    xml.set_time(Duration::try_from_secs_f64(report.seconds()).unwrap_or_default());
    let properties = report.properties.iter();
    let properties = properties.map(|(subject, by)| (subject.clone(), subject, by));
    let comparisons = report.comparisons.iter();
    let comparisons = comparisons.map(|(qemu, by)| (format!("recount and {qemu}"), qemu, by));
    for (name, subject, by) in properties.chain(comparisons) {
        let mut suite = TestSuite::new(name);
        let tests = by.iter();
        suite.add_test_cases(tests.map(|(what, count)| test(report, subject, what, count)));
        xml.add_test_suite(suite);
    }
    xml
}

fn test(report: &Report, subject: &str, what: &str, count: &Count) -> TestCase {
    let of_this = |failure: &&Failure| failure.subject == subject && failure.what == what;
    let failures: Vec<&Failure> = report.failures.iter().filter(of_this).collect();
    let counts = failures.iter().any(|failure| failure.counts);
    let mut status = if counts {
        TestCaseStatus::non_success(NonSuccessKind::Failure)
    } else if count.said() == 0 {
        TestCaseStatus::skipped()
    } else {
        TestCaseStatus::success()
    };
    if counts {
        status.set_message(format!("{} of {} cases", count.failed, count.said()));
        let told = failures.iter().filter(|failure| !failure.brief);
        let stories = told.map(|failure| {
            let (case, rerun, story) = (&failure.case, &failure.rerun, &failure.story);
            format!("case {case}: {rerun}\n{story}")
        });
        status.set_description(stories.collect::<Vec<_>>().join("\n\n"));
    }
    let mut test = TestCase::new(what, status);
    test.set_system_out(format!(
        "{} passed, {} failed, {} differ on purpose",
        count.passed, count.failed, count.on_purpose
    ));
    test
}
