//! From what was decided to the writes, in the order that survives a power cut.

use super::make::Draft;
use super::phase::{Phase, PhaseKind, Target};
use super::tables::{Mended, MendedTable};
use super::{RepairError, RepairPlan, Scope};
use crate::check::{Report, report_overflow};
use crate::format::header::{
    AUTOCLEAR_FEATURES_POSITION, CORRUPT, DIRTY, INCOMPATIBLE_FEATURES_POSITION, KNOWN_AUTOCLEAR,
    SNAPSHOTS_POSITION,
};
use crate::rebuild::Layout;
use crate::step::Step;
use crate::storage::Storage;
use crate::table::{Run, RunSet};
use crate::units::{Cluster, Offset};

impl Draft<'_> {
    /// The plan.
    pub(super) fn finish(
        mut self,
        structures: Vec<Phase>,
        mended: &Mended,
    ) -> Result<RepairPlan, RepairError> {
        let after = self.report_after(mended.left);
        let tables = mended.tables.iter();
        let copied = tables.map(|table| u64::from(table.clears) + u64::from(table.sets));
        self.fixed.corruptions += copied.sum::<u64>();
        let mut phases = vec![clear(&mended.tables, false)];
        phases.extend(structures);
        phases.extend([clear(&mended.tables, true), set(&mended.tables)]);
        phases.extend(self.flags(&after));
        phases.retain(|phase| !phase.targets.is_empty());
        if !phases.is_empty() {
            phases.splice(0..0, self.features());
        }
        let most = self.image.geometry().max_refcount();
        let is_overflowing = self.look.overflow > 0 || self.counts.above(most).next().is_some();
        let mut plan = RepairPlan {
            changes_only_refcounts: self.is_sound_walk
                && !self.look.references.header_is_table
                && self.kept.clusters == 0
                && !is_overflowing
                && self.options.scope == Scope::All
                && self.remedy.is_none(),
            is_foreseen: !self.look.references.header_is_table
                && !is_overflowing
                && after.check_errors == 0,
            released: self.released(),
            after,
            fixed: self.fixed,
            kept: self.kept,
            length: self.storage.len(),
            counts: self.counts,
            phases,
            image: self.image,
            look: self.look,
            layout: self.layout,
        };
        plan.length = plan.length_after(self.storage)?;
        Ok(plan)
    }

    /// The report of a check afterwards, but for figures that only a walk gives.
    fn report_after(&mut self, left_in_tables: u64) -> Report {
        let is_rebuilt = self.layout.is_some();
        let overflow = if self.options.scope == Scope::Leaks {
            // The final counts are not the references: nothing is raised.
            self.look.overflow
        } else {
            report_overflow(&self.counts, &mut ())
        };
        let by_old_structures = self.look.overflow.saturating_sub(overflow);
        self.fixed.corruptions += u64::from(is_rebuilt) * by_old_structures;
        let left = self.after.corruptions.saturating_sub(self.look.overflow) + overflow;
        let snapshots = self.look.references.snapshots.corruptions;
        let snapshots = self.remedy.map_or(snapshots, |_| 0);
        let unreadable = self.look.comparison.unreadable_clusters;
        Report {
            check_errors: if is_rebuilt { 0 } else { unreadable },
            corruptions: left + left_in_tables + snapshots,
            leaks: self.kept.clusters,
            needs_rebuild: self.after.needs_rebuild && !is_rebuilt,
            ..self.after.clone()
        }
    }

    /// What is released and free now: its space is given back.
    fn released(&self) -> RunSet {
        // A check that reads the header as a table may be led to what is released.
        if self.kept.clusters > 0 || self.look.references.header_is_table {
            return RunSet::new();
        }
        let covered = &self.look.references.beyond.covered;
        let released = self.released.without(covered);
        let clusters = released.runs().iter().flat_map(Run::iter);
        let free = clusters.filter(|cluster| self.counts.get(*cluster) == 0);
        RunSet::of_ascending(free.map(Run::single))
    }

    /// Refcounts in refblocks that stay: those that are raised first.
    pub(super) fn set_in_place(&self) -> Vec<Phase> {
        let (old, comparison) = (&self.look.old, &self.look.comparison);
        let set = |kind, step: fn(u64) -> Step, is_meant: fn(&u64, &u64) -> bool| {
            let (mut clusters, mut targets) = (0, Vec::new());
            for refblock in comparison.differing.keys() {
                let differences = comparison.differences_of(&self.counts, *refblock);
                let meant = differences.filter(|one| is_meant(&one.refcount, &one.references));
                let here = meant.count() as u64;
                clusters += here;
                let place = || old.place_of(*refblock);
                targets.extend((here > 0).then(|| Target::Refblock(*refblock, place())));
            }
            Phase::new(kind, [step(clusters)], targets)
        };
        let shorten = self.remedy.map(|remedy| {
            let number = remedy.snapshots.to_be_bytes();
            let step = remedy.step();
            header_field(PhaseKind::Switch, step, SNAPSHOTS_POSITION, &number)
        });
        let raise = set(PhaseKind::Raise, Step::Raised, u64::lt);
        let lower = set(PhaseKind::Lower, Step::Lowered, u64::gt);
        shorten.into_iter().chain([raise, lower]).collect()
    }

    /// Clears the dirty and the corrupt bit where nothing is wrong any more.
    fn flags(&self, after: &Report) -> Option<Phase> {
        let features = self.image.header.incompatible_features;
        let cleared = features & !(DIRTY | CORRUPT);
        let is_due = cleared != features && after.check_errors == 0 && after.corruptions == 0;
        let (at, value) = (INCOMPATIBLE_FEATURES_POSITION, cleared.to_be_bytes());
        is_due.then(|| header_field(PhaseKind::Flags, Step::ClearedFlags, at, &value))
    }

    /// Clears autoclear bits that are not known, as who writes has to (specification, "Autoclear
    /// feature bits").
    fn features(&self) -> Option<Phase> {
        let features = self.image.header.autoclear_features;
        let bits = features & !KNOWN_AUTOCLEAR;
        let (at, value) = (AUTOCLEAR_FEATURES_POSITION, (features ^ bits).to_be_bytes());
        let step = Step::ClearedAutoclear(bits);
        (bits != 0).then(|| header_field(PhaseKind::Features, step, at, &value))
    }
}

fn header_field(kind: PhaseKind, step: Step, position: u64, value: &[u8]) -> Phase {
    let target = Target::Bytes(Offset(position), value.to_vec());
    Phase::new(kind, [step], [target])
}

/// Clears COPIED bits and replaces entries; in tables within the old refcount structures only once
/// the header leads to others.
fn clear(tables: &[MendedTable], late: bool) -> Phase {
    let tables = tables.iter();
    let tables = tables.filter(|table| table.is_late == late && table.changes_first());
    let replaced = entries(Step::ReplacedEntries, tables.clone().map(|it| it.replaced));
    let cleared = entries(Step::ClearedCopied, tables.clone().map(|it| it.clears));
    let steps = replaced.into_iter().chain(cleared);
    Phase::new(PhaseKind::Clear, steps, tables.copied().map(Target::Table))
}

/// Sets COPIED bits.
fn set(tables: &[MendedTable]) -> Phase {
    let tables = tables.iter().filter(|table| table.sets > 0);
    let step = entries(Step::SetCopied, tables.clone().map(|it| it.sets));
    Phase::new(PhaseKind::Set, step, tables.copied().map(Target::Table))
}

/// The step that changes so many entries, if there are any.
fn entries(step: fn(u64) -> Step, counts: impl Iterator<Item = u32>) -> Option<Step> {
    let count = counts.map(u64::from).sum();
    (count > 0).then(|| step(count))
}

impl RepairPlan {
    /// Bytes of the file afterwards.
    fn length_after(&self, storage: &dyn Storage) -> Result<u64, RepairError> {
        let end = self.layout.as_ref().map_or(Cluster(0), Layout::end);
        let end = end.0 << self.counts.geometry().cluster_bits();
        let mut length = storage.len().max(end);
        let mut bytes = Vec::new();
        for phase in &self.phases {
            for target in &phase.targets {
                // Only what is written in a last cluster that the file has in part may make it longer.
                let targets = std::slice::from_ref(target);
                if self.place(target).end > length
                    && let Some(offset) = self.write(phase.kind, targets, storage, &mut bytes)?
                {
                    length = length.max(offset.0 + bytes.len() as u64);
                }
            }
        }
        match storage.capacity() {
            Some(capacity) if length > capacity => {
                Err(RepairError::PastCapacity { length, capacity })
            }
            _ => Ok(length),
        }
    }
}
