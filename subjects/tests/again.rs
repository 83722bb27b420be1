//! What a disturbed repair leaves is repaired by the next one: a repair that does this is told from
//! one that does not.

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::synthetic::{Content, Run as Guest, Structures, Synthetic};
use recount_oracle::case::{Algorithm, Case, Crash, Image, Schedule, StorageLimit};
use recount_oracle::disk::Disk;
use recount_oracle::properties::Property;
use recount_oracle::replay::replay;
use recount_oracle::run::{again, run, scene};
use recount_oracle::subject::{Done, Outcome};
use recount_oracle::subject::{Repair, Undo};
use recount_subjects::Recount;

/// An image of three clusters of data that has no refcount structures, and a power cut at once.
fn case() -> Case {
    let image = Synthetic {
        version: 3,
        cluster_bits: 9,
        refcount_order: 4,
        guest: vec![Guest {
            skip: 0,
            clusters: 3,
            content: Content::Data,
        }],
        structures: Structures::Absent,
        ..Synthetic::default()
    };
    Case {
        image: Image::Synthetic(image),
        damage: Vec::new(),
        storage: StorageLimit::Growing,
        algorithm: Algorithm::Planned,
        schedule: Schedule::Crash(Crash { after: 1, kept: 0 }),
    }
}

/// Says that all is well.
struct Idle;

impl Repair for Idle {
    fn undo(&self) -> Option<&dyn Undo> {
        Some(&Recount)
    }

    fn repair(&self, _disk: &mut dyn Disk) -> Outcome {
        Ok(Done::default())
    }
}

#[test]
fn the_next_repair_is_judged() {
    let case = case();
    let (before, repair) = scene(&Recount, &case).expect("an image");
    let quiet = run(&*repair, &before, &[]);
    let judged = |repair: &dyn Repair| {
        let again = again(&before, repair, &quiet, before.bytes.clone());
        let again = again.expect("an image").expect("an image of planned");
        again.verdicts
    };
    let fails = |repair: &dyn Repair| {
        let failed = judged(repair).into_iter();
        let failed = failed.filter(|(_, verdict)| verdict.is_failure());
        failed.map(|(property, _)| property).collect::<Vec<_>>()
    };
    assert_eq!(fails(&*repair), []);
    let failed = fails(&Idle);
    assert!(failed.contains(&Property::CountsEveryCluster), "{failed:?}");
    assert!(failed.contains(&Property::AsSpecified), "{failed:?}");
}

#[test]
fn what_cannot_be_read_any_more_is_a_failure() {
    let case = case();
    let (before, repair) = scene(&Recount, &case).expect("an image");
    let quiet = run(&*repair, &before, &[]);
    let nothing = again(&before, &*repair, &quiet, SparseBytes::default());
    let failure = nothing.err().expect("no header");
    assert!(
        failure.message.contains("cannot be read any more"),
        "{failure}"
    );
}

#[test]
fn a_story_goes_on_to_the_next_repair() {
    let story = replay(&Recount, &case()).expect("an image");
    let (_, next) = story
        .text
        .split_once("the next repair")
        .expect("there is one");
    assert!(next.contains("the repair ends well"), "{next}");
}
