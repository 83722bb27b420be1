//! A small writer that is right is found to be so, and each mistake of it by its name.

mod small;

use recount_writers::{Feature, Kind, Settings, check_writer, failing_operations, power_cuts};
use small::{Mistake, Small};

recount_writers::writer_tests!(Small(Mistake::None));

/// Of all that goes wrong with a mistake, this is seen the soonest, after at most so many operations on
/// an image. Other kinds may follow from it, where the cause is gone before the next flush: a snapshot
/// may be deleted by then.
#[track_caller]
fn finds(mistake: Mistake, settings: &Settings, kind: Kind, within: usize) {
    let report = check_writer(&Small(mistake), settings);
    println!("{report}");
    let soonest = report.failed().min_by_key(|&(_, operations)| operations);
    let (found, operations) = soonest.expect("a mistake shows");
    assert_eq!(found, kind, "{report}");
    assert!(operations <= within, "{report}");
}

/// The same settings with images that the writer opens only.
fn opened(mut settings: Settings) -> Settings {
    let declined = [Feature::Encrypted, Feature::DataFile];
    settings
        .features
        .retain(|feature| !declined.contains(feature));
    settings
}

/// The test of everything, on images of which some have this and none has another feature.
fn with(feature: Feature) -> Settings {
    Settings {
        features: vec![feature],
        ..power_cuts()
    }
}

#[test]
fn a_cluster_that_is_allocated_twice_is_found() {
    finds(
        Mistake::AllocatesTwice,
        &power_cuts(),
        Kind::AllocatedTwice,
        5,
    );
}

#[test]
fn a_refcount_that_a_snapshot_forgets_is_found() {
    finds(
        Mistake::ForgetsRefcounts,
        &power_cuts(),
        Kind::RefcountTooLow,
        4,
    );
}

#[test]
fn a_bit_63_that_is_kept_on_a_shared_cluster_is_found() {
    finds(Mistake::KeepsCopied, &power_cuts(), Kind::CopiedWrong, 4);
}

#[test]
fn data_that_is_not_flushed_is_found() {
    finds(
        Mistake::FlushesMetadataOnly,
        &power_cuts(),
        Kind::LostAfterFlush,
        2,
    );
}

#[test]
fn a_compressed_cluster_that_is_given_back_while_its_neighbour_is_in_use_is_found() {
    let settings = with(Feature::Compressed);
    finds(Mistake::FreesNeighbours, &settings, Kind::RefcountTooLow, 2);
}

#[test]
fn a_bitmap_that_does_not_say_which_subclusters_are_written_is_found() {
    let settings = with(Feature::Subclusters);
    finds(Mistake::ForgetsBitmap, &settings, Kind::ReadsWrong, 2);
}

#[test]
fn a_copy_without_what_the_backing_file_has_is_found() {
    let settings = with(Feature::Backing);
    finds(Mistake::ForgetsBacking, &settings, Kind::ReadsWrong, 2);
}

#[test]
fn a_cluster_that_is_used_although_its_refcount_could_not_be_written_is_found() {
    let settings = failing_operations();
    finds(Mistake::UsesUncounted, &settings, Kind::RefcountTooLow, 3);
}

#[test]
fn a_flush_that_failed_and_is_said_to_be_done_is_found() {
    let settings = opened(failing_operations());
    finds(
        Mistake::IgnoresFailedFlush,
        &settings,
        Kind::LostAfterFlush,
        3,
    );
}

#[test]
fn an_encrypted_image_that_is_written_to_without_its_key_is_found() {
    let settings = Settings {
        runs: 20,
        ..with(Feature::Encrypted)
    };
    let report = check_writer(&Small(Mistake::None), &settings);
    report.check();
    let declined: Vec<_> = report.declined().collect();
    let [("it is encrypted", 1.., features)] = declined[..] else {
        panic!("{report}");
    };
    assert!(features.contains(&Feature::Encrypted), "{report}");
    finds(
        Mistake::IgnoresEncryption,
        &settings,
        Kind::OpensWithoutKey,
        0,
    );
}

#[test]
fn leaks_are_told_and_fail_only_where_that_is_asked_for() {
    let report = check_writer(&Small(Mistake::Leaks), &Settings::default());
    report.check();
    assert!(report.leaks() > 0, "{report}");
    assert!(report.to_string().contains("warning: "), "{report}");
    let settings = Settings {
        leaks_fail: true,
        ..Settings::default()
    };
    let report = check_writer(&Small(Mistake::Leaks), &settings);
    let kinds: Vec<Kind> = report.failed().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [Kind::LeaksAfterClose], "{report}");
}

#[test]
fn the_writer_without_a_mistake_holds_for_other_seeds() {
    for seed in 2..4 {
        let settings = Settings {
            seed,
            runs: 6,
            leaks_fail: true,
            ..Settings::default()
        };
        let report = check_writer(&Small(Mistake::None), &settings);
        report.check();
        assert!(report.power_cuts() > 500, "{report}");
    }
}
