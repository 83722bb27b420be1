//! From a survey to a plan.

use super::phase::Phase;
use super::replace::Replaced;
use super::snapshots::Remedy;
use super::{Fixed, Kept, RepairError, RepairOptions, RepairPlan, Scope, room};
use crate::check::{Look, Report, Survey};
use crate::image::Image;
use crate::observer::Observer;
use crate::rebuild::Layout;
use crate::references::Beyond;
use crate::storage::Storage;
use crate::table::{RefcountTable, Run, RunSet};

/// What is decided, one thing after the other.
pub(super) struct Draft<'a> {
    pub storage: &'a dyn Storage,
    pub options: &'a RepairOptions,
    pub image: Image,
    pub look: Look,
    /// What a check reports, as far as it is decided; of corruptions those that stay, wrong COPIED bits
    /// and the snapshot table aside.
    pub after: Report,
    /// Whether nothing can be wrong but refcounts, as far as the walk shows it.
    pub is_sound_walk: bool,
    /// The references; those of entries that are replaced are taken out, what is kept is added, and
    /// in the end the new structures, so that these become the final counts.
    pub counts: RefcountTable,
    /// What leads past the end of the file once entries are replaced.
    pub beyond: Beyond,
    pub replaced: Replaced,
    /// How often what goes away uses a cluster: the refcount structures, if they are built anew, and
    /// a snapshot table that is given up.
    pub going: RefcountTable,
    pub keeps: bool,
    pub remedy: Option<Remedy>,
    pub kept: Kept,
    /// The references that stay to clusters whose count is larger, as it is kept.
    pub kept_references: RefcountTable,
    pub layout: Option<Layout>,
    pub fixed: Fixed,
    /// What is released, as far as it is free in the end.
    pub released: RunSet,
}

impl<'a> Draft<'a> {
    /// Nothing is decided yet.
    pub fn of(
        storage: &'a dyn Storage,
        survey: Survey,
        options: &'a RepairOptions,
    ) -> Result<Self, RepairError> {
        let after = Report::of(&survey.image, survey.checked());
        let (image, mut look) = (survey.image, survey.look);
        let none = RefcountTable::new(*image.geometry());
        let mut going = none.clone();
        for run in &look.old.counted {
            going.add(*run, 1)?;
        }
        Ok(Self {
            storage,
            options,
            after,
            is_sound_walk: look.references.are_sound(),
            counts: look.references.take_table(),
            beyond: look.references.beyond.clone(),
            going,
            image,
            look,
            replaced: Replaced::new(),
            keeps: false,
            remedy: None,
            kept: Kept::default(),
            kept_references: none,
            layout: None,
            fixed: Fixed::default(),
            released: RunSet::new(),
        })
    }

    /// Decides everything.
    pub fn plan(mut self, observer: &mut dyn Observer) -> Result<RepairPlan, RepairError> {
        self.decide()?;
        let structures = self.structures()?;
        let mended = self.mended(observer)?;
        self.finish(structures, &mended)
    }

    /// Which entries are replaced, what is damaged, what is kept, what becomes of the snapshots.
    fn decide(&mut self) -> Result<(), RepairError> {
        let all = self.options.scope == Scope::All;
        let gives_up = self.options.release_unreachable;
        if gives_up {
            self.remedy = self.remedy()?;
            self.going.add(self.released_by_remedy(), 1)?;
        }
        if all {
            self.replace_entries()?;
        }
        if gives_up {
            return Ok(());
        }
        // Only what leaked may be hidden by damage, and only a snapshot table that a repair would
        // change may be what shows it.
        let table = &self.look.references.snapshots;
        let mut leaks = self.look.comparison.leaks_of(&self.counts);
        let may_hide = leaks.next().is_some() || self.allocated_past_end(None).count.0 > 0;
        let may_change = all && (table.corruptions > 0 || table.refusal.is_some());
        let damage = if may_change || may_hide {
            self.damage()?
        } else {
            self.look.references.dead_ends.clone()
        };
        self.keeps = damage.count > 0;
        (self.kept.damage, self.kept.examples) = (damage.count, damage.examples);
        self.remedy = self.remedy()?;
        Ok(())
    }

    /// Keeps refcounts that are above the references; with `-r leaks` those that are too low stay so.
    fn follow_disk(&mut self, rebuilds: bool) -> Result<(), RepairError> {
        let leaves_low = self.options.scope == Scope::Leaks;
        let refblocks: Vec<_> = self.look.comparison.differing.keys().copied().collect();
        for refblock in refblocks {
            let differences = self.look.comparison.differences_of(&self.counts, refblock);
            for miscount in differences.collect::<Vec<_>>() {
                let (cluster, refcount) = (miscount.cluster, miscount.refcount);
                // The structures that go are counted no more.
                let going = if rebuilds { self.going.get(cluster) } else { 0 };
                if self.keeps && refcount.saturating_sub(miscount.references) > going {
                    let references = self.counts.get(cluster);
                    self.kept_references.set(cluster, references)?;
                    self.kept.clusters += 1;
                    self.counts.set(cluster, refcount)?;
                } else if refcount < miscount.references && leaves_low {
                    self.counts.set(cluster, refcount)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a refblock that has to change is read as something that reaches past the end of the
    /// file, or is used as something else.
    fn writes_over_something(&self) -> bool {
        let geometry = self.counts.geometry();
        let (old, comparison) = (&self.look.old, &self.look.comparison);
        let covered = &self.look.references.beyond.covered;
        let raises = self.options.scope == Scope::All;
        comparison.differing.keys().any(|refblock| {
            let place = geometry.cluster_of(old.place_of(*refblock));
            let is_doubtful = covered.contains(place)
                || !old.clusters.contains(place)
                || self.counts.get(place) != 1;
            let mut changes = comparison.differences_of(&self.counts, *refblock);
            is_doubtful
                && changes.any(|miscount| {
                    if miscount.refcount < miscount.references {
                        raises
                    } else {
                        !self.keeps
                    }
                })
        })
    }

    /// Sets refcounts in place, or builds anew; the counts become the final ones.
    fn structures(&mut self) -> Result<Vec<Phase>, RepairError> {
        let all = self.options.scope == Scope::All;
        let rebuilds = self.look.needs_rebuild()
            || (all && self.look.old.repair_rebuilds())
            || (!all && !self.image.header.has_usable_reftable)
            || self.remedy.is_some_and(|remedy| remedy.rewrites)
            || self.writes_over_something();
        if rebuilds && !all {
            return Err(RepairError::NeedsRebuild);
        }
        let file = self.image.extent.clusters;
        let doubtful = rebuilds.then(|| room::doubtful(&self.look, &self.counts, file));
        if !self.keeps {
            let comparison = &self.look.comparison;
            self.fixed.leaks += comparison.leaks_of(&self.counts).count() as u64;
            let leaked = comparison.unreferenced(&self.counts);
            self.released = RunSet::of_ascending(leaked.map(Run::single));
        }
        if rebuilds {
            self.look.old.uncount(&mut self.counts)?;
        }
        if self.keeps || !all {
            self.follow_disk(rebuilds)?;
        }
        self.shorten_snapshots()?;
        if let Some(doubtful) = doubtful {
            return self.build(doubtful);
        }
        if all {
            self.mend_corruptions(self.look.comparison.corruptions);
        }
        Ok(self.set_in_place())
    }

    pub(super) fn mend_corruptions(&mut self, corruptions: u64) {
        self.fixed.corruptions += corruptions;
        self.after.corruptions = self.after.corruptions.saturating_sub(corruptions);
    }
}
