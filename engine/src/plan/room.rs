//! Where new structures may go.

use super::RepairError;
use super::make::Draft;
use crate::check::Look;
use crate::rebuild::{Algorithm, Input, New, PlanError};
use crate::table::{RefcountTable, Run, RunSet};
use crate::units::{Cluster, ClusterCount, RefblockIndex};

/// What is free, and how far. See [`Input`].
pub(super) struct Room {
    reserved: RunSet,
    /// Clusters of which the disk does not say whether they are free.
    doubtful: RunSet,
    /// Clusters that leaked: the disk says that they are allocated.
    leaked: RunSet,
    /// Clusters up to the last that is allocated behind the end of a damaged image's file.
    past_end: Run,
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
    pub(super) fn room(&self, mut doubtful: RunSet) -> Room {
        let mut leaked = self.released.clone();
        let counts = &self.counts;
        let mut reserved = self.beyond.covered.clone();
        let mut reusable = ClusterCount(0);
        if self.options.algorithm != Algorithm::Planned {
            // QEMU's algorithms never overwrite them, and heed nothing else that the disk says.
            reserved.extend(&self.look.old.clusters);
            (doubtful, leaked) = (RunSet::new(), RunSet::new());
        } else if !self.options.reuse_old {
            let mut present = self.look.old.clusters.clone();
            present.extend(&self.look.old.claimed);
            reusable = present.count();
            reserved.extend(&present);
        }
        reserved.insert(self.released_by_remedy());
        let file = self.image.extent.clusters;
        // Whole clusters only: a refblock does not fit into a part of one.
        let bits = counts.geometry().cluster_bits();
        let capacity = self.storage.capacity();
        let capacity = capacity.map(|bytes| ClusterCount(bytes >> bits));
        // A region that reaches into the rest of a last cluster is counted, in a cluster that is
        // not there.
        let counted = counts.next_used(Cluster(file.0));
        let limit = self.beyond.limit.into_iter().chain(counted).min();
        let limit = limit.map(|limit| ClusterCount(limit.0));
        let hides = limit.is_some_and(|limit| capacity.is_none_or(|capacity| limit < capacity));
        let length = self.storage.len();
        let end = self.beyond.end.max(length);
        let capacity = capacity.into_iter().chain(limit).min();
        let mut past_end = Run::new(Cluster(file.0), ClusterCount(0));
        if self.keeps && self.options.algorithm == Algorithm::Planned {
            past_end = self.allocated_past_end(capacity);
            reserved.insert(past_end);
        }
        Room {
            reserved,
            doubtful,
            leaked,
            past_end,
            file,
            capacity,
            reusable,
            hidden: hides.then_some((end - length, end)),
        }
    }

    /// The clusters from the end of the file to the last that the file's last refblock calls allocated.
    /// Once the file reaches there, a repair of a damaged image keeps them: the one after a power cut
    /// must not find less room than this one.
    pub(super) fn allocated_past_end(&self, limit: Option<ClusterCount>) -> Run {
        let end = Cluster(self.image.extent.clusters.0);
        let geometry = self.counts.geometry();
        let refblock = geometry.refblock_of(Cluster(end.0.saturating_sub(1)));
        let limit = limit.map_or(Cluster(u64::MAX), |limit| Cluster(limit.0));
        let last = self
            .look
            .comparison
            .last_allocated(geometry, refblock, limit);
        let past = last.map_or(ClusterCount(0), |last| Cluster(last.0 + 1).since(end));
        Run::new(end, past)
    }
}

impl Room {
    /// Seeks a place beside the counts of a draft: first where the disk says that nothing is allocated,
    /// last in clusters that leaked, where a power cut could leave something that reads as a lost table.
    /// In an image that is damaged it takes of the doubtful ones only those behind all that is in use,
    /// which a disturbed repair may have appended: damage may have led to the others.
    pub fn seek<T>(
        &self,
        draft: &Draft<'_>,
        place: impl Fn(&Input<'_>) -> Result<T, PlanError>,
    ) -> Result<T, RepairError> {
        let place = |avoided: &[&RunSet]| {
            let avoided = avoided.iter().flat_map(|clusters| clusters.runs());
            let reserved = self.reserved.runs().iter().chain(avoided);
            let reserved = &reserved.copied().collect();
            place(&Input {
                references: &draft.counts,
                reserved,
                file: self.file,
                capacity: self.capacity,
            })
        };
        match place(&[&self.doubtful, &self.leaked]) {
            Err(PlanError::NoSpace { .. }) => {}
            placed => return placed.map_err(|error| self.explain(error, false)),
        }
        let mut in_danger = RunSet::new();
        if draft.is_damaged()? {
            let last = draft.counts.last_used().unwrap_or_default();
            let mut end = last.saturating_add(ClusterCount(1));
            if self.past_end.count.0 > 0 {
                end = end.max(self.past_end.end());
            }
            let behind = Run::new(end, Cluster(u64::MAX).since(end));
            in_danger = self.doubtful.without(&[behind].into_iter().collect());
        }
        let placed = place(&[&in_danger, &self.leaked]).or_else(|_| place(&[&in_danger]));
        placed.map_err(|error| self.explain(error, place(&[]).is_ok()))
    }

    /// Why there is no place; `in_danger`: but for that in clusters that may hold data.
    fn explain(&self, mut error: PlanError, in_danger: bool) -> RepairError {
        if let PlanError::NoSpace { what, reserved, .. } = &mut error {
            let (New::Structures(needed, _) | New::SnapshotTable(needed)) = *what;
            // The storage is not full where it could grow but for what that would hide.
            if let Some((missing, length)) = self.hidden {
                return RepairError::GrowthWouldHide {
                    needed,
                    missing,
                    length,
                    in_danger,
                };
            }
            *reserved = self.reusable.min(*reserved);
        }
        RepairError::Plan { error, in_danger }
    }
}

/// The clusters of which the disk does not credibly say whether they are allocated: those whose
/// refblock is missing, cannot be read or trusted, or claims of a cluster in use that it is free.
/// Behind the end of the file there is nothing that could have been lost.
pub(super) fn doubtful(look: &Look, counts: &RefcountTable, file: ClusterCount) -> RunSet {
    let geometry = counts.geometry();
    let untrusted = [&look.old.untrusted, &look.comparison.unreadable];
    let is_credible = |refblock: &RefblockIndex| {
        let mut differences = look.comparison.differences_of(counts, *refblock);
        let mut untrusted = untrusted.iter();
        untrusted.all(|these| these.binary_search(refblock).is_err())
            && differences.all(|one| one.refcount >= one.references)
    };
    let credible = look.old.reftable.iter().map(|entry| entry.0);
    let credible = credible.filter(is_credible);
    let credible = credible.map(|refblock| Run::covered_by(geometry, refblock));
    let all: RunSet = [Run::new(Cluster(0), file)].into_iter().collect();
    all.without(&RunSet::of_ascending(credible))
}
