//! From a survey to a plan.

use std::collections::BTreeMap;

use super::damage::Ground;
use super::room;
use super::snapshots::Remedy;
use super::tables::{Mended, Search};
use super::uses::{self, Replaced, Uses};
use super::{Fixed, Kept, RepairError, RepairOptions, RepairPlan, Scope, Structures};
use crate::check::{DiskCounts, Look, Report, Survey};
use crate::image::{Extent, Image};
use crate::observer::Observer;
use crate::references::{Beyond, DeadEnds, Region};
use crate::storage::Storage;
use crate::table::{RefcountTable, Run, RunSet};
use crate::units::{Cluster, ClusterCount, Offset};

/// A snapshot table that is written anew.
pub(super) struct NewSnapshotTable {
    pub offset: Offset,
    pub bytes: Vec<u8>,
    pub snapshots: u32,
}

/// What is decided, one thing after the other.
pub(super) struct Draft<'a> {
    pub storage: &'a dyn Storage,
    pub options: &'a RepairOptions,
    observer: &'a mut dyn Observer,
    pub image: Image,
    pub extent: Extent,
    pub look: Look,
    /// The references; those of entries that are replaced are taken out, what is kept is added, and
    /// in the end the new structures, so that these become the final counts.
    pub counts: RefcountTable,
    /// What leads past the end of the file once entries are replaced.
    pub beyond: Beyond,
    pub replaced: Replaced,
    /// How often refcount structures that go away use a cluster.
    going: BTreeMap<Cluster, u64>,
    damage: DeadEnds,
    pub keeps: bool,
    pub remedy: Remedy,
    pub new_table: Option<NewSnapshotTable>,
    pub kept: Kept,
    /// Whether a cluster that something refers to keeps a larger refcount.
    keeps_referenced: bool,
    /// What is kept of clusters of structures that go.
    pub kept_structures: Vec<(Cluster, u64)>,
    /// The references of those of them that are tables.
    kept_tables: BTreeMap<Cluster, u64>,
    pub fixed: Fixed,
    pub released: RunSet,
    /// Corruptions that stay, COPIED bits aside.
    pub left: u64,
}

impl RepairPlan {
    /// Plans a repair of what was surveyed. Findings that it makes go to the observer.
    pub fn of(
        storage: &dyn Storage,
        survey: Survey,
        options: &RepairOptions,
        observer: &mut dyn Observer,
    ) -> Result<Self, RepairError> {
        let before = Report::of(&survey.image, survey.checked());
        let before = Report {
            corruptions: before.corruptions + survey.checked().references.snapshots.corruptions,
            ..before
        };
        let checked = survey.checked().corruptions();
        let header_is_table = survey.look.references.header_is_table;
        let Survey {
            image,
            extent,
            mut look,
            ..
        } = survey;
        let is_sound_walk = look.references.are_sound();
        let counts = look.references.take_table();
        let mut draft = Draft {
            storage,
            options,
            observer,
            beyond: look.references.beyond.clone(),
            going: BTreeMap::new(),
            image,
            extent,
            look,
            counts,
            replaced: Replaced::default(),
            damage: DeadEnds::default(),
            keeps: false,
            remedy: Remedy::None,
            new_table: None,
            kept: Kept::default(),
            keeps_referenced: false,
            kept_structures: Vec::new(),
            kept_tables: BTreeMap::new(),
            fixed: Fixed::default(),
            released: RunSet::new(),
            left: checked,
        };
        draft.decide()?;
        let structures = draft.structures()?;
        let mended = draft.mended(&structures, is_sound_walk)?;
        draft.finish(before, structures, mended, is_sound_walk, header_is_table)
    }
}

impl Draft<'_> {
    /// Which entries are replaced, what is damaged, what is kept, what becomes of the snapshots.
    fn decide(&mut self) -> Result<(), RepairError> {
        let all = self.options.scope == Scope::All;
        if all && self.look.old.is_shared {
            self.going = uses::of_structures(&self.look.old);
        }
        if self.options.release_unreachable {
            self.remedy_snapshots(false)?;
            let released = self
                .remedy
                .released(&self.image, &self.look.references.snapshots);
            for cluster in released {
                *self.going.entry(cluster).or_default() += 1;
            }
        }
        if all {
            self.replace_entries()?;
        }
        let leaks = self.leaks().next().is_some();
        if leaks || Remedy::is_due(&self.look.references.snapshots, self.options) {
            let ground = Ground {
                storage: self.storage,
                image: &self.image,
                extent: &self.extent,
                look: &self.look,
                counts: &self.counts,
                replaced: &self.replaced,
            };
            self.damage = ground.damage()?;
        } else {
            self.damage = self.look.references.dead_ends.clone();
        }
        let is_sound = self.damage.count == 0;
        self.keeps = !is_sound && !self.options.release_unreachable;
        if self.keeps {
            self.kept.damage = self.damage.count;
            self.kept.examples.clone_from(&self.damage.examples);
        }
        self.remedy_snapshots(is_sound)
    }

    fn remedy_snapshots(&mut self, is_sound: bool) -> Result<(), RepairError> {
        let table = &self.look.references.snapshots;
        self.remedy = Remedy::of(&self.image, table, self.options, is_sound)?;
        Ok(())
    }

    /// The clusters with a refcount above their references: each with the refcount and the
    /// references.
    fn leaks(&self) -> impl Iterator<Item = (Cluster, u64, u64)> {
        self.look.comparison.leaks_of(&self.counts)
    }

    fn replace_entries(&mut self) -> Result<(), RepairError> {
        let entries = self.look.references.unaligned_empty.len();
        self.replaced = uses::replace_entries(
            self.storage,
            &self.image,
            &self.extent,
            &self.look,
            &self.going,
            &mut self.counts,
        )?;
        if entries == 0 {
            return Ok(());
        }
        let geometry = *self.image.geometry();
        let length = geometry.cluster_size();
        for entry in &self.replaced.staying {
            let offset = entry.offset;
            if !self.image.header.has_data_file() && !self.extent.holds(&geometry, offset, length) {
                self.beyond
                    .dangling(&self.extent, &geometry, offset, length);
            }
        }
        for entry in &self.replaced.entries {
            let is_held = self.extent.holds(&geometry, entry.offset, length);
            let twice = !is_held && !self.image.header.has_data_file();
            let corruptions = entry.uses.all * if twice { 2 } else { 1 };
            self.left = self.left.saturating_sub(corruptions);
        }
        // What they led to counts less now.
        let held = self.replaced.entries.iter();
        let runs = held.flat_map(|entry| {
            let region = Region {
                offset: entry.offset,
                length,
            };
            region.clusters(&geometry).iter()
        });
        let refblocks = runs.map(|cluster| geometry.refblock_of(cluster)).collect();
        let before = self.look.comparison.corruptions;
        self.look.comparison.recount(
            &self.image,
            self.storage,
            &self.look.old,
            &self.counts,
            &refblocks,
        )?;
        self.left = self.left.saturating_sub(before) + self.look.comparison.corruptions;
        self.fixed.corruptions += self.replaced.entries.len() as u64;
        Ok(())
    }

    /// Keeps the refcounts that are above the references.
    fn keep(&mut self, rebuilds: bool) -> Result<(), RepairError> {
        let refblocks: Vec<_> = self.look.comparison.differing.keys().copied().collect();
        for refblock in refblocks {
            let differences = self.look.comparison.differences_of(&self.counts, refblock);
            let leaks = differences.filter(|(_, refcount, references)| refcount > references);
            for (cluster, refcount, references) in leaks.collect::<Vec<_>>() {
                self.kept.clusters += 1;
                let going = if rebuilds {
                    self.used_by_structures(cluster)
                } else {
                    0
                };
                if references > 0 {
                    self.keeps_referenced = true;
                    let staying = self.counts.get(cluster).saturating_sub(going);
                    if self.uses().is_table(cluster) {
                        self.kept_tables.insert(cluster, staying);
                    }
                }
                if going > 0 {
                    self.kept_structures.try_reserve(1)?;
                    self.kept_structures.push((cluster, refcount));
                }
                self.counts.set(cluster, refcount)?;
            }
        }
        Ok(())
    }

    /// The uses of tables, by the counts as they are now.
    fn uses(&self) -> Uses<'_> {
        Uses {
            image: &self.image,
            extent: &self.extent,
            look: &self.look,
            counts: &self.counts,
            kept: &self.kept_tables,
            going: None,
        }
    }

    fn used_by_structures(&self, cluster: Cluster) -> u64 {
        let once = self.look.old.clusters.contains(cluster);
        let going = self.going.get(&cluster).copied();
        going.unwrap_or_else(|| u64::from(once))
    }

    /// Whether a refblock that has to change is read as something that reaches past the end of the
    /// file, or is used as something else.
    fn writes_over_something(&self) -> bool {
        let geometry = self.counts.geometry();
        let (old, comparison) = (&self.look.old, &self.look.comparison);
        let covered = &self.look.references.beyond.covered;
        let raises = self.options.scope == Scope::All;
        comparison.differing.keys().any(|refblock| {
            let place = geometry.cluster_of(old.reftable.entry(*refblock).refblock());
            let is_doubtful = covered.contains(place)
                || !old.clusters.contains(place)
                || self.counts.get(place) != 1;
            let mut changes = comparison.differences_of(&self.counts, *refblock);
            is_doubtful
                && changes.any(|(_, refcount, references)| {
                    if refcount < references {
                        raises
                    } else {
                        !self.keeps
                    }
                })
        })
    }

    /// Sets refcounts in place, or builds anew; the counts become the final ones.
    fn structures(&mut self) -> Result<Structures, RepairError> {
        let rebuilds = if self.options.scope == Scope::Leaks {
            let refuses = self.look.needs_rebuild()
                || !self.image.header.has_usable_reftable()
                || self.writes_over_something();
            if refuses {
                return Err(RepairError::NeedsRebuild);
            }
            false
        } else {
            self.look.needs_rebuild()
                || self.look.old.repair_rebuilds
                || matches!(self.remedy, Remedy::Rewrite(_))
                || self.writes_over_something()
        };
        let leaks = self.leaks().count() as u64;
        let doubtful = if rebuilds {
            room::doubtful(&self.look, &self.counts, self.extent.clusters)
        } else {
            RunSet::new()
        };
        if self.keeps {
            self.keep(rebuilds)?;
        } else {
            let leaked = self.look.comparison.unreferenced(&self.counts);
            self.released = RunSet::of_ascending(leaked.map(Run::single));
            self.fixed.leaks += leaks;
        }
        self.shorten_snapshots()?;
        if rebuilds {
            return self.build(doubtful);
        }
        if self.options.scope == Scope::All {
            self.mend_corruptions(self.look.comparison.corruptions);
        } else {
            self.leave_low()?;
        }
        Ok(Structures::Present {
            reftable: self.look.old.reftable.clone(),
            compared: self.look.comparison.compared,
        })
    }

    /// Which COPIED bits change, and which entries are replaced.
    fn mended(
        &mut self,
        structures: &Structures,
        is_sound_walk: bool,
    ) -> Result<Mended, RepairError> {
        let no_structures = RunSet::new();
        let is_rebuilt = matches!(structures, Structures::New { .. });
        let going = if is_rebuilt {
            &self.look.old.clusters
        } else {
            &no_structures
        };
        let search = Search {
            storage: self.storage,
            uses: Uses {
                image: &self.image,
                extent: &self.extent,
                look: &self.look,
                counts: &self.counts,
                kept: &self.kept_tables,
                going: None,
            },
            replaced: &self.replaced,
            going,
            may_write: self.options.scope == Scope::All || self.is_else_clean(),
        };
        if is_sound_walk && !self.keeps_referenced {
            return Ok(search.replaced_only());
        }
        let unreadable = self.look.comparison.unreadable.as_slice();
        let (compared, reftable, unreadable) = match structures {
            Structures::Present { reftable, compared } => (*compared, Some(reftable), unreadable),
            Structures::New { .. } => (ClusterCount(u64::MAX), None, [].as_slice()),
        };
        let (image, storage) = (&self.image, self.storage);
        let counts =
            || DiskCounts::of_table(&self.counts, compared, reftable, unreadable, image, storage);
        search.all(&counts, &mut *self.observer)
    }

    /// With `-r leaks`: whether nothing is wrong but COPIED bits once refcounts are lowered.
    fn is_else_clean(&self) -> bool {
        self.left == 0 && self.look.comparison.unreadable_clusters == 0 && self.kept.clusters == 0
    }
}
