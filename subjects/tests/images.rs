//! Small whole images, each damaged in one way: the default repair holds every property on all of
//! them, and a check counts what the audit counts.

use recount::{MemoryStorage, RepairOptions, repair};
use recount_oracle::audit::{COPIED, OFFSET};
use recount_oracle::case::build::build;
use recount_oracle::case::damage::find::structures;
use recount_oracle::case::{Algorithm, StorageLimit};
use recount_oracle::explore::images;
use recount_oracle::fuzz::{Target, Use};
use recount_oracle::properties::Property;
use recount_oracle::run::explore_one;
use recount_subjects::ImageRepair;
use recount_subjects::Recount;

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
        let bytes = build(&case).expect("an image that can be built").bytes;
        let length = usize::try_from(bytes.len()).expect("small");
        let judged = Target::Image.judge(&Recount, &bytes.bytes(0, length));
        let said = judged.as_ref().err().map(ToString::to_string);
        assert!(
            matches!(judged, Ok(Use::Judged | Use::Costly)),
            "{name}: {said:?}"
        );
    }
}

/// Of a compressed cluster: to an L2 table the first would be a compressed cluster past the end of
/// the file, the second an entry with reserved bits and bit 63.
const GUEST_DATA: [u64; 2] = [0x6b6f_1f05_2319_0000, 0x9b3d_7b14_8c64_0000];

#[test]
fn guest_data_behind_an_l1_entry_gone_astray_is_not_written_to() {
    let whole = images::all(&[Algorithm::Planned]);
    let plain = whole
        .iter()
        .find(|image| image.name.contains(":plain:none:grows"))
        .expect("an image without damage");
    let built = build(&plain.case).expect("an image that can be built");
    let mut bytes = built.bytes;
    let found = structures(&bytes).expect("an image");
    let l1_entry = found.l1_tables[0][0].at;
    let data = found.l2_entries[0].value & OFFSET;
    let mut cluster = vec![0; usize::try_from(found.header.cluster_size()).expect("small")];
    for (word, place) in GUEST_DATA.iter().zip(cluster.chunks_mut(8)) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    bytes.write_at(data, &cluster).expect("in memory");
    let astray = (data | COPIED).to_be_bytes();
    bytes.write_at(l1_entry, &astray).expect("in memory");
    let length = usize::try_from(bytes.len()).expect("small");
    let mut storage = MemoryStorage::growing(bytes.bytes(0, length));
    repair(&mut storage, &RepairOptions::default(), &mut ()).expect("it ends");
    let start = usize::try_from(data).expect("small");
    assert_eq!(storage.bytes()[start..start + cluster.len()], cluster);
}
