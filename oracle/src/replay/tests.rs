//! A printed line gives the same failure again.

use super::*;
use crate::toy::Word;

fn failing(word: &str) -> (Story, Vec<Property>) {
    let word: Word = word.parse().expect("a toy");
    let story = replay(&word.to_case()).expect("a toy can be run");
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
        "write 64 bytes",
        "flush",
        "cluster 3: 1 references, refcount 1: it belongs to the refcount structures",
        "crash-atomic                holds",
    ] {
        let text = &story.text;
        // A toy's cluster has 16 bytes here; neighbours are written at once.
        let part = part.replace("64 bytes", "32 bytes");
        assert!(text.contains(&part), "{part} is not in:\n{text}");
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
