//! A toy is planned and written by each algorithm; every property has its say, of the plan and of
//! the bytes.

use super::encoding::decode;
use super::{Broken, Target, Use, cuts_of};
use crate::case::Algorithm;
use crate::properties::plan::{Brute, Planning};
use crate::properties::reading::Kind;
use crate::properties::{Property, Verdict, judge_all};
use crate::run::{Before, ToyRepair, run};
use crate::subject::Subject;
use crate::toy::{Clusters, Toy};

/// Runs and judges one input.
pub fn judge(subject: &dyn Subject, input: &[u8]) -> Result<Use, Broken> {
    let Ok(mut case) = decode(Target::Rebuild, input) else {
        return Ok(Use::Refused);
    };
    let Some(toy) = Toy::from_case(&case) else {
        return Ok(Use::Refused);
    };
    for algorithm in [Algorithm::Planned, Algorithm::FirstFit, Algorithm::Tail] {
        case.algorithm = algorithm;
        // A toy without a place in memory, or without a geometry, is none.
        let Ok((before, repair)) = ToyRepair::new(subject, &case) else {
            return Ok(Use::Refused);
        };
        let brute = Brute::new(seen_by(algorithm, &toy));
        let planning = Planning::new(algorithm, &repair.planned, &brute);
        let of_plan = planning.verdicts(|property| !property.is_known_of_toys(algorithm));
        let run = run(&repair, &before, &[]);
        let of_bytes = judge_all(&before, &run, &repair, cuts_of(input));
        for (property, verdict) in of_plan.chain(of_bytes) {
            holds(algorithm, &before, property, verdict)?;
        }
    }
    Ok(Use::Judged)
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

/// An error where a property fails that should not: QEMU's algorithms fail some.
pub(super) fn holds(
    algorithm: Algorithm,
    before: &Before,
    property: Property,
    verdict: Verdict,
) -> Result<(), Broken> {
    let is_toy = matches!(before.kind, Kind::Toy(_));
    let is_known = is_toy && property.is_known_of_toys(algorithm);
    match verdict {
        Verdict::Fails(failure) if !is_known => {
            let message = format!("algorithm {algorithm}: {failure}");
            Err(Broken::new(property.name(), message))
        }
        _ => Ok(()),
    }
}
