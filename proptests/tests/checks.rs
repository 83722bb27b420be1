//! Read-only work on damaged images: a check counts what the independent audit counts and never
//! writes; a plan says what the repair then does. A failure shrinks to a case file; seeds that once
//! failed are in `proptest-regressions/` and are tried first.

use proptest::prelude::*;
use recount::{RepairOptions, Storage};
use recount_oracle::audit::{Unreadable, audit};
use recount_oracle::case::build::build;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::{Algorithm, Case};
use recount_oracle::disk::{Disk, SimulatedDisk};
use recount_oracle::properties::agrees;
use recount_proptests::judge::fails;
use recount_proptests::{Asked, check, damaged, refcounts_damaged};
use recount_subjects::engine::{self, Lent};

const REGRESSIONS: Option<&str> = Some("proptest-regressions/checks.txt");

/// The image of a case on a disk that records what is done to it.
fn disk(case: &Case) -> (SparseBytes, SimulatedDisk) {
    let built = build(case).expect("strategies give possible cases");
    let disk = SimulatedDisk::new(built.bytes.clone(), built.capacity);
    (built.bytes, disk)
}

#[test]
fn a_check_counts_what_the_audit_counts() {
    check(
        "a_check_counts_what_the_audit_counts",
        REGRESSIONS,
        600,
        damaged(),
        |case| {
            let (bytes, disk) = disk(case);
            let audited = match audit(&bytes) {
                Ok(audit) => Some(audit),
                Err(Unreadable::NotOpened { .. }) => None,
                // Beyond what the audit reads in bounded time.
                Err(_) => return Ok(Asked::Nothing),
            };
            let checked = engine::check(&Lent::Shown(&disk));
            agrees("in the damaged image", &checked, audited.as_ref()).map_err(fails)?;
            Ok(Asked::Judged)
        },
    );
}

#[test]
fn neither_a_check_nor_a_plan_writes() {
    check(
        "neither_a_check_nor_a_plan_writes",
        REGRESSIONS,
        200,
        damaged(),
        |case| {
            let (bytes, disk) = disk(case);
            // Whatever they say: the storage is only lent to them, and must not have been changed
            // through it.
            let outcomes = (
                recount::check(&Lent::Shown(&disk), &mut ()).is_ok(),
                recount::repair::plan(&Lent::Shown(&disk), &RepairOptions::default(), &mut ())
                    .is_ok(),
            );
            prop_assert!(disk.trace().events.is_empty(), "{outcomes:?}");
            prop_assert!(*disk.live() == bytes);
            prop_assert_eq!(Disk::len(&disk), bytes.len());
            Ok(if outcomes.0 {
                Asked::Judged
            } else {
                Asked::Nothing
            })
        },
    );
}

#[test]
fn the_repair_writes_what_the_plan_says_and_leaves_what_it_predicts() {
    let strategy = refcounts_damaged(&[Algorithm::Planned]);
    check(
        "the_repair_writes_what_the_plan_says_and_leaves_what_it_predicts",
        REGRESSIONS,
        150,
        strategy,
        |case| {
            let (bytes, mut disk) = disk(case);
            // Neither what nobody opens, nor what an audit does not read in bounded time.
            prop_assume!(audit(&bytes).is_ok());
            let options = RepairOptions::default();
            let plan = recount::repair::plan(&Lent::Shown(&disk), &options, &mut ());
            let plan = plan.map_err(fails)?;
            let mut planned = SimulatedDisk::new(bytes, None);
            plan.for_each_write::<recount::RepairError>(
                &Lent::Shown(&disk),
                &mut |_, offset, bytes| Ok(Lent::Whole(&mut planned).write_at(offset, bytes)?),
            )
            .map_err(fails)?;
            let outcome = recount::repair(&mut Lent::Whole(&mut disk), &options, &mut ());
            let outcome = outcome.map_err(fails)?;
            let size = plan.counts.geometry().cluster_size();
            for run in plan.released.runs() {
                let offset = run.first.0 * size;
                planned
                    .discard(offset, run.count.0 * size)
                    .expect("no fault");
            }
            prop_assert!(
                planned.live() == disk.live(),
                "the repair wrote something else"
            );
            prop_assert_eq!(disk.len(), plan.length);
            prop_assert_eq!(&outcome.report, &plan.after);
            let report = recount::check(&Lent::Shown(&disk), &mut ()).map_err(fails)?;
            prop_assert_eq!(&report, &plan.after);
            let next = recount::repair::plan(&Lent::Shown(&disk), &options, &mut ());
            prop_assert!(next.map_err(fails)?.is_empty());
            Ok(Asked::Judged)
        },
    );
}
