//! A toy is planned and written by each algorithm; every property has its say, of the plan and of
//! the bytes.

use super::encoding::decode;
use super::{Broken, Target, Use};
use crate::case::{Algorithm, Case};
use crate::explore::{JUDGED, can_be_asked, engine, verdict};
use crate::properties::planning::{Brute, Planning};
use crate::properties::{
    Property, Verdict, bounded_cost, clean_afterwards, counts_every_cluster, leaves_data_alone,
    no_leaks, no_overlap_bytes,
};
use crate::run::{Before, Run, ToyRepair, run};
use crate::toy::{Clusters, Toy};

/// A property of the bytes that a repair leaves.
type Judge = fn(&Before, &Run) -> Verdict;

/// The properties of the bytes.
const OF_BYTES: [(Property, Judge); 6] = [
    (Property::CountsEveryCluster, counts_every_cluster::judge),
    (Property::NoOverlap, no_overlap_bytes::judge),
    (Property::LeavesDataAlone, leaves_data_alone::judge),
    (Property::NoLeaks, no_leaks::judge),
    (Property::CleanAfterwards, clean_afterwards::judge),
    (Property::BoundedCost, bounded_cost::judge),
];

/// Runs and judges one input.
pub fn judge(input: &[u8]) -> Result<Use, Broken> {
    let Ok(mut case) = decode(Target::Rebuild, input) else {
        return Ok(Use::Refused);
    };
    let Some(toy) = Toy::from_case(&case) else {
        return Ok(Use::Refused);
    };
    for algorithm in [Algorithm::Planned, Algorithm::FirstFit, Algorithm::Tail] {
        case.algorithm = algorithm;
        let toy = seen_by(algorithm, &toy);
        let brute = Brute::new(toy);
        // A toy without a place in memory, or without a geometry, is none.
        let Ok((before, repair)) = ToyRepair::new(&case) else {
            return Ok(Use::Refused);
        };
        of_plan(&toy, &case, &repair, &brute)?;
        let run = run(&repair, &before, &[]);
        for (property, judge) in OF_BYTES {
            let verdict = judge(&before, &run);
            holds(algorithm, property, verdict)?;
        }
    }
    Ok(Use::Judged)
}

/// The toy as an algorithm takes it: to QEMU's the old structures are clusters in use.
const fn seen_by(algorithm: Algorithm, toy: &Toy) -> Toy {
    match algorithm {
        Algorithm::Planned => *toy,
        Algorithm::FirstFit | Algorithm::Tail => Toy {
            used: toy.used.or(toy.old),
            old: Clusters::NONE,
            ..*toy
        },
    }
}

fn of_plan(toy: &Toy, case: &Case, repair: &ToyRepair, brute: &Brute) -> Result<(), Broken> {
    let planning = Planning::new(toy, case.algorithm, &repair.planned, brute);
    let geometry = engine::geometry(toy.shape);
    for property in JUDGED {
        if !can_be_asked(property, &planning) {
            continue;
        }
        if let Some(Err(complaint)) = verdict(property, &planning, &geometry) {
            let verdict = Verdict::fails(complaint.to_string());
            holds(case.algorithm, property, verdict)?;
        }
    }
    Ok(())
}

/// An error where a property fails that should not: QEMU's algorithms fail some.
pub(super) fn holds(
    algorithm: Algorithm,
    property: Property,
    verdict: Verdict,
) -> Result<(), Broken> {
    match verdict {
        Verdict::Fails(failure) if !is_known(algorithm, property) => {
            let message = format!(
                "algorithm {}: {failure}",
                crate::toy::algorithm_name(algorithm)
            );
            Err(Broken::new(property.name(), message))
        }
        _ => Ok(()),
    }
}

/// Whether the algorithm is known to fail the property, as `cargo xtask model` shows. What it leaks
/// is not clean afterwards either.
const fn is_known(algorithm: Algorithm, property: Property) -> bool {
    use Property as P;
    match algorithm {
        Algorithm::Planned => false,
        Algorithm::FirstFit | Algorithm::Tail => matches!(
            property,
            P::Terminates
                | P::FitsWhenPossible
                | P::GrowsOnlyWhenNeeded
                | P::SmallestTable
                | P::NoLeaks
                | P::CleanAfterwards
                | P::BoundedCost
                | P::CrashAtomic
                | P::FaultSafe
        ),
    }
}
