//! Every counterexample that the model checker stored still shows what it was stored for.

use std::path::Path;

use recount_oracle::case::{Algorithm, text};
use recount_oracle::properties::{Property, Verdict};
use recount_oracle::replay::replay;
use recount_subjects::Recount;

#[test]
fn stored_counterexamples_fail_the_same_property_with_the_same_message() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/cases");
    let mut replayed = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is there") {
        let path = entry.expect("a file of the corpus").path();
        let name = path.file_name().and_then(|name| name.to_str());
        if !name.is_some_and(|name| name.starts_with("model-")) {
            continue;
        }
        let file = text::read(&path).expect("a case file");
        let algorithm = file.case.algorithm;
        assert_ne!(algorithm, Algorithm::Planned, "{}", path.display());
        let story = replay(&Recount, &file.case).expect("a toy");
        for (property, message) in &file.verdicts[<&str>::from(algorithm)].properties {
            let property: Property = property.parse().expect("a property");
            let found = story.verdicts.iter().find(|(asked, _)| *asked == property);
            let expected = Verdict::fails(message.as_str());
            assert_eq!(found, Some(&(property, expected)), "{}", path.display());
            replayed += 1;
        }
    }
    assert!(replayed >= 17, "only {replayed}");
}
