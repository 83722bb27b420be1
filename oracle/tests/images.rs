//! Small whole images, each damaged in one way: the default repair holds every property on all of
//! them.

use recount_oracle::case::{Algorithm, StorageLimit};
use recount_oracle::explore::images;
use recount_oracle::properties::Property;
use recount_oracle::run::{ImageRepair, explore_one};

#[test]
fn planned_holds_every_property_on_every_small_image() {
    let mut seen = [0; Property::ALL.len()];
    let mut failures = Vec::new();
    for images::Named { name, case } in images::all(&[Algorithm::Planned]) {
        if case.storage != StorageLimit::Growing {
            continue;
        }
        let (before, repair) = ImageRepair::new(&case).expect("an image that can be opened");
        let explored = explore_one(&repair, &before, &images::BOUNDS);
        for (property, verdict) in explored.verdicts {
            seen[property as usize] +=
                u32::from(verdict == recount_oracle::properties::Verdict::Holds);
            if let recount_oracle::properties::Verdict::Fails(failure) = verdict {
                failures.push(format!("planned fails {property}: {name}: {failure}"));
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    assert!(
        seen[Property::KeepsWhatItCannotFollow as usize] > 10,
        "{seen:?}"
    );
    assert!(seen[Property::Idempotent as usize] > 50, "{seen:?}");
}
