//! What is asked of one repair in which no operation failed, from the bytes before and after. Each
//! property has one row: when it is asked, by which rule of the contract not always, and what it is.

use super::reading::{Kind, Reading};
use super::undo_restores::Points;
use super::{
    Failure, Property, Verdict, counts, crash_atomic, idempotent, leaves_data_alone, plan_exact,
    structures, undo_restores,
};
use crate::judge::against;
use crate::run::{Before, Run};
use crate::spec::Repaired;
use crate::subject::Repair;

/// Whether a property says something of a repair.
type Applies = fn(&Before, &Run) -> bool;
/// A property of the bytes before and after.
type Judge = fn(&Before, &Run) -> Result<(), Failure>;

/// What the bytes show; `crash-atomic` as far as one run shows it: that what it has done lasts.
const OF_BYTES: [(Property, Applies, Judge); 11] = [
    (Property::AsSpecified, is_specified, as_specified),
    (Property::EvidenceStays, keeps, counts::evidence_stays),
    (
        Property::CountsEveryCluster,
        ends_well,
        counts::every_cluster,
    ),
    (Property::NoOverlap, builds_anew, structures::no_overlap),
    (Property::LeavesDataAlone, always, leaves_data_alone::judge),
    (
        Property::KeepsHeaderSettings,
        is_image,
        leaves_data_alone::judge_header,
    ),
    (Property::KeepsWhatItCannotFollow, keeps, counts::kept),
    (Property::NoLeaks, ends_well, counts::no_leaks),
    (Property::CleanAfterwards, is_mended, counts::clean),
    (Property::BoundedCost, ends_well, structures::bounded_cost),
    (Property::CrashAtomic, always, |_, run| {
        crash_atomic::lasts(run)
    }),
];

/// What one property of bytes says; not applicable where bytes do not show it.
pub fn judge(property: Property, before: &Before, run: &Run) -> Verdict {
    let mut rows = OF_BYTES.iter();
    match rows.find(|(one, ..)| *one == property) {
        Some((_, applies, judge)) if applies(before, run) => judge(before, run).into(),
        _ => Verdict::NotApplicable,
    }
}

/// Asks every property; `undo-restores` after power cuts at these points.
pub fn judge_all(
    before: &Before,
    run: &Run,
    repair: &dyn Repair,
    cuts: Points,
) -> Vec<(Property, Verdict)> {
    let of_bytes = OF_BYTES.map(|(property, ..)| (property, judge(property, before, run)));
    let mut verdicts = of_bytes.to_vec();
    let exact = has_plan(before, run).then(|| plan_exact::judge(before, run, repair));
    let exact = exact.map_or(Verdict::NotApplicable, Verdict::from);
    verdicts.push((Property::PlanExact, exact));
    verdicts.extend(idempotent::judge(before, run, repair));
    let restores = undo_restores::judge(before, run, repair, cuts);
    verdicts.push((Property::UndoRestores, restores));
    verdicts
}

const fn always(_: &Before, _: &Run) -> bool {
    true
}

/// A toy has no more of a header than the pointer that is written.
const fn is_image(before: &Before, _: &Run) -> bool {
    matches!(before.kind, Kind::Image)
}

/// A repair that refuses promises that it writes nothing (rules 1, 4, 10 and 12), which
/// `as-specified` asks.
pub(super) const fn ends_well(_: &Before, run: &Run) -> bool {
    run.outcome.is_ok()
}

/// The contract is about images. A toy has no tables to survey, and whoever places its structures is
/// told what is in use; all that it says of a toy is that one who refuses writes nothing.
fn is_specified(before: &Before, run: &Run) -> bool {
    is_image(before, run) || run.outcome.is_err()
}

/// Rules 1 and 11: before an image is written it is planned, the next time too. Where a repair
/// refuses there is no plan.
pub(super) fn has_plan(before: &Before, run: &Run) -> bool {
    matches!(before.kind, Kind::Image) && run.outcome.is_ok()
}

/// "Kept", and rule 7: in a sound image nothing is kept, nor where the evidence is given up.
fn keeps(before: &Before, run: &Run) -> bool {
    let damaged = |repaired: &Repaired| !repaired.damage.is_empty();
    ends_well(before, run)
        && !run.ask().options.release_unreachable
        && run.repaired(before).is_some_and(damaged)
}

/// Rule 3: in place nothing new is built.
fn builds_anew(before: &Before, run: &Run) -> bool {
    let pointer = |after: &Reading| after.pointer();
    run.outcome.is_ok() && run.reading(before).map(pointer) != Ok(before.reading.pointer())
}

/// Rule 7: of an image that is not sound what is damaged stays so; rule 2: so does a count for which
/// the width does not do; rule 12: `-r leaks` leaves what is too low.
fn is_mended(before: &Before, run: &Run) -> bool {
    let max = before.reading.max_refcount;
    let sound = |repaired: &Repaired| {
        repaired.damage.is_empty() && repaired.counts.values().all(|&count| count <= max)
    };
    let is_toy = matches!(before.kind, Kind::Toy(_));
    ends_well(before, run)
        && !run.ask().options.only_leaks
        && (is_toy || run.repaired(before).is_some_and(sound))
}

/// The image is what the specification says must come of the repair, byte for byte; or nothing is
/// written, for the reason that it gives.
fn as_specified(before: &Before, run: &Run) -> Result<(), Failure> {
    let has_written = !run.trace.is_read_only();
    let Some(expected) = run.expected(before)? else {
        return Failure::unless(!has_written, || "something was written before it failed");
    };
    let (left, ended, ask) = (&run.after, &run.outcome, run.ask());
    against(ask, expected, &before.bytes, left, ended, has_written).map_err(Failure::new)
}
