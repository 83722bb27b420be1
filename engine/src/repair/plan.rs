//! What a repair would do, without doing it.

use super::keep::surplus;
use super::rebuild::Ground;
use super::snapshots::NewSnapshotTable;
use super::{RepairError, RepairOptions, Scope, keeps, leaks_need_rebuild};
use crate::check::{CheckError, Survey};
use crate::image::Image;
use crate::observer::Observer;
use crate::rebuild::Layout;
use crate::storage::Storage;

/// What a repair would write. COPIED bits depend on the refcounts that the rest leads to and are
/// not part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairPlan {
    /// The new refcount structures, where they have to be built anew.
    pub rebuild: Option<Layout>,
    /// Clusters whose refcounts would be raised in place.
    pub raised: u64,
    /// Clusters whose refcounts would be lowered, in place or by the rebuild.
    pub lowered: u64,
    /// Clusters that are allocated without a reference and would be kept.
    pub kept: u64,
    /// L2 entries without data that would be replaced.
    pub replaced_entries: u64,
    /// Snapshots that a new snapshot table would have.
    pub snapshot_table: Option<u32>,
    /// Snapshots that the header would name, where it names more than there are.
    pub snapshots_named: Option<u32>,
}

/// Says what [`repair`](super::repair) would do, and writes nothing.
pub fn plan(
    storage: &dyn Storage,
    options: &RepairOptions,
    observer: &mut dyn Observer,
) -> Result<RepairPlan, RepairError> {
    let image = Image::open(storage).map_err(CheckError::from)?;
    let all = options.scope == Scope::All;
    let mut survey = Survey::take(&image, storage, all, observer)?;
    let keep = keeps(&survey, options);
    let leaks = survey.comparison.leaks;
    let mut plan = RepairPlan {
        lowered: if keep { 0 } else { leaks },
        kept: if keep { leaks } else { 0 },
        ..RepairPlan::default()
    };
    if !all {
        if leaks_need_rebuild(&survey, keep) {
            return Err(RepairError::NeedsRebuild);
        }
        return Ok(plan);
    }
    plan.replaced_entries = survey.references.unaligned_empty.len() as u64;
    let snapshots = &survey.references.snapshots;
    plan.snapshots_named = snapshots
        .is_shortened()
        .then_some(snapshots.entries.len() as u32);
    if !survey.is_rebuilt_by_repair() {
        plan.raised = survey.comparison.corruptions;
        return Ok(plan);
    }
    let kept = keep.then(|| surplus(&survey));
    let mut ground = Ground::of(&image, storage, options, &mut survey, kept)?;
    let table = &survey.references.snapshots;
    let snapshots = NewSnapshotTable::prepare(&image, storage, table, &mut ground)?;
    plan.snapshot_table = snapshots.map(|table| table.count);
    plan.rebuild = Some(ground.plan(&image, options)?);
    Ok(plan)
}
