//! What every property says of one repair in which nothing went wrong, whatever was repaired.

use super::{
    Property, Verdict, as_specified, bounded_cost, clean_afterwards, counts_every_cluster,
    crash_atomic, evidence_stays, idempotent, keeps_what_it_cannot_follow, leaves_data_alone,
    no_leaks, no_overlap_bytes, plan_exact,
};
use crate::run::{Before, Repair, Run};

/// A property of the bytes before and after.
type Judge = fn(&Before, &Run) -> Verdict;

/// What the bytes show; `crash-atomic` as far as one run shows it: that what it has done lasts.
const OF_BYTES: [(Property, Judge); 11] = [
    (Property::AsSpecified, as_specified::judge),
    (Property::PlanExact, plan_exact::judge),
    (Property::EvidenceStays, evidence_stays::judge),
    (Property::CountsEveryCluster, counts_every_cluster::judge),
    (Property::NoOverlap, no_overlap_bytes::judge),
    (Property::LeavesDataAlone, leaves_data_alone::judge),
    (
        Property::KeepsWhatItCannotFollow,
        keeps_what_it_cannot_follow::judge,
    ),
    (Property::NoLeaks, no_leaks::judge),
    (Property::CleanAfterwards, clean_afterwards::judge),
    (Property::BoundedCost, bounded_cost::judge),
    (Property::CrashAtomic, |_, run| crash_atomic::lasts(run)),
];

/// Asks every property.
#[must_use]
pub fn judge_all(before: &Before, run: &Run, repair: &dyn Repair) -> Vec<(Property, Verdict)> {
    let of_bytes = OF_BYTES.map(|(property, judge)| (property, judge(before, run)));
    let mut verdicts = of_bytes.to_vec();
    let (idempotent, plan_again_empty) = idempotent::judge_both(before, run, repair);
    verdicts.push((Property::Idempotent, idempotent));
    verdicts.push((Property::PlanAgainEmpty, plan_again_empty));
    verdicts
}
