//! From what was decided to the writes, in the order that survives a power cut.

use super::make::Draft;
use super::phase::{Phase, PhaseKind, Work};
use super::snapshots::Remedy;
use super::tables::{Changes, Mended, MendedTable};
use super::{RepairError, RepairPlan, Scope, Structures};
use crate::check::{Comparison, Report};
use crate::format::header::{
    AUTOCLEAR_FEATURES_POSITION, CORRUPT, DIRTY, INCOMPATIBLE_FEATURES_POSITION, KNOWN_AUTOCLEAR,
    SNAPSHOTS_POSITION,
};
use crate::rebuild::{Writes, pointer_to};
use crate::step::Step;
use crate::storage::Storage;
use crate::table::{Run, RunSet};
use crate::units::{Cluster, Offset, RefblockIndex};

impl Draft<'_> {
    /// The plan.
    pub(super) fn finish(
        mut self,
        before: Report,
        structures: Structures,
        mended: Mended,
        is_sound_walk: bool,
        header_is_table: bool,
    ) -> Result<RepairPlan, RepairError> {
        let after = self.report_after(&before, &structures, &mended);
        let (clears, sets) = mended.copied();
        self.fixed.corruptions += clears + sets;
        let mut phases = Vec::new();
        phases.extend(clear_phase(&mended, false));
        match &structures {
            Structures::New { .. } => self.switch_to(&structures, &mut phases)?,
            Structures::Present { .. } => self.set_in_place(&mut phases),
        }
        phases.extend(clear_phase(&mended, true));
        phases.extend(set_phase(&mended));
        phases.extend(self.flags(&after));
        if let Some(features) = self.features()
            && !phases.is_empty()
        {
            phases.insert(0, features);
        }
        let writes = match &structures {
            Structures::New { layout, .. } => Writes::of(layout, self.image.geometry())?,
            Structures::Present { .. } => Writes::default(),
        };
        let is_overflowing = self.look.overflow > 0 || self.counts.over_maximum().next().is_some();
        let mut plan = RepairPlan {
            changes_only_refcounts: is_sound_walk
                && !header_is_table
                && self.kept.clusters == 0
                && !is_overflowing
                && self.options.scope == Scope::All
                && self.remedy == Remedy::None,
            is_foreseen: !header_is_table && !is_overflowing && after.check_errors == 0,
            // A check that reads the header as a table may be led to what is released.
            released: if header_is_table {
                RunSet::new()
            } else {
                self.released()
            },
            before,
            after,
            fixed: self.fixed,
            kept: self.kept,
            length: self.storage.len(),
            counts: self.counts,
            phases,
            image: self.image,
            structures,
            writes,
            comparison: self.look.comparison,
            mended,
        };
        plan.length = plan.length_after(self.storage)?;
        Ok(plan)
    }

    /// The report of a check afterwards, but for figures that only a walk gives.
    fn report_after(&self, before: &Report, structures: &Structures, mended: &Mended) -> Report {
        let overflow = if self.options.scope == Scope::Leaks {
            // The final counts are not the references: nothing is raised.
            self.look.overflow
        } else {
            let most = self.image.geometry().max_refcount();
            self.counts
                .over_maximum()
                .map(|(_, count)| count - most)
                .sum()
        };
        let left = self.left.saturating_sub(self.look.overflow) + overflow;
        let snapshots = match self.remedy {
            Remedy::None => self.look.references.snapshots.corruptions,
            Remedy::Shorten(_) | Remedy::Rewrite(_) => 0,
        };
        let unreadable = match structures {
            Structures::Present { .. } => self.look.comparison.unreadable_clusters,
            Structures::New { .. } => 0,
        };
        Report {
            check_errors: unreadable,
            corruptions: left + mended.left + snapshots,
            leaks: self.kept.clusters,
            needs_rebuild: before.needs_rebuild && matches!(structures, Structures::Present { .. }),
            ..before.clone()
        }
    }

    /// What is released and free now: its space is given back.
    fn released(&self) -> RunSet {
        if self.kept.clusters > 0 {
            return RunSet::new();
        }
        let covered = &self.look.references.beyond.covered;
        let released = self.released.without(covered);
        let clusters = released.runs().iter().flat_map(Run::iter);
        let free = clusters.filter(|cluster| self.counts.get(*cluster) == 0);
        RunSet::of_ascending(free.map(Run::single))
    }

    /// New structures, the switch to them, and what was counted too much meanwhile.
    fn switch_to(
        &mut self,
        structures: &Structures,
        phases: &mut Vec<Phase>,
    ) -> Result<(), RepairError> {
        let Structures::New { layout, built } = structures else {
            return Ok(());
        };
        let geometry = self.image.geometry();
        let mut works = Vec::new();
        let mut pointer = pointer_to(layout, geometry)?.to_vec();
        let mut steps = vec![Step::Rebuilt {
            reftable: Offset(layout.reftable.first.0 << geometry.cluster_bits()),
            reftable_clusters: layout.reftable.count,
            refblocks: layout.refblocks.len() as u64,
        }];
        if let Some(table) = self.new_table.take() {
            pointer.extend(table.snapshots.to_be_bytes());
            pointer.extend(table.offset.0.to_be_bytes());
            steps.push(Step::RewroteSnapshotTable {
                snapshots: table.snapshots,
            });
            if !table.bytes.is_empty() {
                works.push(Work::Bytes {
                    offset: table.offset,
                    bytes: table.bytes,
                });
            }
        } else if let Remedy::Shorten(snapshots) = self.remedy {
            let snapshots = snapshots as u32;
            pointer.extend(snapshots.to_be_bytes());
            steps.push(Step::ShortenedSnapshotTable { snapshots });
        }
        works.push(Work::NewStructures);
        phases.push(phase(PhaseKind::Build, Vec::new(), works));
        let work = Work::Bytes {
            offset: geometry.reftable_pointer_offset(),
            bytes: pointer,
        };
        phases.push(phase(PhaseKind::Switch, steps, vec![work]));
        if built.is_some() {
            phases.push(phase(PhaseKind::Lower, Vec::new(), vec![Work::LeftOver]));
        }
        Ok(())
    }

    /// Refcounts in refblocks that stay: those that are raised first.
    fn set_in_place(&self, phases: &mut Vec<Phase>) {
        if let Remedy::Shorten(snapshots) = self.remedy {
            let snapshots = snapshots as u32;
            let steps = vec![Step::ShortenedSnapshotTable { snapshots }];
            let work = Work::Bytes {
                offset: Offset(SNAPSHOTS_POSITION),
                bytes: snapshots.to_be_bytes().to_vec(),
            };
            phases.push(phase(PhaseKind::Switch, steps, vec![work]));
        }
        let comparison = &self.look.comparison;
        let (raised, clusters) = self.differing(comparison, |refcount, count| refcount < count);
        if clusters > 0 {
            let work = Work::Refcounts {
                refblocks: raised,
                lowers: false,
            };
            let steps = vec![Step::Raised { clusters }];
            phases.push(phase(PhaseKind::Raise, steps, vec![work]));
        }
        let (lowered, clusters) = self.differing(comparison, |refcount, count| refcount > count);
        if clusters > 0 {
            let work = Work::Refcounts {
                refblocks: lowered,
                lowers: true,
            };
            let steps = vec![Step::Lowered { clusters }];
            phases.push(phase(PhaseKind::Lower, steps, vec![work]));
        }
    }

    /// The refblocks with refcounts that differ in some way from the final counts, and how many do.
    fn differing(
        &self,
        comparison: &Comparison,
        is_meant: impl Fn(u64, u64) -> bool,
    ) -> (Vec<RefblockIndex>, u64) {
        let mut sum = 0;
        let refblocks = comparison.differing.keys().filter(|refblock| {
            let differences = comparison.differences_of(&self.counts, **refblock);
            let meant = differences.filter(|(_, refcount, count)| is_meant(*refcount, *count));
            let here = meant.count() as u64;
            sum += here;
            here > 0
        });
        let refblocks = refblocks.copied().collect();
        (refblocks, sum)
    }

    /// Clears the dirty and the corrupt bit where nothing is wrong any more.
    fn flags(&self, after: &Report) -> Option<Phase> {
        let features = self.image.header.incompatible_features;
        let cleared = features & !(DIRTY | CORRUPT);
        if cleared == features || after.check_errors > 0 || after.corruptions > 0 {
            return None;
        }
        let work = Work::Bytes {
            offset: Offset(INCOMPATIBLE_FEATURES_POSITION),
            bytes: cleared.to_be_bytes().to_vec(),
        };
        Some(phase(
            PhaseKind::Flags,
            vec![Step::ClearedFlags],
            vec![work],
        ))
    }

    /// Clears autoclear bits that are not known, as who writes has to (specification, "Autoclear
    /// feature bits").
    fn features(&self) -> Option<Phase> {
        let features = self.image.header.autoclear_features;
        let bits = features & !KNOWN_AUTOCLEAR;
        if bits == 0 {
            return None;
        }
        let work = Work::Bytes {
            offset: Offset(AUTOCLEAR_FEATURES_POSITION),
            bytes: (features & KNOWN_AUTOCLEAR).to_be_bytes().to_vec(),
        };
        let steps = vec![Step::ClearedAutoclear { bits }];
        Some(phase(PhaseKind::Features, steps, vec![work]))
    }
}

fn phase(kind: PhaseKind, steps: Vec<Step>, works: Vec<Work>) -> Phase {
    Phase { kind, steps, works }
}

/// Clears COPIED bits and replaces entries; in tables within the old refcount structures only once
/// the header leads to others.
fn clear_phase(mended: &Mended, late: bool) -> Option<Phase> {
    let is_meant = |table: &MendedTable| table.clears > 0 || table.replaces;
    let (works, tables) = works_in(mended, late, Changes::First, mended.l1.0, is_meant);
    let mut steps = Vec::new();
    let l1 = if mended.l1_is_late == late {
        mended.l1.0
    } else {
        0
    };
    let clears: u64 = l1 + tables.iter().map(|table| table.clears).sum::<u64>();
    let replaced: u64 = tables.iter().map(|table| table.replaced).sum();
    if replaced > 0 {
        steps.push(Step::ReplacedEntries { entries: replaced });
    }
    if clears > 0 {
        steps.push(Step::ClearedCopied { entries: clears });
    }
    (!works.is_empty()).then(|| phase(PhaseKind::Clear, steps, works))
}

/// Sets COPIED bits.
fn set_phase(mended: &Mended) -> Option<Phase> {
    let is_meant = |table: &MendedTable| table.sets > 0;
    let sets = mended.copied().1;
    let (mut works, _) = works_in(mended, false, Changes::Last, mended.l1.1, is_meant);
    works.extend(works_in(mended, true, Changes::Last, mended.l1.1, is_meant).0);
    let steps = vec![Step::SetCopied { entries: sets }];
    (!works.is_empty()).then(|| phase(PhaseKind::Set, steps, works))
}

/// The writes of one kind into the L1 table and the L2 tables.
fn works_in(
    mended: &Mended,
    late: bool,
    changes: Changes,
    l1: u64,
    is_meant: impl Fn(&MendedTable) -> bool,
) -> (Vec<Work>, Vec<&MendedTable>) {
    let mut works = Vec::new();
    if l1 > 0 && mended.l1_is_late == late {
        works.push(Work::L1(changes));
    }
    let numbered = (0..).zip(&mended.tables);
    let meant = numbered.filter(|(_, table)| table.is_late == late && is_meant(table));
    let (numbers, tables): (Vec<u32>, Vec<_>) = meant.unzip();
    if !numbers.is_empty() {
        works.push(Work::L2 {
            tables: numbers,
            changes,
        });
    }
    (works, tables)
}

impl RepairPlan {
    /// Bytes of the file afterwards.
    fn length_after(&self, storage: &dyn Storage) -> Result<u64, RepairError> {
        let geometry = self.counts.geometry();
        let mut length = storage.len();
        let end_of = |cluster: Cluster| cluster.0.saturating_add(1) << geometry.cluster_bits();
        if let Structures::New { layout, .. } = &self.structures {
            let last = Cluster(layout.end().0.saturating_sub(1));
            length = length.max(end_of(last));
        }
        let refblocks = self.changed_refblocks().into_iter();
        let places = refblocks.map(|refblock| self.place_of(*refblock));
        let tables = self.mended.tables.iter().map(|table| table.offset);
        let highest = places.chain(tables).max().unwrap_or_default();
        let l1 = &self.image.header;
        let l1_end = l1
            .l1_table_offset
            .0
            .saturating_add(u64::from(l1.l1_size) * 8);
        let l1_end = if self.mended.l1 == (0, 0) { 0 } else { l1_end };
        for work in self.phases.iter().flat_map(|phase| &phase.works) {
            if let Work::Bytes { offset, bytes } = work {
                length = length.max(offset.0 + bytes.len() as u64);
            }
        }
        // Only what is written in a last cluster that the file has in part may make it longer.
        let end = highest.0.saturating_add(geometry.cluster_size());
        if end.max(l1_end) > storage.len() {
            self.for_each_write::<RepairError>(storage, &mut |_, offset, bytes| {
                length = length.max(offset.0 + bytes.len() as u64);
                Ok(())
            })?;
        }
        if let Some(capacity) = storage.capacity()
            && length > capacity
        {
            return Err(RepairError::PastCapacity { length, capacity });
        }
        Ok(length)
    }
}
