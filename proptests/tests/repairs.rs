//! Whole repairs of real geometries, 512-byte to 2 MiB clusters and all seven refcount widths,
//! judged by the oracle's properties and by the guest's view of every layer. The images come from
//! the builder, in memory, with nothing going wrong during the repair. A failure shrinks to a case
//! file; seeds that once failed are in `proptest-regressions/` and are tried first.

use proptest::prelude::*;
use recount_oracle::audit::audit;
use recount_oracle::case::damage::Damage;
use recount_oracle::case::synthetic::{Structures, Synthetic};
use recount_oracle::case::{Algorithm, Case, Image, Schedule, StorageLimit};
use recount_oracle::run::run;
use recount_proptests::judge::{check_opened, fails, is_sound, judged, view};
use recount_proptests::{Asked, damaged, refcounts_damaged};
use recount_subjects::ImageRepair;

const REGRESSIONS: Option<&str> = Some("proptest-regressions/repairs.txt");
const ALL: &[Algorithm] = &[Algorithm::Planned, Algorithm::FirstFit, Algorithm::Tail];

#[test]
fn every_property_holds_where_only_refcounts_are_damaged() {
    let name = "every_property_holds_where_only_refcounts_are_damaged";
    check_opened(
        name,
        REGRESSIONS,
        250,
        refcounts_damaged(ALL),
        |_, before, repair| {
            let run = judged(before, repair)?;
            // A table without entries beside many leaks is damage, too.
            let clean = is_sound(before, &run) && run.outcome.is_ok();
            Ok(if clean { Asked::Judged } else { Asked::Nothing })
        },
    );
}

#[test]
fn every_property_holds_whatever_is_damaged() {
    let name = "every_property_holds_whatever_is_damaged";
    check_opened(
        name,
        REGRESSIONS,
        600,
        quiet(damaged()),
        |_, before, repair| {
            judged(before, repair)?;
            Ok(Asked::Judged)
        },
    );
}

#[test]
fn every_guest_byte_of_every_layer_is_there_afterwards() {
    let name = "every_guest_byte_of_every_layer_is_there_afterwards";
    check_opened(
        name,
        REGRESSIONS,
        200,
        refcounts_damaged(ALL),
        |_, before, repair| {
            let run = run(repair, before, &[]);
            let old = before.reading.audit().expect("an image");
            let new = audit(&run.after).map_err(fails)?;
            prop_assert!(
                view(old, &before.bytes) == view(&new, &run.after),
                "the guest sees a change"
            );
            prop_assert_eq!(&old.bitmaps, &new.bitmaps);
            prop_assert_eq!(&old.snapshots, &new.snapshots);
            Ok(Asked::Judged)
        },
    );
}

fn quiet(cases: impl Strategy<Value = Case>) -> impl Strategy<Value = Case> {
    cases.prop_map(|case| Case {
        schedule: Schedule::Quiet,
        ..case
    })
}

#[test]
fn a_reftable_that_reaches_past_the_end_is_replaced_and_not_released() {
    let image = Synthetic {
        cluster_bits: 12,
        refcount_order: 0,
        structures: Structures::Correct {
            spare_reftable_clusters: 2,
        },
        ..Synthetic::default()
    };
    // Only the first cluster of the reftable, and perhaps the next, are still there.
    for clusters in 1..3 {
        let case = Case {
            image: Image::Synthetic(image.clone()),
            damage: vec![Damage::Truncated { clusters, bytes: 0 }],
            storage: StorageLimit::Growing,
            algorithm: Algorithm::Planned,
            schedule: Schedule::Quiet,
        };
        let (before, repair) = ImageRepair::new(&case).expect("an image");
        let run = judged(&before, &repair).expect("every property holds");
        assert!(run.outcome.is_ok(), "{:?}", run.outcome);
        assert!(audit(&run.after).expect("an image").is_clean());
    }
}
