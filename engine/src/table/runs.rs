//! Runs of clusters, and sets of them.

use crate::units::{Cluster, ClusterCount};

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
    #[must_use]
    pub const fn new(first: Cluster, count: ClusterCount) -> Self {
        Self { first, count }
    }

    /// A run of one.
    #[must_use]
    pub const fn single(cluster: Cluster) -> Self {
        Self {
            first: cluster,
            count: ClusterCount(1),
        }
    }

    /// The first cluster after it.
    #[must_use]
    pub const fn end(&self) -> Cluster {
        self.first.saturating_add(self.count)
    }

    /// Whether a cluster is in it.
    #[must_use]
    pub const fn contains(&self, cluster: Cluster) -> bool {
        self.first.0 <= cluster.0 && cluster.0 < self.end().0
    }

    /// Its parts that share a key, in ascending order; the key ascends with the clusters, and
    /// changes only where the refblock does.
    pub(crate) fn split_at<K: PartialEq>(
        self,
        key: impl Fn(Cluster) -> K,
    ) -> impl Iterator<Item = Self> {
        let mut rest = self;
        std::iter::from_fn(move || {
            if rest.count.0 == 0 {
                return None;
            }
            let here = key(rest.first);
            // The first cluster with another key, found by halving.
            let (mut low, mut high) = (1, rest.count.0);
            while low < high {
                let middle = low + (high - low) / 2;
                if key(rest.first.saturating_add(ClusterCount(middle))) == here {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            let part = Self::new(rest.first, ClusterCount(low));
            rest = Self::new(part.end(), ClusterCount(rest.count.0 - low));
            Some(part)
        })
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
    #[must_use]
    pub const fn new() -> Self {
        Self { runs: Vec::new() }
    }

    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.runs.clear();
    }

    /// Whether it holds no cluster.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many clusters it holds.
    #[must_use]
    pub fn count(&self) -> ClusterCount {
        ClusterCount(self.runs.iter().map(|run| run.count.0).sum())
    }

    /// Its runs, in ascending order.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The run that a cluster lies in.
    #[must_use]
    pub fn run_at(&self, cluster: Cluster) -> Option<Run> {
        let after = self.runs.partition_point(|run| run.first <= cluster);
        let run = self.runs.get(after.checked_sub(1)?)?;
        run.contains(cluster).then_some(*run)
    }

    /// Whether it holds a cluster.
    #[must_use]
    pub fn contains(&self, cluster: Cluster) -> bool {
        self.run_at(cluster).is_some()
    }

    /// The first cluster from `from` on that it holds.
    #[must_use]
    pub fn next_from(&self, from: Cluster) -> Option<Cluster> {
        let position = self.runs.partition_point(|run| run.end() <= from);
        self.runs.get(position).map(|run| run.first.max(from))
    }

    /// Adds the clusters of a run. Runs that come in ascending order are added at the end.
    pub fn insert(&mut self, run: Run) {
        if run.count.0 == 0 {
            return;
        }
        if self.runs.last().is_none_or(|last| last.end() < run.first) {
            self.runs.push(run);
            return;
        }
        // All runs from `start` to before `past` touch or overlap the new one.
        let start = self.runs.partition_point(|other| other.end() < run.first);
        let past = start + self.runs[start..].partition_point(|other| other.first <= run.end());
        let first = self
            .runs
            .get(start)
            .map_or(run.first, |other| other.first.min(run.first));
        let touched = &self.runs[start..past];
        let end = touched
            .last()
            .map_or(run.end(), |other| other.end().max(run.end()));
        let first = if touched.is_empty() { run.first } else { first };
        let merged = Run::new(first, end.since(first));
        self.runs.splice(start..past, [merged]);
    }
}

impl RunSet {
    /// Clusters that come in ascending order: no more memory than the set takes.
    pub(crate) fn of_ascending(clusters: impl Iterator<Item = Cluster>) -> Self {
        let mut set = Self::new();
        for cluster in clusters {
            match set.runs.last_mut() {
                Some(last) if last.end() == cluster => last.count.0 += 1,
                _ => set.insert(Run::single(cluster)),
            }
        }
        set
    }

    /// Adds the clusters of another set.
    pub fn extend(&mut self, other: &Self) {
        if self.runs.is_empty() {
            self.runs.clone_from(&other.runs);
            return;
        }
        *self = self.runs.iter().chain(&other.runs).copied().collect();
    }

    /// The clusters that another set does not hold.
    #[must_use]
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
        let runs = runs.into_iter().filter(|run| run.count.0 > 0);
        let mut runs: Vec<Run> = runs.collect();
        runs.sort_unstable();
        runs.dedup_by(|run, before| {
            let joins = run.first <= before.end();
            if joins {
                *before = Run::new(
                    before.first,
                    before.end().max(run.end()).since(before.first),
                );
            }
            joins
        });
        Self { runs }
    }
}
