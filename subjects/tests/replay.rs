//! A printed line gives the same failure again.

use std::sync::atomic::AtomicBool;

use recount_oracle::case::model::Model;
use recount_oracle::case::{Algorithm, StorageLimit};
use recount_oracle::explore::{Bounds, explore};
use recount_oracle::placement::{NoPlacement, Placement};
use recount_oracle::properties::{Property, Verdict};
use recount_oracle::replay::{Story, replay};
use recount_oracle::subject::{Options, Repair, Subject, Undo};
use recount_oracle::toy::Word;
use recount_subjects::Recount;

fn failing(word: &str) -> (Story, Vec<Property>) {
    let word: Word = word.parse().expect("a toy");
    let story = replay(&Recount, &word.to_case()).expect("a toy can be run");
    let failing = story.verdicts.iter();
    let failing = failing.filter(|(_, verdict)| verdict.is_failure());
    let failing = failing.map(|(property, _)| *property).collect();
    (story, failing)
}

#[test]
fn a_toy_is_told_from_the_image_before_to_the_verdicts() {
    let (story, failing) = failing("toy:planned:b4e2w16:#oo.#...:grows");
    assert_eq!(failing, []);
    for part in [
        "before  #oo.#...|...",
        "after   #ooT#01.|...",
        "write 1024 bytes",
        "flush",
        "cluster 3: 1 references, refcount 1: it belongs to the refcount structures",
        "crash-atomic                holds",
    ] {
        let text = &story.text;
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
}

#[test]
fn a_failure_that_the_model_checker_printed_fails_again() {
    let (story, failing) = failing("toy:first-fit:b2e2w4:#:grows");
    assert!(failing.contains(&Property::CrashAtomic), "{}", story.text);
    assert!(failing.contains(&Property::FaultSafe), "{}", story.text);
    let (story, failing) = self::failing("toy:first-fit:b2e2w4:##:grows");
    assert_eq!(failing, [Property::Terminates], "{}", story.text);
}

/// The engine with a mistake: a third refblock is forgotten.
struct Broken;

impl Subject for Broken {
    fn place(
        &self,
        algorithm: Algorithm,
        toy: &Model,
        storage: StorageLimit,
    ) -> Result<Placement, NoPlacement> {
        let mut placement = Recount.place(algorithm, toy, storage)?;
        if placement.refblocks.len() == 3 {
            placement.refblocks.pop();
            placement.order.pop();
        }
        Ok(placement)
    }

    fn images(&self, options: Options) -> Box<dyn Repair + '_> {
        Recount.images(options)
    }

    fn undo(&self) -> Option<&dyn Undo> {
        Recount.undo()
    }
}

#[test]
fn the_line_printed_for_a_broken_algorithm_gives_the_same_failure_again() {
    let bounds = Bounds {
        clusters_with_bytes: 0,
        images: false,
        algorithms: vec![Algorithm::Planned],
        ..Bounds::up_to(6)
    };
    let never = AtomicBool::new(false);
    let explored = explore(&Broken, &bounds, &never, &|_| ());
    let property = Property::CountsEveryCluster;
    let cell = explored.tally.cell(Algorithm::Planned, property);
    let example = cell.smallest.clone().expect("the mistake is seen");
    let word: Word = example.word.parse().expect("a toy");
    assert_eq!(word.to_case(), example.case);
    let story = replay(&Broken, &word.to_case()).expect("a toy can be run");
    let expected = Verdict::fails(example.message.as_str());
    assert!(
        story.verdicts.contains(&(property, expected)),
        "{}",
        story.text
    );
    assert!(story.text.contains(&format!("FAILS: {}", example.message)));
    // The mistake mended, the same line shows nothing.
    let story = replay(&Recount, &word.to_case()).expect("a toy can be run");
    assert!(!story.text.contains("FAILS"), "{}", story.text);
}
