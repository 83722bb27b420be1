//! The page says what the report says, and no text of a case can become part of the page.

use super::*;

/// A report with one failure whose story looks like HTML.
const REPORT: &str = r#"{
    "version": 3,
    "runs": [{
        "seed": 5, "shard": [1, 2], "synthetic_share": 25, "seconds": 3.0, "done": [[0, 2]]
    }],
    "cases": 10, "synthetic": 4,
    "subjects": [{ "name": "<it>", "answerable": true }],
    "comparisons": {}, "on_purpose": {},
    "properties": { "<it>": { "ends": { "passed": 9, "failed": 1 } } },
    "failures": [{
        "case": "5:7", "subject": "<it>", "what": "ends", "counts": true,
        "rerun": "cargo xtask differential --only 5:7",
        "story": "<script>alert(\"x\")</script> & more", "cause": "", "brief": false,
        "before": {
            "cluster_size": 512, "clusters": 1005, "left_out": 7,
            "stretches": [
                { "first": 0, "clusters": 1, "holds": "header" },
                { "first": 1, "clusters": 4, "holds": "data", "wrong": true },
                { "first": 5, "clusters": 1000, "holds": "free" }
            ]
        },
        "after": { "cluster_size": 512, "clusters": 1005, "stretches": [] }
    }]
}"#;

fn page() -> String {
    of(&serde_json::from_str(REPORT).unwrap())
}

#[test]
fn the_page_tells_counts_story_and_both_pictures() {
    let page = page();
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
    ] {
        assert!(page.contains(expected), "{expected} is missing from {page}");
    }
}

#[test]
fn no_text_of_a_case_becomes_part_of_the_page() {
    let page = page();
    assert!(
        !page.contains("<script") && !page.contains("<it>"),
        "{page}"
    );
    assert!(page.contains("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; more"));
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let page = page();
    for foreign in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}
