//! A small writer that is right is found to be so, and each mistake of it by its name.

mod small;

use recount_writers::{Kind, Settings, check_writer};
use small::{Mistake, Small};

recount_writers::writer_tests!(Small(Mistake::None));

/// Of all that goes wrong with a mistake, this is seen the soonest, after at most so many operations on
/// an image. Other kinds may follow from it, where the cause is gone before the next flush: a snapshot
/// may be deleted by then.
#[track_caller]
fn finds(mistake: Mistake, kind: Kind, within: usize) {
    let report = check_writer(&Small(mistake), &Settings::default());
    println!("{report}");
    let soonest = report.failed().min_by_key(|&(_, operations)| operations);
    let (found, operations) = soonest.expect("a mistake shows");
    assert_eq!(found, kind, "{report}");
    assert!(operations <= within, "{report}");
}

#[test]
fn a_cluster_that_is_allocated_twice_is_found() {
    finds(Mistake::AllocatesTwice, Kind::AllocatedTwice, 8);
}

#[test]
fn a_refcount_that_a_snapshot_forgets_is_found() {
    finds(Mistake::ForgetsRefcounts, Kind::RefcountTooLow, 11);
}

#[test]
fn a_bit_63_that_is_kept_on_a_shared_cluster_is_found() {
    finds(Mistake::KeepsCopied, Kind::CopiedWrong, 11);
}

#[test]
fn data_that_is_not_flushed_is_found() {
    finds(Mistake::FlushesMetadataOnly, Kind::LostAfterFlush, 2);
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
