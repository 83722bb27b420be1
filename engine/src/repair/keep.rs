//! What is kept while a table cannot be followed.

use super::{Repair, RepairOptions};
use crate::check::Survey;
use crate::finding::Finding;
use crate::geometry::Geometry;
use crate::observer::Action;
use crate::rebuild::Algorithm;
use crate::table::{Run, RunSet};
use crate::units::{Cluster, ClusterCount, RefblockIndex};

/// A cluster whose refcount is above its references by this much.
pub(super) type Surplus = (Cluster, u64);

impl Repair<'_> {
    /// Whether what nobody refers to has to be kept.
    pub(super) const fn keeps(&self, survey: &Survey) -> bool {
        self.has_outgrown || keeps(survey, self.options)
    }

    /// Remembers what the disk says of clusters whose refcount is about to be raised, where the image
    /// is looked at again later in this repair and may turn out to refer to less. What the disk never
    /// said is not kept.
    pub(super) fn note_said(&mut self, survey: &Survey) {
        let references = &survey.references;
        let looked_at_again = self.options.algorithm != Algorithm::Planned
            || self.is_second
            || references.snapshots.is_rewritten()
            || references.spared_in_structures;
        if !looked_at_again || !self.keeps(survey) {
            return;
        }
        let table = &references.table;
        let low = survey.comparison.differences(table);
        let low = low.filter(|(_, refcount, references)| refcount < references);
        let low = low.map(|(cluster, refcount, _)| (cluster, refcount));
        // A refcount that cannot be read says nothing.
        let unreadable = survey.comparison.clusters_unread(table.geometry());
        let unreadable = unreadable.filter(|cluster| table.get(*cluster) > 0);
        self.remember(low.chain(unreadable.map(|cluster| (cluster, 0))).collect());
    }

    /// Adds what the disk says of clusters, unless they have been raised before: then it is what this
    /// repair says.
    pub(super) fn remember(&mut self, mut said: Vec<(Cluster, u64)>) {
        said.retain(|(cluster, _)| self.said_of(*cluster).is_none());
        self.said.append(&mut said);
        self.said.sort_unstable();
    }

    /// What the disk said before this repair of a cluster whose refcount it has raised.
    fn said_of(&self, cluster: Cluster) -> Option<u64> {
        let said = &self.said;
        let found = said.binary_search_by_key(&cluster, |(cluster, _)| *cluster);
        found.ok().map(|index| said[index].1)
    }

    /// The clusters whose refcount is above their references, but for what this repair itself has
    /// counted earlier: by raising refcounts, and where the file has grown.
    pub(super) fn surplus_now(&self, survey: &Survey) -> Vec<Surplus> {
        let mut kept = surplus(survey);
        for (cluster, surplus) in &mut kept {
            if let Some(said) = self.said_of(*cluster) {
                let references = survey.references.table.get(*cluster);
                *surplus = (*surplus).min(said.saturating_sub(references));
            }
        }
        kept.retain(|(cluster, surplus)| {
            *surplus > 0 && !(self.has_outgrown && cluster.0 >= self.file.0)
        });
        kept
    }

    /// Reports what is kept, and returns it.
    pub(super) fn note_kept(&mut self, survey: &Survey) -> Vec<Surplus> {
        let kept = self.surplus_now(survey);
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

/// The clusters whose refcount is above their references.
pub(super) fn surplus(survey: &Survey) -> Vec<Surplus> {
    let leaks = survey.comparison.leaks_of(&survey.references.table);
    leaks
        .map(|(cluster, refcount, references)| (cluster, refcount - references))
        .collect()
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
