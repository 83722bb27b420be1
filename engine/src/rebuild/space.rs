//! Free clusters in a part of the storage.

use super::{New, PlanError};
use crate::table::{RefcountTable, Run, RunSet};
use crate::units::{Cluster, ClusterCount};

/// The clusters before `limit` that are neither counted nor taken.
#[derive(Clone, Copy, Debug)]
pub struct Space<'a> {
    pub references: &'a RefcountTable,
    pub taken: &'a RunSet,
    pub limit: Cluster,
}

impl Space<'_> {
    /// The first free cluster from `from` on.
    pub fn next_free(&self, from: Cluster) -> Option<Cluster> {
        let mut cluster = self.references.next_free(from);
        while let Some(run) = self.taken.run_at(cluster) {
            cluster = self.references.next_free(run.end());
        }
        (cluster < self.limit).then_some(cluster)
    }

    /// The free runs from `from` on, each as long as it is there.
    pub fn runs(&self, from: Cluster) -> impl Iterator<Item = Run> {
        std::iter::successors(self.run_from(from), |run| self.run_from(run.end()))
    }

    /// The lowest `count` free clusters in a row.
    pub fn lowest_run(&self, from: Cluster, count: ClusterCount) -> Option<Run> {
        let gap = self.runs(from).find(|gap| gap.count >= count)?;
        Some(Run::new(gap.first, count))
    }

    /// The error where something does not fit.
    pub fn no_space(&self, what: New) -> PlanError {
        let lengths = || self.runs(Cluster(0)).map(|run| run.count);
        let free = ClusterCount(lengths().map(|length| length.0).sum());
        let reserved = match what {
            New::Structures(..) => self.taken.count(),
            New::SnapshotTable(_) => ClusterCount(0),
        };
        PlanError::NoSpace {
            what,
            free,
            longest_run: lengths().max().unwrap_or_default(),
            reserved,
        }
    }

    fn run_from(&self, from: Cluster) -> Option<Run> {
        let first = self.next_free(from)?;
        let used = self.references.next_used(first);
        let ends = used.into_iter().chain(self.taken.next_from(first));
        let end = ends.fold(self.limit, Cluster::min);
        Some(Run::new(first, end.since(first)))
    }
}
