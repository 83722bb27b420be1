//! Whole repairs of real geometries, 512-byte to 2 MiB clusters and all seven refcount widths,
//! judged by the oracle's properties and by the guest's view of every layer. The images come from
//! the builder, in memory, with nothing going wrong during the repair. A failure shrinks to a case
//! file; seeds that once failed are in `proptest-regressions/` and are tried first.

use proptest::prelude::*;
use recount_oracle::audit::audit;
use recount_oracle::case::damage::Damage;
use recount_oracle::case::synthetic::{Structures, Synthetic};
use recount_oracle::case::{Algorithm, Case, Image, Schedule, StorageLimit};
use recount_oracle::properties::Property;
use recount_oracle::run::{Done, Stopped, run};
use recount_proptests::judge::{ask, is_clean, prepare, view};
use recount_proptests::{check, damaged, refcounts_damaged};

const REGRESSIONS: Option<&str> = Some("proptest-regressions/repairs.txt");
const ALL: &[Algorithm] = &[Algorithm::Planned, Algorithm::FirstFit, Algorithm::Tail];

#[test]
fn an_image_with_damaged_refcount_structures_is_clean_afterwards() {
    let name = "an_image_with_damaged_refcount_structures_is_clean_afterwards";
    check(name, REGRESSIONS, 250, refcounts_damaged(ALL), |case| {
        let Some((before, repair)) = prepare(case) else {
            return Ok(());
        };
        let run = run(&repair, &before, &[]);
        match &run.outcome {
            Ok(_) => {
                let after = audit(&run.after).map_err(|e| TestCaseError::fail(e.to_string()))?;
                is_clean(&after)?;
                ask(Property::Idempotent, &before, &run, &repair)
            }
            // QEMU's algorithms may not end, or take too much.
            Err(Stopped::Repair(failure)) if case.algorithm != Algorithm::Planned => {
                let planning = matches!(failure.error, recount::RepairError::Plan(_));
                prop_assert!(planning, "{failure}");
                Ok(())
            }
            Err(error) => Err(TestCaseError::fail(error.to_string())),
        }
    });
}

#[test]
fn every_guest_byte_of_every_layer_is_there_afterwards() {
    let name = "every_guest_byte_of_every_layer_is_there_afterwards";
    check(name, REGRESSIONS, 200, refcounts_damaged(ALL), |case| {
        let Some((before, repair)) = prepare(case) else {
            return Ok(());
        };
        let run = run(&repair, &before, &[]);
        let old = before.reading.audit().expect("an image");
        let new = audit(&run.after).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(
            view(old, &before.bytes) == view(&new, &run.after),
            "the guest sees a change"
        );
        prop_assert_eq!(&old.bitmaps, &new.bitmaps);
        prop_assert_eq!(&old.snapshots, &new.snapshots);
        Ok(())
    });
}

#[test]
fn no_repair_of_any_damage_leaks_or_touches_data_or_has_to_be_run_twice() {
    let name = "no_repair_of_any_damage_leaks_or_touches_data_or_has_to_be_run_twice";
    check(name, REGRESSIONS, 300, quiet(damaged()), |case| {
        let Some((before, repair)) = prepare(case) else {
            return Ok(());
        };
        let run = run(&repair, &before, &[]);
        ask(Property::LeavesDataAlone, &before, &run, &repair)?;
        ask(Property::NoLeaks, &before, &run, &repair)?;
        ask(Property::CleanAfterwards, &before, &run, &repair)?;
        // QEMU's algorithms may put structures where an entry dangled.
        if case.algorithm == Algorithm::Planned {
            ask(Property::Idempotent, &before, &run, &repair)?;
        }
        Ok(())
    });
}

#[test]
fn planned_counts_every_cluster_and_overlaps_nothing_at_bounded_cost() {
    let name = "planned_counts_every_cluster_and_overlaps_nothing_at_bounded_cost";
    let planned = quiet(damaged()).prop_map(|case| Case {
        algorithm: Algorithm::Planned,
        ..case
    });
    check(name, REGRESSIONS, 200, planned, |case| {
        let Some((before, repair)) = prepare(case) else {
            return Ok(());
        };
        let run = run(&repair, &before, &[]);
        ask(Property::CountsEveryCluster, &before, &run, &repair)?;
        ask(Property::NoOverlap, &before, &run, &repair)?;
        ask(Property::BoundedCost, &before, &run, &repair)
    });
}

#[test]
fn the_repair_reports_what_the_audit_finds_afterwards() {
    let name = "the_repair_reports_what_the_audit_finds_afterwards";
    check(name, REGRESSIONS, 150, quiet(damaged()), |case| {
        let Some((before, repair)) = prepare(case) else {
            return Ok(());
        };
        let run = run(&repair, &before, &[]);
        let Ok(Done::Image(outcome)) = &run.outcome else {
            return Ok(());
        };
        let after = audit(&run.after).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(outcome.report.is_clean(), after.is_clean());
        prop_assert_eq!(outcome.steps.is_empty(), run.trace.is_read_only());
        Ok(())
    });
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
        let (before, repair) = prepare(&case).expect("an image");
        let run = run(&repair, &before, &[]);
        assert!(run.outcome.is_ok(), "{:?}", run.outcome);
        let after = audit(&run.after).expect("an image");
        assert!(
            after.is_clean(),
            "{:?} {:?}",
            after.corruptions,
            after.mismatches
        );
        ask(Property::Idempotent, &before, &run, &repair).expect("nothing more to do");
    }
}
