//! The audit agrees with a read-only `qemu-img check`: exit code and every counter, on images of
//! every kind, whole and damaged in every way. Where qemu-img is not installed the audit is held
//! against what is known without it: an undamaged image is clean.

mod common;

use common::{Scratch, from_seed, qemu_img_check};
use recount_needs::needs;
use recount_oracle::audit::{Audit, Counters, Referrer, Unreadable, audit, counters};
use recount_oracle::case::build;
use recount_oracle::case::synthetic::{Structures, Synthetic};
use recount_oracle::case::{Case, Image, StorageLimit};

const SEEDS: u64 = 900;

/// A damaged synthetic image. Not encrypted, for then qemu-img wants the key.
fn case(seed: u64) -> Option<Case> {
    let mut case: Case = from_seed(seed);
    case.storage = StorageLimit::Growing;
    match &mut case.image {
        Image::Synthetic(image) => image.luks = false,
        Image::Real(_) | Image::Model(_) => return None,
    }
    Some(case)
}

/// What differs, in words; empty when nothing does.
fn differences(ours: &Result<Audit, Unreadable>, theirs: &common::Check) -> Vec<String> {
    let mut found = Vec::new();
    let figures = match ours {
        Ok(audit) => counters(audit),
        Err(Unreadable::NotOpened { .. }) => Counters {
            gives_up: true,
            ..Counters::default()
        },
        Err(error) => return vec![error.to_string()],
    };
    if Some(figures.exit_code()) != theirs.exit {
        let exit = figures.exit_code();
        found.push(format!("exit {exit}, not {:?}", theirs.exit));
    }
    if figures.gives_up != theirs.json.is_null() {
        found.push("one gives up and the other does not".to_owned());
    }
    if !figures.gives_up {
        for (name, value) in figures.named() {
            let expected = theirs.json[name].as_u64().unwrap_or(0);
            if value != expected {
                found.push(format!("{name} {value}, not {expected}"));
            }
        }
    }
    found
}

/// Whether qemu-img may not open what an audit reads: without a reftable, or with such bitmaps.
fn is_refused_by_qemu(audit: &Audit) -> bool {
    let mut corruptions = audit.corruptions.iter();
    !audit.header.reftable_usable
        || corruptions.any(|corruption| {
            matches!(
                corruption.referrer,
                Referrer::BitmapDirectory | Referrer::BitmapTable { .. }
            )
        })
}

#[needs(qemu)]
#[test]
fn counters_are_those_of_qemu_img_on_damaged_images() {
    let scratch = Scratch::new();
    let mut compared = 0;
    for seed in 0..SEEDS {
        let Some(case) = case(seed) else { continue };
        let file = scratch.store("image.qcow2", &build::build(&case).unwrap().bytes);
        let ours = audit(&file);
        assert!(!matches!(ours, Err(Unreadable::TooMuchWork)), "seed {seed}");
        if ours.as_ref().is_ok_and(is_refused_by_qemu) {
            continue;
        }
        let theirs = qemu_img_check(&scratch.path("image.qcow2"));
        let found = differences(&ours, &theirs);
        assert!(
            found.is_empty(),
            "seed {seed}: {found:?}\n{case:?}\n{}",
            theirs.stderr
        );
        compared += 1;
    }
    assert!(compared > SEEDS / 4, "only {compared} images compared");
}

#[test]
fn what_the_builder_builds_is_clean() {
    for seed in 0..SEEDS {
        let mut image: Synthetic = from_seed(seed);
        if image.structures == Structures::Absent {
            image.structures = Structures::default();
        }
        let bytes = build::image(&Image::Synthetic(image.clone())).unwrap();
        let audit = audit(&bytes).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let wrong = (&audit.corruptions, &audit.mismatches, &audit.qemu.copied);
        assert!(audit.is_clean(), "seed {seed}: {wrong:?}\n{image:?}");
        assert_eq!(
            audit.layers.len(),
            1 + audit.snapshots.entries.len(),
            "seed {seed}"
        );
    }
}
