//! `terminates`: the plan ends within the proven number of tries.

use recount::rebuild::proven_tries;
use recount::{ClusterCount, Geometry, PlanError};

use super::planning::{Complaint, Planning};
use crate::case::Algorithm;

/// The number of tries, at most, for a geometry with so many reserved clusters and a final reftable
/// of so many clusters. Each try is larger than the one before, which alone bounds their number;
/// mostly far fewer are proven.
#[must_use]
pub fn bound(geometry: &Geometry, reserved: u64, reftable: u64) -> u64 {
    proven_tries(geometry, ClusterCount(reserved)).map_or(reftable, |proven| proven.min(reftable))
}

/// QEMU's algorithms have no proven bound; they fail where they are certain never to end.
pub fn judge(run: &Planning<'_>, geometry: &Geometry) -> Result<(), Complaint> {
    match run.outcome {
        Err(PlanError::Diverges { clusters }) => Err(Complaint::Diverges {
            clusters: clusters.0,
        }),
        Ok(layout) if run.algorithm == Algorithm::Planned => {
            let bound = bound(
                geometry,
                run.toy.old.count().into(),
                layout.reftable.count.0,
            );
            if layout.tries <= bound {
                return Ok(());
            }
            Err(Complaint::TooManyTries {
                tries: layout.tries,
                bound,
            })
        }
        _ => Ok(()),
    }
}
