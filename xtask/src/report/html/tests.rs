//! The page says what the report says, and no text of a case can become part of the page.

use std::collections::BTreeMap;

use super::super::model::{Progress, Run, SubjectReport, VERSION};
use super::super::picture::{Picture, Stretch, Use};
use super::*;

/// A report with one failure whose story looks like HTML.
pub(super) fn report() -> Report {
    let stretch = |first, clusters, holds, wrong| Stretch {
        first,
        clusters,
        holds,
        wrong,
    };
    let picture = Picture {
        cluster_size: 512,
        clusters: 1_005,
        stretches: vec![
            stretch(0, 1, Use::Header, false),
            stretch(1, 4, Use::Data, true),
            stretch(5, 1_000, Use::Free, false),
        ],
        left_out: 7,
    };
    let count = Count {
        passed: 9,
        failed: 1,
        ..Count::default()
    };
    Report {
        version: VERSION,
        runs: vec![Run {
            seed: 5,
            shard: (1, 2),
            synthetic_share: 25,
            seconds: 3.0,
            done: vec![(0, 2)],
            progress: [(1.0, 3), (2.0, 7), (3.0, 10)]
                .map(|(seconds, cases)| Progress {
                    seconds,
                    cases,
                    failures: 1,
                })
                .to_vec(),
        }],
        cases: 10,
        synthetic: 4,
        subjects: vec![SubjectReport {
            name: "<it>".to_owned(),
            answerable: true,
        }],
        comparisons: BTreeMap::new(),
        on_purpose: BTreeMap::new(),
        properties: BTreeMap::from([(
            "<it>".to_owned(),
            BTreeMap::from([("ends".to_owned(), count)]),
        )]),
        failures: vec![Failure {
            case: "5:7".to_owned(),
            subject: "<it>".to_owned(),
            what: "ends".to_owned(),
            counts: true,
            rerun: "cargo xtask differential --only 5:7".to_owned(),
            story: "<script>alert(\"x\")</script> & more".to_owned(),
            minimal: None,
            before: Some(picture.clone()),
            after: Some(picture),
        }],
    }
}

#[test]
fn the_page_tells_counts_story_and_both_pictures() {
    let page = of(&report());
    for expected in [
        "<b>1</b> of 10",
        "1 failures in 10 cases",
        "cargo xtask differential --only 5:7",
        "title=\"cluster 0: header\"",
        "title=\"cluster 4: data, refcount wrong\"",
        "×1000",
        "and 7 stretches more",
        "before: 1005 clusters of 512 bytes",
        "after: 1005 clusters of 512 bytes",
        "<polyline",
    ] {
        assert!(page.contains(expected), "{expected} is missing from {page}");
    }
}

#[test]
fn no_text_of_a_case_becomes_part_of_the_page() {
    let page = of(&report());
    assert!(
        !page.contains("<script") && !page.contains("<it>"),
        "{page}"
    );
    assert!(page.contains("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; more"));
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let page = of(&report());
    for foreign in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}
