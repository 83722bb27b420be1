//! A toy is planned and written by each algorithm; every property has its say, of the plan and of
//! the bytes.

use super::encoding::decode;
use super::{Broken, Target, Use};
use crate::case::Algorithm;
use crate::properties::plan::{Brute, Planning, of_plans};
use crate::properties::reading::Kind;
use crate::properties::{Property, Verdict, judge_all};
use crate::run::{Before, ToyGround, ToyRepair, run};
use crate::toy::{Clusters, Toy};

/// Runs and judges one input.
pub fn judge(input: &[u8]) -> Result<Use, Broken> {
    let Ok(mut case) = decode(Target::Rebuild, input) else {
        return Ok(Use::Refused);
    };
    let Some(toy) = Toy::from_case(&case) else {
        return Ok(Use::Refused);
    };
    for algorithms in alike(&toy) {
        case.algorithm = algorithms[0];
        // A toy without a place in memory, or without a geometry, is none.
        let Ok((before, ground)) = ToyGround::new(&case) else {
            return Ok(Use::Refused);
        };
        let toy = seen_by(case.algorithm, &toy);
        let brute = Brute::new(toy);
        for &algorithm in *algorithms {
            let repair = ground.plan(algorithm);
            of_plan(algorithm, &before, &toy, &repair, &brute)?;
            let verdicts = judge_all(&before, &run(&repair, &before, &[]), &repair);
            for (property, verdict) in verdicts {
                holds(algorithm, &before, property, verdict)?;
            }
        }
    }
    Ok(Use::Judged)
}

/// The algorithms, those together to which a toy is the same: QEMU's take old structures for
/// clusters in use.
const fn alike(toy: &Toy) -> &'static [&'static [Algorithm]] {
    use Algorithm as A;
    if toy.old.is_empty() {
        &[&[A::Planned, A::FirstFit, A::Tail]]
    } else {
        &[&[A::Planned], &[A::FirstFit, A::Tail]]
    }
}

/// The toy as an algorithm takes it.
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

fn of_plan(
    algorithm: Algorithm,
    before: &Before,
    toy: &Toy,
    repair: &ToyRepair,
    brute: &Brute,
) -> Result<(), Broken> {
    let planning = Planning::new(toy, algorithm, &repair.planned, brute);
    for property in of_plans() {
        if is_known(algorithm, property) || !planning.can_be_asked(property) {
            continue;
        }
        if let Some(verdict) = planning.judge(property) {
            holds(algorithm, before, property, verdict.into())?;
        }
    }
    Ok(())
}

/// An error where a property fails that should not: QEMU's algorithms fail some.
pub(super) fn holds(
    algorithm: Algorithm,
    before: &Before,
    property: Property,
    verdict: Verdict,
) -> Result<(), Broken> {
    let is_known = match before.kind {
        Kind::Toy(_) => is_known(algorithm, property),
        Kind::Image => property.is_known_of_images(algorithm),
    };
    match verdict {
        Verdict::Fails(failure) if !is_known => {
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
