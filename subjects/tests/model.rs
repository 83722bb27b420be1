//! Within bounds small enough for every test run, the explorer finds what the checked-in table
//! says, no more and no less: planned holds everything, the others fail what they are known to.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use recount_oracle::case::Algorithm;
use recount_oracle::explore::{Bounds, explore};
use recount_oracle::properties::Property;
use recount_oracle::properties::plan::of_plans;
use recount_subjects::Recount;

const EXPECTED: &str = include_str!("../../corpus/expected.toml");

#[test]
fn the_explorer_finds_the_known_failures_and_no_others() {
    let expected: BTreeMap<String, Vec<Property>> = toml::from_str(EXPECTED).expect("a table");
    let bounds = Bounds {
        clusters_with_old: 7,
        clusters_with_bytes: 6,
        ..Bounds::up_to(8)
    };
    let never = AtomicBool::new(false);
    let explored = explore(&Recount, &bounds, &never, &|_| ());
    let mut differences = Vec::new();
    for algorithm in [Algorithm::Planned, Algorithm::FirstFit, Algorithm::Tail] {
        let name: &str = algorithm.into();
        for property in Property::ALL {
            let cell = explored.tally.cell(algorithm, property);
            let known = expected[name].contains(&property);
            match &cell.smallest {
                None if known => differences.push(format!("{name} does not fail {property}")),
                Some(example) if !known => {
                    differences.push(format!(
                        "{name} fails {property}: {}\n  cargo xtask replay '{}'",
                        example.message, example.word
                    ));
                }
                _ => (),
            }
        }
    }
    assert_eq!(
        differences,
        Vec::<String>::new(),
        "{}",
        differences.join("\n")
    );
    assert_eq!(explored.stopped, None);
}

#[test]
fn planned_holds_whatever_a_plan_shows() {
    let bounds = Bounds {
        algorithms: vec![Algorithm::Planned],
        clusters_with_old: 9,
        ..Bounds::up_to(9)
    };
    let never = AtomicBool::new(false);
    let explored = explore(&Recount, &bounds, &never, &|_| ());
    assert_eq!(explored.stopped, None);
    for property in of_plans() {
        let cell = explored.tally.cell(Algorithm::Planned, property);
        assert_eq!(cell.smallest, None, "{property}");
        assert!(cell.holds > 50_000, "{property}: {}", cell.holds);
    }
}
