//! Repairs that are interrupted: by a power cut after any write, which loses any subset of the
//! sectors that were not flushed, or by operations that fail. The image is the old or the new one
//! each time, and a second repair ends as the first one should have. A failure shrinks to a case
//! file; seeds that once failed are in `proptest-regressions/` and are tried first.

use proptest::prelude::*;
use recount_oracle::audit::audit;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::{Algorithm, Case, Schedule};
use recount_oracle::crash::{self, Limits};
use recount_oracle::properties::{Property, Verdict, crash_atomic, fault_safe};
use recount_oracle::run::{Before, Run, again, run};
use recount_proptests::judge::{check_opened, fails, hold, view};
use recount_proptests::{Asked, entry_damaged, refcounts_damaged, schedule};
use recount_subjects::ImageRepair;

const REGRESSIONS: Option<&str> = Some("proptest-regressions/interrupted.txt");
const ALL: &[Algorithm] = &[Algorithm::Planned, Algorithm::FirstFit, Algorithm::Tail];
/// Crash states of one run that are looked at: the exploring of all is the explorer's.
const FEW: Limits = Limits {
    exhaustive_bits: 4,
    samples: 4,
    seed: 1,
};

/// A damaged image, mostly one of which only refcount structures are, repaired while something goes
/// wrong.
fn interrupted(by: fn(&Schedule) -> bool) -> impl Strategy<Value = Case> {
    let something = schedule().prop_filter("something else goes wrong", by);
    let image = prop_oneof![3 => refcounts_damaged(ALL), 1 => entry_damaged()];
    (image, something).prop_map(|(case, schedule)| Case { schedule, ..case })
}

fn is_power_cut(schedule: &Schedule) -> bool {
    matches!(schedule, Schedule::Crash(_))
}

fn is_fault(schedule: &Schedule) -> bool {
    matches!(schedule, Schedule::Faults(_))
}

/// The next repair of what is left ends as the disturbed one would have, with all the guest's data.
fn ends_well(
    bytes: SparseBytes,
    before: &Before,
    repair: &ImageRepair,
    quiet: &Run,
) -> Result<(), TestCaseError> {
    let again = again(before, repair, quiet, bytes);
    let again = again.map_err(fails)?;
    let again = again.expect("an image");
    hold(again.verdicts)?;
    let old = before.reading.audit().expect("an image");
    let new = audit(&again.run.after).map_err(fails)?;
    prop_assert!(
        view(&new, &again.run.after) == view(old, &before.bytes),
        "the guest sees a change"
    );
    Ok(())
}

#[test]
fn after_a_power_cut_the_image_is_the_old_or_the_new_one_and_can_be_repaired() {
    let name = "after_a_power_cut_the_image_is_the_old_or_the_new_one_and_can_be_repaired";
    check_opened(
        name,
        REGRESSIONS,
        200,
        interrupted(is_power_cut),
        |case, before, repair| {
            let Schedule::Crash(crash) = &case.schedule else {
                return Ok(Asked::Nothing);
            };
            let quiet = run(repair, before, &[]);
            let whole = quiet.whole(before);
            let (_, verdict) = crash_atomic::judge(before, &quiet.trace, whole, &FEW);
            let verdict = Verdict::from(crash_atomic::lasts(&quiet)).and(|| verdict);
            hold(vec![(Property::CrashAtomic, verdict)])?;
            ends_well(
                crash::state(&before.bytes, &quiet.trace, *crash),
                before,
                repair,
                &quiet,
            )?;
            Ok(writes(&quiet))
        },
    );
}

#[test]
fn a_failing_operation_is_reported_and_the_image_can_be_repaired() {
    let name = "a_failing_operation_is_reported_and_the_image_can_be_repaired";
    check_opened(
        name,
        REGRESSIONS,
        200,
        interrupted(is_fault),
        |case, before, repair| {
            let Schedule::Faults(faults) = &case.schedule else {
                return Ok(Asked::Nothing);
            };
            let quiet = run(repair, before, &[]);
            let whole = quiet.whole(before);
            // The nth of those that there are, so that the fault is reached.
            let faults: Vec<_> = faults
                .iter()
                .map(|fault| recount_oracle::case::Fault {
                    nth: fault.nth % quiet.asked.operations[fault.operation as usize].max(1),
                    ..*fault
                })
                .collect();
            let failed = run(repair, before, &faults);
            let (_, verdict) = fault_safe::judge(before, &failed, whole, &FEW);
            hold(vec![(Property::FaultSafe, verdict)])?;
            ends_well(failed.after, before, repair, &quiet)?;
            Ok(writes(&quiet))
        },
    );
}

/// Where nothing is written there is nothing to disturb.
fn writes(run: &Run) -> Asked {
    if run.trace.is_read_only() {
        Asked::Nothing
    } else {
        Asked::Judged
    }
}

#[test]
fn a_power_cut_during_each_of_two_repairs_still_ends_clean() {
    let name = "a_power_cut_during_each_of_two_repairs_still_ends_clean";
    check_opened(
        name,
        REGRESSIONS,
        80,
        interrupted(is_power_cut),
        |case, before, repair| {
            let Schedule::Crash(crash) = &case.schedule else {
                return Ok(Asked::Nothing);
            };
            let quiet = run(repair, before, &[]);
            let mut bytes = before.bytes.clone();
            for _ in 0..2 {
                let again = Before::new(bytes, None, before.kind.clone()).map_err(fails)?;
                bytes = crash::state(&again.bytes, &run(repair, &again, &[]).trace, *crash);
            }
            ends_well(bytes, before, repair, &quiet)?;
            Ok(writes(&quiet))
        },
    );
}
