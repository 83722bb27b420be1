//! Read-only work on damaged images: a check counts what the independent audit counts and never
//! writes; a plan says what the repair then does. A failure shrinks to a case file; seeds that once
//! failed are in `proptest-regressions/` and are tried first.

use proptest::prelude::*;
use recount::{RepairOptions, Storage};
use recount_oracle::audit::{Unreadable, audit, counters};
use recount_oracle::case::build::build;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::{Algorithm, Case};
use recount_oracle::disk::{SECTOR, SimulatedDisk};
use recount_proptests::{check, damaged, refcounts_damaged};

const REGRESSIONS: Option<&str> = Some("proptest-regressions/checks.txt");

/// The image of a case on a disk that records what is done to it.
fn disk(case: &Case) -> (SparseBytes, SimulatedDisk) {
    let mut bytes = SparseBytes::default();
    let built = build(case, &mut bytes).expect("strategies give possible cases");
    let disk = SimulatedDisk::new(bytes.clone(), SECTOR, built.capacity);
    (bytes, disk)
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
            let report = recount::check(&disk, &mut ());
            let expected = match audit(&bytes) {
                Ok(audit) => counters(&audit),
                Err(Unreadable::NotOpened(refusal)) => {
                    prop_assert!(report.is_err(), "{refusal}, and the check says {report:?}");
                    return Ok(());
                }
                // Beyond what the audit reads in bounded time.
                Err(_) => return Ok(()),
            };
            let report = match report {
                Ok(report) => report,
                Err(error) => {
                    prop_assert!(expected.gives_up, "the check says {error}");
                    return Ok(());
                }
            };
            prop_assume!(!expected.gives_up);
            prop_assert_eq!(report.check_errors, expected.check_errors, "check errors");
            prop_assert_eq!(report.corruptions, expected.corruptions, "corruptions");
            prop_assert_eq!(report.leaks, expected.leaks, "leaks");
            prop_assert_eq!(report.image_end_offset, expected.image_end_offset, "end");
            prop_assert_eq!(report.total_clusters, expected.total_clusters, "total");
            prop_assert_eq!(
                report.allocated_clusters,
                expected.allocated_clusters,
                "allocated"
            );
            prop_assert_eq!(
                report.fragmented_clusters,
                expected.fragmented_clusters,
                "fragmented"
            );
            prop_assert_eq!(
                report.compressed_clusters,
                expected.compressed_clusters,
                "compressed"
            );
            Ok(())
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
                recount::check(&disk, &mut ()).is_ok(),
                recount::repair::plan(&disk, &RepairOptions::default(), &mut ()).is_ok(),
            );
            prop_assert!(disk.trace().events().is_empty(), "{outcomes:?}");
            prop_assert!(*disk.live() == bytes);
            prop_assert_eq!(
                Storage::len(&disk),
                recount_oracle::case::damage::ReadWriteAt::len(&bytes)
            );
            Ok(())
        },
    );
}

#[test]
fn the_plan_is_what_the_repair_writes() {
    let strategy = refcounts_damaged(&[Algorithm::Planned]);
    check(
        "the_plan_is_what_the_repair_writes",
        REGRESSIONS,
        150,
        strategy,
        |case| {
            let (bytes, mut disk) = disk(case);
            // Neither what nobody opens, nor what an audit does not read in bounded time.
            prop_assume!(audit(&bytes).is_ok());
            let options = RepairOptions::default();
            let plan = recount::repair::plan(&disk, &options, &mut ())
                .map_err(|error| TestCaseError::fail(error.to_string()))?;
            let outcome = recount::repair(&mut disk, &options, &mut ())
                .map_err(|error| TestCaseError::fail(error.to_string()))?;
            let after =
                audit(disk.live()).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let rebuilt = outcome
                .steps
                .iter()
                .any(|step| matches!(step, recount::repair::Step::Rebuilt { .. }));
            prop_assert_eq!(plan.rebuild.is_some(), rebuilt);
            if let Some(layout) = &plan.rebuild {
                let size = after.header.cluster_size();
                prop_assert_eq!(after.header.reftable_offset, layout.reftable.first.0 * size);
                prop_assert_eq!(after.header.reftable_clusters, layout.reftable.count.0);
                let found: Vec<_> = after
                    .disk
                    .refblocks()
                    .map(|(index, at)| (index, at / size))
                    .collect();
                let planned: Vec<_> = layout
                    .refblocks
                    .iter()
                    .map(|(index, at)| (index.0, at.0))
                    .collect();
                prop_assert_eq!(found, planned);
            }
            let raised = outcome.steps.iter().find_map(|step| match step {
                recount::repair::Step::Raised { clusters } => Some(*clusters),
                _ => None,
            });
            if !rebuilt {
                prop_assert_eq!(plan.raised, raised.unwrap_or(0));
                prop_assert_eq!(plan.lowered, outcome.fixed.leaks);
            }
            prop_assert_eq!(plan.kept, outcome.kept.clusters);
            Ok(())
        },
    );
}
