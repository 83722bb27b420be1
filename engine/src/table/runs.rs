//! Runs of clusters, and sets of them.

use crate::geometry::Geometry;
use crate::units::{Cluster, ClusterCount, RefblockIndex};

/// Clusters that lie side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    /// The first of them.
    pub first: Cluster,
    /// How many there are.
    pub count: ClusterCount,
}

impl Run {
    /// A run of `count` clusters.
    pub const fn new(first: Cluster, count: ClusterCount) -> Self {
        Self { first, count }
    }

    /// A run of one.
    pub const fn single(cluster: Cluster) -> Self {
        Self::new(cluster, ClusterCount(1))
    }

    /// The clusters that a refblock covers.
    pub(crate) const fn covered_by(geometry: &Geometry, refblock: RefblockIndex) -> Self {
        let count = ClusterCount(geometry.refcounts_per_refblock());
        Self::new(geometry.first_covered(refblock), count)
    }

    /// The first cluster after it.
    pub const fn end(&self) -> Cluster {
        self.first.saturating_add(self.count)
    }

    /// Whether a cluster is in it.
    pub const fn contains(&self, cluster: Cluster) -> bool {
        self.first.0 <= cluster.0 && cluster.0 < self.end().0
    }

    /// Its parts in the ranges of one refblock each, in ascending order.
    pub(crate) fn by_refblock(self, geometry: &Geometry) -> impl Iterator<Item = Self> {
        let mut first = self.first;
        std::iter::from_fn(move || {
            let next = RefblockIndex(geometry.refblock_of(first).0 + 1);
            let past = geometry.first_covered(next).min(self.end());
            let part = Self::new(first, past.since(first));
            first = past;
            (part.count.0 > 0).then_some(part)
        })
    }

    /// From the first cluster of both to the last.
    fn joined(self, other: Self) -> Self {
        let first = self.first.min(other.first);
        Self::new(first, self.end().max(other.end()).since(first))
    }

    /// Its clusters, in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Cluster> + use<> {
        (self.first.0..self.end().0).map(Cluster)
    }
}

/// A set of clusters, held as runs that neither touch nor overlap, in ascending order.
///
/// It grows without asking whether there is memory: who fills one knows how many runs that can be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunSet {
    runs: Vec<Run>,
}

impl RunSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self { runs: Vec::new() }
    }

    /// Whether it holds no cluster.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many clusters it holds.
    pub fn count(&self) -> ClusterCount {
        ClusterCount(self.runs.iter().map(|run| run.count.0).sum())
    }

    /// Its runs, in ascending order.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The run that a cluster lies in.
    pub fn run_at(&self, cluster: Cluster) -> Option<Run> {
        self.ending_after(cluster)
            .filter(|run| run.contains(cluster))
    }

    /// Whether it holds a cluster.
    pub fn contains(&self, cluster: Cluster) -> bool {
        self.run_at(cluster).is_some()
    }

    /// The first cluster from `from` on that it holds.
    pub fn next_from(&self, from: Cluster) -> Option<Cluster> {
        self.ending_after(from).map(|run| run.first.max(from))
    }

    /// The first run that ends after a cluster.
    fn ending_after(&self, cluster: Cluster) -> Option<Run> {
        let position = self.runs.partition_point(|run| run.end() <= cluster);
        self.runs.get(position).copied()
    }

    /// Adds the clusters of a run. Runs that come in ascending order are added at the end.
    pub fn insert(&mut self, run: Run) {
        if run.count.0 == 0 {
            return;
        }
        match self.runs.last_mut() {
            Some(last) if run.first < last.first => {
                // All runs from `start` to before `past` touch or overlap the new one.
                let start = self.runs.partition_point(|other| other.end() < run.first);
                let past = self.runs.partition_point(|other| other.first <= run.end());
                let touched = self.runs[start..past].iter();
                let joined = touched.fold(run, |run, other| run.joined(*other));
                self.runs.splice(start..past, [joined]);
            }
            Some(last) if run.first <= last.end() => *last = last.joined(run),
            _ => self.runs.push(run),
        }
    }

    /// Runs that come in ascending order: no more memory than the set takes.
    pub(crate) fn of_ascending(runs: impl Iterator<Item = Run>) -> Self {
        let mut set = Self::new();
        runs.for_each(|run| set.insert(run));
        set
    }

    /// Adds the clusters of another set.
    pub fn extend(&mut self, other: &Self) {
        *self = self.runs.iter().chain(&other.runs).copied().collect();
    }

    /// The clusters that another set does not hold.
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Self::new();
        for run in &self.runs {
            let mut from = run.first;
            while from < run.end() {
                let taken = other.next_from(from).unwrap_or(run.end()).min(run.end());
                left.insert(Run::new(from, taken.since(from)));
                from = other.run_at(taken).map_or(run.end(), |taken| taken.end());
            }
        }
        left
    }
}

impl FromIterator<Run> for RunSet {
    fn from_iter<T: IntoIterator<Item = Run>>(runs: T) -> Self {
        let mut runs: Vec<Run> = runs.into_iter().collect();
        runs.sort_unstable();
        Self::of_ascending(runs.into_iter())
    }
}
