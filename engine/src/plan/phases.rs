//! From what was decided to the writes, in the order that survives a power cut.

use super::make::Draft;
use super::phase::{Phase, PhaseKind, Target};
use super::snapshots::Remedy;
use super::tables::{Mended, MendedTable};
use super::{RepairError, RepairPlan, Scope};
use crate::check::Report;
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
        layout: Option<Layout>,
        mended: Mended,
    ) -> Result<RepairPlan, RepairError> {
        let after = self.report_after(layout.is_some(), &mended);
        let tables = mended.tables.iter();
        let copied = tables.map(|table| u64::from(table.clears) + u64::from(table.sets));
        self.fixed.corruptions += copied.sum::<u64>();
        let structures = match &layout {
            Some(layout) => self.switch_to(layout)?,
            None => self.set_in_place(),
        };
        let mut phases = vec![clear(&mended, false)];
        phases.extend(structures);
        phases.extend([clear(&mended, true), set(&mended)]);
        phases.extend(self.flags(&after));
        phases.retain(|phase| !phase.targets.is_empty());
        if !phases.is_empty() {
            phases.splice(0..0, self.features());
        }
        let is_overflowing = self.look.overflow > 0 || self.counts.over_maximum().next().is_some();
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
            before: self.before,
            after,
            fixed: self.fixed,
            kept: self.kept,
            length: self.storage.len(),
            counts: self.counts,
            phases,
            image: self.image,
            look: self.look,
            layout,
            tables: mended.tables,
        };
        plan.length = plan.length_after(self.storage)?;
        Ok(plan)
    }

    /// The report of a check afterwards, but for figures that only a walk gives.
    fn report_after(&self, is_rebuilt: bool, mended: &Mended) -> Report {
        let overflow = if self.options.scope == Scope::Leaks {
            // The final counts are not the references: nothing is raised.
            self.look.overflow
        } else {
            let most = self.image.geometry().max_refcount();
            let over = self.counts.over_maximum();
            over.map(|(_, count)| count - most).sum()
        };
        let left = self.left.saturating_sub(self.look.overflow) + overflow;
        let snapshots = match self.remedy {
            None => self.look.references.snapshots.corruptions,
            Some(_) => 0,
        };
        let unreadable = self.look.comparison.unreadable_clusters;
        Report {
            check_errors: if is_rebuilt { 0 } else { unreadable },
            corruptions: left + mended.left + snapshots,
            leaks: self.kept.clusters,
            needs_rebuild: self.before.needs_rebuild && !is_rebuilt,
            ..self.before.clone()
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

    /// New structures, and the switch to them.
    fn switch_to(&mut self, layout: &Layout) -> Result<Vec<Phase>, RepairError> {
        let geometry = self.image.geometry();
        let mut pointer = layout.pointer(geometry);
        let mut steps = vec![Step::Rebuilt {
            reftable: Offset(layout.reftable.first.0 << geometry.cluster_bits()),
            reftable_clusters: layout.reftable.count,
            refblocks: layout.refblocks.len() as u64,
        }];
        let mut written = Vec::new();
        if let Some(Remedy {
            snapshots,
            rewrites,
        }) = self.remedy
        {
            pointer.extend(snapshots.to_be_bytes());
            if rewrites {
                let (offset, table) = std::mem::take(&mut self.new_table);
                pointer.extend(offset.0.to_be_bytes());
                steps.push(Step::RewroteSnapshotTable(snapshots));
                written.extend((!table.is_empty()).then(|| bytes(offset, table)));
            } else {
                steps.push(Step::ShortenedSnapshotTable(snapshots));
            }
        }
        let batches = layout.batches(geometry);
        let batches = batches.map(|order| order.start as u32..order.end as u32);
        written.extend(batches.map(Target::NewRefblocks));
        let reftable = layout.encode_reftable(geometry)?.into_iter();
        let reftable = reftable.map(|(offset, part)| bytes(offset, part));
        let pointer = bytes(geometry.reftable_pointer_offset(), pointer);
        Ok(vec![
            Phase::new(PhaseKind::Build, [], written),
            Phase::new(PhaseKind::Reftable, [], reftable),
            Phase::new(PhaseKind::Switch, steps, [pointer]),
        ])
    }

    /// Refcounts in refblocks that stay: those that are raised first.
    fn set_in_place(&self) -> Vec<Phase> {
        let mut phases = Vec::new();
        if let Some(Remedy { snapshots, .. }) = self.remedy {
            let (at, value) = (SNAPSHOTS_POSITION, snapshots.to_be_bytes());
            let step = Step::ShortenedSnapshotTable(snapshots);
            phases.push(header_field(PhaseKind::Switch, step, at, &value));
        }
        let comparison = &self.look.comparison;
        let mut set = |kind, step: fn(u64) -> Step, is_meant: fn(&u64, &u64) -> bool| {
            let mut clusters = 0;
            let refblocks = comparison.differing.keys().copied().filter(|refblock| {
                let differences = comparison.differences_of(&self.counts, *refblock);
                let meant = differences.filter(|(_, refcount, count)| is_meant(refcount, count));
                let here = meant.count() as u64;
                clusters += here;
                here > 0
            });
            let refblocks: Vec<_> = refblocks.map(Target::Refblock).collect();
            phases.push(Phase::new(kind, [step(clusters)], refblocks));
        };
        set(PhaseKind::Raise, Step::Raised, u64::lt);
        set(PhaseKind::Lower, Step::Lowered, u64::gt);
        phases
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
        let (at, value) = (
            AUTOCLEAR_FEATURES_POSITION,
            (features & KNOWN_AUTOCLEAR).to_be_bytes(),
        );
        let step = Step::ClearedAutoclear(bits);
        (bits != 0).then(|| header_field(PhaseKind::Features, step, at, &value))
    }
}

fn bytes(offset: Offset, bytes: Vec<u8>) -> Target {
    Target::Bytes(Box::new((offset, bytes)))
}

fn header_field(kind: PhaseKind, step: Step, position: u64, value: &[u8]) -> Phase {
    let field = bytes(Offset(position), value.to_vec());
    Phase::new(kind, [step], [field])
}

/// Clears COPIED bits and replaces entries; in tables within the old refcount structures only once
/// the header leads to others.
fn clear(mended: &Mended, late: bool) -> Phase {
    let tables = || mended.tables.iter().filter(|table| table.is_late == late);
    let replaced = tables().map(|table| u64::from(table.replaced)).sum();
    let clears = tables().map(|table| u64::from(table.clears)).sum();
    let mut steps = Vec::new();
    if replaced > 0 {
        steps.push(Step::ReplacedEntries(replaced));
    }
    if clears > 0 {
        steps.push(Step::ClearedCopied(clears));
    }
    let changed = targets(mended, |table| {
        table.is_late == late && table.changes_first()
    });
    Phase::new(PhaseKind::Clear, steps, changed)
}

/// Sets COPIED bits.
fn set(mended: &Mended) -> Phase {
    let sets = mended.tables.iter().map(|table| u64::from(table.sets));
    let early = targets(mended, |table| !table.is_late && table.sets > 0);
    let late = targets(mended, |table| table.is_late && table.sets > 0);
    Phase::new(
        PhaseKind::Set,
        [Step::SetCopied(sets.sum())],
        early.chain(late),
    )
}

fn targets(
    mended: &Mended,
    is_meant: impl Fn(&MendedTable) -> bool,
) -> impl Iterator<Item = Target> {
    let numbered = (0..).zip(&mended.tables);
    let meant = numbered.filter(move |(_, table)| is_meant(table));
    meant.map(|(number, _)| Target::Table(number))
}

impl RepairPlan {
    /// Bytes of the file afterwards.
    fn length_after(&self, storage: &dyn Storage) -> Result<u64, RepairError> {
        let end = self.layout().map_or(Cluster(0), Layout::end);
        let mut length = storage
            .len()
            .max(end.0 << self.counts.geometry().cluster_bits());
        let mut bytes = Vec::new();
        for phase in &self.phases {
            for target in &phase.targets {
                // Only what is written in a last cluster that the file has in part may make it longer.
                if self.place(target).end > length
                    && let Some(offset) = self.write(phase.kind, target, storage, &mut bytes)?
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
