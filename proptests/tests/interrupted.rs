//! Repairs that are interrupted: by a power cut after any write, which loses any subset of the
//! sectors that were not flushed, or by operations that fail. The image is the old or the new one
//! each time, and a second repair ends as the first one should have. A failure shrinks to a case
//! file; seeds that once failed are in `proptest-regressions/` and are tried first.

use proptest::prelude::*;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::{Algorithm, Case, Schedule};
use recount_oracle::crash::{Crashes, Limits};
use recount_oracle::properties::{Property, crash_atomic, fault_safe};
use recount_oracle::run::{Before, ImageRepair, run};
use recount_proptests::judge::{holds, is_clean, prepare, repaired, view};
use recount_proptests::{check, refcounts_damaged, schedule};

const REGRESSIONS: Option<&str> = Some("proptest-regressions/interrupted.txt");
/// Crash states of one run that are looked at: the exploring of all is the explorer's.
const FEW: Limits = Limits {
    exhaustive_bits: 4,
    samples: 4,
    seed: 1,
};

/// An image of which only refcount structures are damaged, repaired by our algorithm while
/// something goes wrong.
fn interrupted(by: fn(&Schedule) -> bool) -> impl Strategy<Value = Case> {
    let something = schedule().prop_filter("something else goes wrong", by);
    (refcounts_damaged(&[Algorithm::Planned]), something)
        .prop_map(|(case, schedule)| Case { schedule, ..case })
}

fn is_power_cut(schedule: &Schedule) -> bool {
    matches!(schedule, Schedule::Crash(_))
}

fn is_fault(schedule: &Schedule) -> bool {
    matches!(schedule, Schedule::Faults(_))
}

/// A repair that is not interrupted leaves a clean image with all the guest's data.
fn ends_well(
    bytes: SparseBytes,
    before: &Before,
    repair: &ImageRepair,
) -> Result<(), TestCaseError> {
    let old = before.reading.audit().expect("an image");
    let (bytes, after) = repaired(bytes, before.capacity, repair)?;
    is_clean(&after)?;
    prop_assert!(
        view(&after, &bytes) == view(old, &before.bytes),
        "the guest sees a change"
    );
    Ok(())
}

#[test]
fn after_a_power_cut_the_image_is_the_old_or_the_new_one_and_can_be_repaired() {
    let name = "after_a_power_cut_the_image_is_the_old_or_the_new_one_and_can_be_repaired";
    check(name, REGRESSIONS, 120, interrupted(is_power_cut), |case| {
        let (Some((before, repair)), Schedule::Crash(crash)) = (prepare(case), &case.schedule)
        else {
            return Ok(());
        };
        let quiet = run(&repair, &before, &[]);
        let whole = before.kind.read(&quiet.after).ok();
        let whole = whole.filter(|_| !quiet.trace.is_read_only());
        let verdict = crash_atomic::judge(&before, &quiet.trace, whole.as_ref(), &FEW);
        let verdict = crash_atomic::lasts(&quiet).and(|| verdict);
        holds(Property::CrashAtomic, verdict)?;
        let crashes = Crashes {
            before: &before.bytes,
            trace: &quiet.trace,
            sector: before.sector,
        };
        ends_well(crashes.state(*crash), &before, &repair)
    });
}

#[test]
fn a_failing_operation_is_reported_and_the_image_can_be_repaired() {
    let name = "a_failing_operation_is_reported_and_the_image_can_be_repaired";
    check(name, REGRESSIONS, 120, interrupted(is_fault), |case| {
        let (Some((before, repair)), Schedule::Faults(faults)) = (prepare(case), &case.schedule)
        else {
            return Ok(());
        };
        let quiet = run(&repair, &before, &[]);
        let whole = before.kind.read(&quiet.after).ok();
        let whole = whole.filter(|_| !quiet.trace.is_read_only());
        // The nth of those that there are, so that the fault is reached.
        let faults: Vec<_> = faults
            .iter()
            .map(|fault| recount_oracle::case::Fault {
                nth: fault.nth % quiet.operations.of(fault.operation).max(1),
                ..*fault
            })
            .collect();
        let run = run(&repair, &before, &faults);
        let verdict = fault_safe::judge(&before, &run, whole.as_ref(), &FEW);
        holds(Property::FaultSafe, verdict)?;
        ends_well(run.after, &before, &repair)
    });
}

#[test]
fn a_power_cut_during_each_of_two_repairs_still_ends_clean() {
    let name = "a_power_cut_during_each_of_two_repairs_still_ends_clean";
    check(name, REGRESSIONS, 80, interrupted(is_power_cut), |case| {
        let (Some((before, repair)), Schedule::Crash(crash)) = (prepare(case), &case.schedule)
        else {
            return Ok(());
        };
        let mut bytes = before.bytes.clone();
        for _ in 0..2 {
            let fail =
                |error: recount_oracle::audit::Unreadable| TestCaseError::fail(error.to_string());
            let again =
                Before::new(bytes, before.sector, None, before.kind.clone()).map_err(fail)?;
            let run = run(&repair, &again, &[]);
            let crashes = Crashes {
                before: &again.bytes,
                trace: &run.trace,
                sector: again.sector,
            };
            bytes = crashes.state(*crash);
        }
        ends_well(bytes, &before, &repair)
    });
}
