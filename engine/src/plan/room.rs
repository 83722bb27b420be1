//! Where new structures may go.

use super::RepairError;
use super::make::Draft;
use crate::check::Look;
use crate::geometry::Geometry;
use crate::rebuild::{Algorithm, Input, PlanError};
use crate::table::{RefcountTable, Run, RunSet};
use crate::units::{Cluster, ClusterCount, RefblockIndex};

/// What is free, and how far. See [`Input`].
pub(super) struct Room {
    reserved: RunSet,
    doubtful: RunSet,
    file: ClusterCount,
    capacity: Option<ClusterCount>,
    /// How many of the reserved clusters `reuse_old` would give.
    reusable: ClusterCount,
    /// Where the file could grow but for what that would hide: the bytes that are missing, and the
    /// length with them.
    hidden: Option<(u64, u64)>,
}

impl Draft<'_> {
    /// The structures that there are take up room as long as they are in use: refblocks and reftable,
    /// unless they may be overwritten, and the snapshot table that another takes the place of.
    pub(super) fn room(&self, doubtful: RunSet) -> Room {
        let counts = &self.counts;
        let mut reserved = self.beyond.covered.clone();
        let mut reusable = ClusterCount(0);
        if self.options.algorithm != Algorithm::Planned {
            // QEMU's algorithms never overwrite them.
            reserved.extend(&self.look.old.clusters);
        } else if !self.options.reuse_old {
            let mut present = self.look.old.clusters.clone();
            present.extend(&self.look.old.claimed);
            reusable = present.count();
            reserved.extend(&present);
        }
        let old_table = self.released_by_remedy().into_iter().map(Run::single);
        reserved.extend(&old_table.collect());
        // Whole clusters only: a refblock does not fit into a part of one.
        let bits = counts.geometry().cluster_bits();
        let capacity = self.storage.capacity();
        let capacity = capacity.map(|bytes| ClusterCount(bytes >> bits));
        // A region that reaches into the rest of a last cluster is counted, in a cluster that is
        // not there.
        let counted = counts.next_used(Cluster(self.image.extent.clusters.0));
        let limit = self.beyond.limit.into_iter().chain(counted).min();
        let limit = limit.map(|limit| ClusterCount(limit.0));
        let hides = limit.is_some_and(|limit| capacity.is_none_or(|capacity| limit < capacity));
        let length = self.storage.len();
        let end = self.beyond.end.max(length);
        Room {
            reserved,
            doubtful,
            file: self.image.extent.clusters,
            capacity: capacity.into_iter().chain(limit).min(),
            reusable,
            hidden: hides.then_some((end - length, end)),
        }
    }
}

impl Room {
    /// Seeks a place for something with these counts.
    pub fn seek<T>(
        &self,
        counts: &RefcountTable,
        place: impl FnOnce(&Input<'_>) -> Result<T, PlanError>,
    ) -> Result<T, RepairError> {
        let input = Input {
            references: counts,
            reserved: &self.reserved,
            doubtful: &self.doubtful,
            file: self.file,
            capacity: self.capacity,
        };
        place(&input).map_err(|error| self.explain(error))
    }

    /// The error as it is for this storage: it is not full where it could grow but for what that
    /// would hide.
    fn explain(&self, mut error: PlanError) -> RepairError {
        if let PlanError::NoSpace { needed, .. } | PlanError::NoRun { needed, .. } = error
            && let Some((missing, length)) = self.hidden
        {
            return RepairError::GrowthWouldHide {
                needed,
                missing,
                length,
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
    let present = look.old.reftable.iter().map(|entry| entry.0.0);
    let differing = look.comparison.differing.keys().copied();
    let contradicted = differing.filter(|refblock| {
        let mut differences = look.comparison.differences_of(counts, *refblock);
        differences.any(|miscount| miscount.refcount < miscount.references)
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
