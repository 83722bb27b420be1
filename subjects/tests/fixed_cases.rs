//! Every case that once showed a mistake of the engine or of a judge, and shows it no more: its
//! story names the property that failed then.

use std::path::Path;

use recount_oracle::case::{Algorithm, text};
use recount_oracle::properties::{Property, Verdict};
use recount_oracle::replay::replay;
use recount_subjects::Recount;

#[test]
fn stored_mistakes_stay_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/cases");
    let mut replayed = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is there") {
        let path = entry.expect("a file of the corpus").path();
        let name = path.file_name().and_then(|name| name.to_str());
        if !name.is_some_and(|name| name.starts_with("fixed-")) {
            continue;
        }
        let file = text::read(&path).expect("a case file");
        let story = file.story.expect("what failed");
        let (failed, _) = story.split_once(':').expect("a property and what it said");
        let failed: Property = failed.parse().expect("a property");
        let verdicts = replay(&Recount, &file.case).expect("an image").verdicts;
        for (property, verdict) in verdicts {
            // qemu's algorithms are known to fail some.
            if property == failed || file.case.algorithm == Algorithm::Planned {
                let fails = matches!(verdict, Verdict::Fails(_));
                assert!(!fails, "{}: {property}: {verdict:?}", path.display());
            }
        }
        replayed += 1;
    }
    assert!(replayed >= 6, "only {replayed}");
}
