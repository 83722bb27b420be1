//! Where new structures may go.

use super::{RepairError, RepairOptions};
use crate::check::Look;
use crate::geometry::Geometry;
use crate::image::Extent;
use crate::rebuild::{self, Algorithm, Input, Layout, PlanError};
use crate::references::Beyond;
use crate::table::{RefcountTable, Run, RunSet};
use crate::units::{Cluster, ClusterCount, RefblockIndex};

/// What is free, and how far.
pub(super) struct Room {
    /// Clusters without a count that must not be written: see [`Input`].
    reserved: RunSet,
    /// How many of them `reuse_old` would give.
    reusable: ClusterCount,
    /// See [`Input`].
    doubtful: RunSet,
    file: ClusterCount,
    capacity: Option<ClusterCount>,
    /// What the file must not grow over.
    beyond: Beyond,
    /// Bytes of the file.
    length: u64,
}

impl Room {
    /// `counts` are those that the new structures will have, but for their own clusters; `capacity`
    /// is that of the storage, in bytes.
    pub fn new(
        extent: &Extent,
        beyond: &Beyond,
        counts: &RefcountTable,
        doubtful: RunSet,
        (capacity, length): (Option<u64>, u64),
    ) -> Self {
        let geometry = counts.geometry();
        let mut beyond = beyond.clone();
        // A region that reaches into the rest of a last cluster is counted, in a cluster that is
        // not there.
        if let Some(counted) = counts.next_used(Cluster(extent.clusters.0)) {
            beyond.limit = Some(beyond.limit.map_or(counted, |limit| limit.min(counted)));
        }
        Self {
            reserved: beyond.covered.clone(),
            reusable: ClusterCount(0),
            doubtful,
            file: extent.clusters,
            // Whole clusters only: a refblock does not fit into a part of one.
            capacity: capacity.map(|bytes| ClusterCount(bytes >> geometry.cluster_bits())),
            beyond,
            length,
        }
    }

    /// Without the structures that there are, as long as they are in use: refblocks and reftable, unless
    /// they may be overwritten, and the snapshot table that another takes the place of.
    pub fn without(mut self, options: &RepairOptions, look: &Look, old_table: &[Cluster]) -> Self {
        if !options.reuse_old {
            let mut present = look.old.clusters.clone();
            present.extend(&look.old.claimed);
            self.reusable = present.count();
            self.reserved.extend(&present);
        }
        let old_table = old_table.iter().copied().map(Run::single);
        self.reserved.extend(&old_table.collect());
        self
    }

    fn input<'a>(&'a self, counts: &'a RefcountTable) -> Input<'a> {
        Input {
            references: counts,
            reserved: &self.reserved,
            doubtful: &self.doubtful,
            file: self.file,
            capacity: self.beyond.within(self.capacity),
        }
    }

    /// Plans new refcount structures.
    pub fn plan(
        &self,
        algorithm: Algorithm,
        counts: &RefcountTable,
    ) -> Result<Layout, RepairError> {
        let covered = &self.beyond.covered;
        if algorithm == Algorithm::Planned || covered.is_empty() {
            let planned = rebuild::plan(algorithm, &self.input(counts));
            return planned.map_err(|error| self.explain(error));
        }
        // QEMU's algorithms know nothing of what is reserved.
        let mut taken = counts.clone();
        for run in covered.runs() {
            taken.add(*run, 1)?;
        }
        let planned = rebuild::plan(algorithm, &self.input(&taken));
        planned.map_err(|error| self.explain(error))
    }

    /// The place of a new snapshot table.
    pub fn lowest_free_run(
        &self,
        counts: &RefcountTable,
        clusters: ClusterCount,
    ) -> Result<Run, RepairError> {
        let found = rebuild::lowest_free_run(&self.input(counts), clusters);
        found.map_err(|error| self.explain(error))
    }

    /// The error as it is for this storage: it is not full where it could grow but for what that
    /// would hide.
    fn explain(&self, mut error: PlanError) -> RepairError {
        let grows = match (self.beyond.limit, self.capacity) {
            (Some(limit), Some(capacity)) => limit.0 < capacity.0,
            (limit, None) => limit.is_some(),
            (None, Some(_)) => false,
        };
        if let PlanError::NoSpace { needed, .. } | PlanError::NoRun { needed, .. } = error
            && grows
        {
            let end = self.beyond.end.max(self.length);
            return RepairError::GrowthWouldHide {
                needed,
                missing: end - self.length,
                length: end,
            };
        }
        if let PlanError::NoSpace { reserved, .. } = &mut error {
            *reserved = self.reusable;
        }
        error.into()
    }
}

/// The clusters of which the disk does not credibly say whether they are allocated: those whose
/// refblock is missing, cannot be read or trusted, or claims of a cluster in use that it is free.
pub(super) fn doubtful(look: &Look, counts: &RefcountTable, file: ClusterCount) -> RunSet {
    let geometry = counts.geometry();
    let covered = geometry.refcounts_per_refblock();
    let last = file.0.div_ceil(covered);
    let present = look.old.reftable.entries.iter().map(|entry| entry.0.0);
    let differing = look.comparison.differing.keys().copied();
    let contradicted = differing.filter(|refblock| {
        let mut differences = look.comparison.differences_of(counts, *refblock);
        differences.any(|(_, refcount, references)| refcount < references)
    });
    let untrusted = look.old.untrusted.iter().chain(&look.comparison.unreadable);
    let range = |refblock: RefblockIndex| within(geometry, file, refblock.0, refblock.0 + 1);
    let mut doubtful: RunSet = contradicted.chain(untrusted.copied()).map(range).collect();
    // The gaps between the refblocks that are there.
    let mut next = 0;
    for refblock in present
        .take_while(|refblock| *refblock < last)
        .chain([last])
    {
        doubtful.insert(within(geometry, file, next, refblock));
        next = refblock + 1;
    }
    doubtful
}

/// The clusters of the file that refblocks cover. Behind its end there is nothing that could have been
/// lost.
fn within(geometry: &Geometry, file: ClusterCount, first: u64, past: u64) -> Run {
    let clamped = |refblock: u64| {
        let cluster = geometry.first_covered(RefblockIndex(refblock));
        Cluster(cluster.0.min(file.0))
    };
    let (first, past) = (clamped(first), clamped(past));
    Run::new(first, past.since(first))
}
