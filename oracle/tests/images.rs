//! Small whole images, each damaged in one way: the default repair holds every property on all of
//! them, and a check counts what the audit counts.

use recount_oracle::case::build::build;
use recount_oracle::case::damage::{ReadWriteAt, SparseBytes};
use recount_oracle::case::{Algorithm, StorageLimit};
use recount_oracle::explore::images;
use recount_oracle::fuzz::{Target, Use};
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

#[test]
fn a_check_of_every_small_image_counts_what_the_audit_counts() {
    for images::Named { name, case } in images::all(&[Algorithm::Planned]) {
        let mut bytes = SparseBytes::default();
        build(&case, &mut bytes).expect("an image that can be built");
        let length = usize::try_from(ReadWriteAt::len(&bytes)).expect("small");
        let judged = Target::Image.judge(&bytes.bytes(0, length));
        let said = judged.as_ref().err().map(ToString::to_string);
        assert!(matches!(judged, Ok(Use::Judged)), "{name}: {said:?}");
    }
}
