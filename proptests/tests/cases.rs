//! Every case that the strategies give is possible, survives its text form, and what is built from
//! it holds what it says.

use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use recount_oracle::audit::{Mismatch, audit};
use recount_oracle::case::Image;
use recount_oracle::case::build;
use recount_oracle::case::synthetic::{Content, Structures, Synthetic};
use recount_oracle::case::text::{parse, print, read};
use recount_oracle::toy::structure;
use recount_proptests::{Asked, case, check, damaged, model, synthetic};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn cases_are_possible_and_survive_text(case in prop_oneof![case(), damaged()]) {
        prop_assert_eq!(case.validate(), Ok(()));
        let text = print(&case.clone().into());
        let again = parse("case.toml".as_ref(), &text).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(again.case, case);
    }

    #[test]
    fn undamaged_images_with_structures_are_clean(case in case()) {
        if let Image::Synthetic(image) = &case.image {
            let bytes = build::build(&case).unwrap().bytes;
            let audit = audit(&bytes).unwrap();
            prop_assert!(audit.corruptions.is_empty(), "{:?}", audit.corruptions);
            let whole = image.structures != Structures::Absent;
            prop_assert_eq!(audit.is_clean(), whole);
            let loss = audit.mismatches.iter().any(Mismatch::is_leak);
            prop_assert!(!loss, "leaks {:?}", audit.mismatches);
        }
    }

    #[test]
    fn old_structures_of_a_toy_count_what_they_cover(model in model()) {
        let bytes = build::image(&Image::Model(model.clone())).unwrap();
        let found = structure(&bytes, &model).unwrap();
        let covered = model.old.len().saturating_sub(1) << model.refblock_bits;
        for (cluster, &references) in (0_u64..).zip(&model.references) {
            let old = model.old.iter().any(|&old| u64::from(old) == cluster);
            let expected = if cluster >= covered as u64 { 0 } else { references + u64::from(old) };
            let counted = found.counts.get(&cluster).copied().unwrap_or(0);
            prop_assert_eq!(counted, expected, "cluster {}", cluster);
        }
        let own = found.own_clusters(&model);
        let old = model.old.iter().map(|&cluster| (u64::from(cluster), 1)).collect();
        prop_assert_eq!(own, old);
    }
}

#[test]
fn shrinking_ends_in_an_image_with_little_else_than_what_fails() {
    let compressed = |image: &Synthetic| {
        let mut contents = image.guest.iter().map(|run| run.content);
        contents.any(|content| matches!(content, Content::Compressed { .. }))
    };
    let mut runner = TestRunner::deterministic();
    let Err(TestError::Fail(_, image)) = runner.run(&synthetic(), |image| {
        prop_assert!(!compressed(&image));
        Ok(())
    }) else {
        panic!("no compressed cluster in any image");
    };
    assert_eq!(image.cluster_bits, 9, "{image:?}");
    let clusters: u32 = image.guest.iter().map(|run| run.clusters).sum();
    assert_eq!((image.guest.len(), clusters), (1, 1), "{image:?}");
    assert!(
        image.snapshots.is_empty() && image.bitmaps.is_empty(),
        "{image:?}"
    );
}

#[test]
fn a_failure_ends_in_a_case_file_and_the_line_that_replays_it() {
    let name = "a_failure_ends_in_a_case_file_and_the_line_that_replays_it";
    let failing = || {
        check(name, None, 64, case(), |case| {
            prop_assert!(
                matches!(case.image, Image::Model(_)),
                "an image of many bytes"
            );
            Ok(Asked::Judged)
        });
    };
    let panic = std::panic::catch_unwind(failing).expect_err("half of the cases fail");
    let message = panic.downcast_ref::<String>().expect("a message");
    let line = message
        .lines()
        .find_map(|line| line.trim().strip_prefix("cargo xtask replay "));
    let file = read(line.expect("the line").as_ref()).expect("a case file");
    let Image::Synthetic(image) = file.case.image else {
        panic!("another case than the one that failed");
    };
    assert_eq!((image.cluster_bits, image.guest.len()), (9, 0), "{image:?}");
}
