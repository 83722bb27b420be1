//! A table of counts with more clusters taken on top, and the ways to find free ones in it.

use crate::geometry::Geometry;
use crate::table::{RefcountTable, Run, RunSet};
use crate::units::{Cluster, ClusterCount};

/// The first cluster from `from` on that is neither counted nor in `taken`.
pub fn next_free(references: &RefcountTable, taken: &RunSet, from: Cluster) -> Cluster {
    let mut cluster = references.next_free(from);
    while let Some(run) = taken.run_at(cluster) {
        cluster = references.next_free(run.end());
    }
    cluster
}

/// The first free run from `from` on and before `limit`, as long as it is there.
pub fn free_run(
    references: &RefcountTable,
    taken: &RunSet,
    from: Cluster,
    limit: Cluster,
) -> Option<Run> {
    let first = next_free(references, taken, from);
    if first >= limit {
        return None;
    }
    let used = references.next_used(first).unwrap_or(limit);
    let end = used.min(taken.next_from(first).unwrap_or(limit)).min(limit);
    Some(Run::new(first, end.since(first)))
}

/// The clusters that QEMU's algorithms have taken so far on top of the counts, and the length of
/// the file as they see it.
#[derive(Debug)]
pub struct Allocator<'a> {
    references: &'a RefcountTable,
    pub taken: RunSet,
    /// Clusters of the file: what lies beyond is free without limit.
    pub end: Cluster,
}

impl<'a> Allocator<'a> {
    /// With a file of `file` clusters. A table that reaches into the rest of the last one may be
    /// counted in the cluster after it, which belongs to the file then.
    pub fn new(references: &'a RefcountTable, file: ClusterCount) -> Self {
        let counted = references.last_used().map_or(0, |last| last.0 + 1);
        Self {
            references,
            taken: RunSet::new(),
            end: Cluster(file.0.max(counted)),
        }
    }

    pub const fn geometry(&self) -> &Geometry {
        self.references.geometry()
    }

    /// The first cluster from `from` on, and before `end`, that is counted or taken.
    pub fn next_used(&self, from: Cluster, end: Cluster) -> Option<Cluster> {
        let counted = self.references.next_used(from);
        let taken = self.taken.next_from(from);
        let next = match (counted, taken) {
            (Some(counted), Some(taken)) => counted.min(taken),
            (one, other) => one.or(other)?,
        };
        (next < end).then_some(next)
    }

    /// Takes the first free run of `count` clusters from `first_free` on; the file grows where
    /// there is none in it. `first_free` moves on to the first gap seen, even one too short, as
    /// QEMU's allocator has it.
    pub fn allocate(&mut self, count: ClusterCount, first_free: &mut Cluster) -> Run {
        let mut from = *first_free;
        let mut first_gap = true;
        let first = loop {
            let Some(gap) = free_run(self.references, &self.taken, from, self.end) else {
                break self.end.max(from);
            };
            if std::mem::take(&mut first_gap) {
                *first_free = gap.first;
            }
            // A gap that reaches the end of the file is extended past it.
            if gap.count >= count || gap.end() >= self.end {
                break gap.first;
            }
            from = gap.end();
        };
        let run = Run::new(first, count);
        self.end = self.end.max(run.end());
        self.taken.insert(run);
        run
    }
}
