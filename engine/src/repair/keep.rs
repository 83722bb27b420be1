//! What is kept while a table cannot be followed.

use std::collections::BTreeMap;

use super::{Repair, RepairOptions};
use crate::check::Survey;
use crate::finding::Finding;
use crate::geometry::Geometry;
use crate::image::Image;
use crate::observer::Action;
use crate::storage::StorageError;
use crate::table::{Run, RunSet};
use crate::units::{Cluster, ClusterCount, RefblockIndex};

/// A cluster whose refcount is above its references by this much.
pub(super) type Surplus = (Cluster, u64);

impl Repair<'_> {
    /// Whether what nobody refers to has to be kept.
    pub(super) const fn keeps(&self, survey: &Survey) -> bool {
        self.has_outgrown || keeps(survey, self.options)
    }

    /// Remembers by how much the refcounts of clusters are raised to which entries lead that may be
    /// replaced later.
    pub(super) fn note_raised(
        &mut self,
        image: &Image,
        survey: &Survey,
    ) -> Result<(), StorageError> {
        let mut on_disk = survey.disk_counts(image, self.storage);
        let spared = survey.references.spared.runs().iter();
        for cluster in spared.flat_map(Run::iter) {
            // A refcount that cannot be read says nothing that could be kept.
            let refcount = on_disk.get(cluster)?.unwrap_or(0);
            let references = survey.references.table.get(cluster);
            if refcount < references {
                self.raised.entry(cluster).or_insert(references - refcount);
            }
        }
        Ok(())
    }

    /// The clusters whose refcount is above their references, but for what this repair itself has
    /// counted earlier: for entries that it now replaces, and where the file has grown.
    pub(super) fn surplus_now(&self, image: &Image, survey: &Survey) -> Vec<Surplus> {
        let mut kept = surplus(survey, &self.counted_before(image, survey));
        if self.has_outgrown {
            kept.retain(|(cluster, _)| cluster.0 < self.file.0);
        }
        kept
    }

    /// By how much refcounts were raised, earlier in this repair, for entries that it now replaces.
    fn counted_before(&self, image: &Image, survey: &Survey) -> BTreeMap<Cluster, u64> {
        if self.raised.is_empty() {
            return BTreeMap::new();
        }
        let replaced = survey.references.replaced(image, self.storage).into_iter();
        let counted = replaced.filter_map(|(cluster, times)| {
            let raised = self.raised.get(&cluster)?;
            Some((cluster, times.min(*raised)))
        });
        counted.collect()
    }

    /// Reports what is kept, and returns it.
    pub(super) fn note_kept(&mut self, image: &Image, survey: &Survey) -> Vec<Surplus> {
        let kept = self.surplus_now(image, survey);
        for (cluster, surplus) in &kept {
            let references = survey.references.table.get(*cluster);
            let finding = Finding::Kept {
                cluster: *cluster,
                refcount: references + surplus,
                references,
            };
            self.observer.finding(&finding, Action::Reported);
        }
        self.outcome.kept.clusters = kept.len() as u64;
        if !self.has_outgrown {
            self.outcome.kept.dead_ends = survey.references.dead_ends.count;
            self.outcome
                .kept
                .examples
                .clone_from(&survey.references.dead_ends.examples);
        }
        kept
    }
}

/// Whether what nobody refers to has to be kept.
pub(super) const fn keeps(survey: &Survey, options: &RepairOptions) -> bool {
    survey.references.dead_ends.count > 0 && !options.release_unreachable
}

/// The clusters whose refcount is above their references, and above what else they were counted.
pub(super) fn surplus(survey: &Survey, counted: &BTreeMap<Cluster, u64>) -> Vec<Surplus> {
    let leaks = survey.comparison.leaks_of(&survey.references.table);
    let surplus = leaks.map(|(cluster, refcount, references)| {
        let counted = counted.get(&cluster).copied().unwrap_or(0);
        (cluster, (refcount - references).saturating_sub(counted))
    });
    surplus.filter(|(_, surplus)| *surplus > 0).collect()
}

/// The clusters of which the disk does not credibly say whether they are allocated: those whose
/// refblock is missing, cannot be read or trusted, or claims of a cluster in use that it is free.
pub(super) fn doubtful(survey: &Survey, geometry: &Geometry, file: ClusterCount) -> RunSet {
    let covered = geometry.refcounts_per_refblock();
    let last = file.0.div_ceil(covered);
    let comparison = &survey.comparison;
    let present = survey
        .old
        .reftable
        .entries
        .iter()
        .map(|(refblock, _)| refblock.0);
    let contradicted = comparison
        .differences(&survey.references.table)
        .filter(|(_, refcount, references)| refcount < references)
        .map(|(cluster, _, _)| geometry.refblock_of(cluster));
    let untrusted = survey
        .old
        .untrusted
        .iter()
        .chain(&comparison.unreadable)
        .copied();
    // Where the file ends there is nothing that could have been lost.
    let within = |first: Cluster, past: Cluster| {
        let past = Cluster(past.0.min(file.0).max(first.0));
        Run::new(first, past.since(first))
    };
    let range = |refblock: RefblockIndex| {
        let first = geometry.first_covered(refblock);
        within(first, Cluster(first.0.saturating_add(covered)))
    };
    let mut doubtful: RunSet = contradicted.chain(untrusted).map(range).collect();
    // The gaps between the refblocks that are there.
    let mut next = 0;
    for refblock in present
        .take_while(|refblock| *refblock < last)
        .chain([last])
    {
        let first = geometry.first_covered(RefblockIndex(next));
        let past = geometry.first_covered(RefblockIndex(refblock));
        doubtful.insert(within(first, past));
        next = refblock + 1;
    }
    doubtful
}
