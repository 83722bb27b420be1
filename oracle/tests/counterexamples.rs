//! Every counterexample that the model checker stored still shows what it was stored for.

use std::path::Path;

use recount_oracle::case::{Algorithm, text};
use recount_oracle::explore::engine::Engine;
use recount_oracle::explore::verdict;
use recount_oracle::properties::planning::{Brute, Planning};
use recount_oracle::toy::{Toy, algorithm_name};

#[test]
fn stored_counterexamples_of_plans_fail_the_same_property_with_the_same_message() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/cases");
    let mut replayed = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is there") {
        let path = entry.expect("a file of the corpus").path();
        let name = path.file_name().and_then(|name| name.to_str());
        if !name.is_some_and(|name| name.starts_with("model-")) {
            continue;
        }
        let content = std::fs::read_to_string(&path).expect("readable");
        let file = text::parse(&path, &content).expect("a case file");
        let toy = Toy::from_case(&file.case).expect("a toy");
        let algorithm = file.case.algorithm;
        let verdicts = &file.verdicts[algorithm_name(algorithm)];
        assert_ne!(algorithm, Algorithm::Planned, "{}", path.display());
        let mut engine = Engine::new(toy.shape);
        let outcome = engine.plan(&toy, algorithm);
        let brute = Brute::new(toy);
        let run = Planning::new(&toy, algorithm, &outcome, &brute);
        for (property, message) in &verdicts.properties {
            let property = property.parse().expect("a property");
            let Some(verdict) = verdict(property, &run, engine.geometry()) else {
                continue;
            };
            let complaint = verdict.expect_err(&format!("{} fails it", path.display()));
            assert_eq!(complaint.to_string(), *message, "{}", path.display());
            replayed += 1;
        }
    }
    assert!(replayed >= 11, "only {replayed}");
}
