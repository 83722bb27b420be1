//! Holds references against refcounts.

use itertools::Itertools;
use smallvec::SmallVec;

use super::refcounts::OnDisk;
use super::references::Walk;

/// A cluster whose refcount is not its number of references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The cluster.
    pub cluster: u64,
    /// Its refcount on disk.
    pub on_disk: u64,
    /// References to it, no more than a refcount can count.
    pub references: u64,
}

impl Mismatch {
    /// Whether it is only counted too high: space is lost, but no data in danger.
    #[must_use]
    pub const fn is_leak(&self) -> bool {
        self.on_disk > self.references
    }

    /// Whether it is in use and counts as free: anything may be written over it.
    #[must_use]
    pub const fn is_free_on_disk(&self) -> bool {
        self.on_disk == 0 && self.references > 0
    }
}

/// Compares what a walk found with the refcounts, cluster by cluster.
pub(super) fn mismatches(walk: &Walk<'_, '_>, disk: &OnDisk) -> Vec<Mismatch> {
    let known = walk.references.keys().merge(disk.counts().keys()).dedup();
    let known = known.copied().filter(|&cluster| cluster < walk.clusters);
    let compared = known.filter_map(|cluster| {
        let referrers = walk.references.get(&cluster).map_or(0, SmallVec::len) as u64;
        Some(Mismatch {
            cluster,
            on_disk: disk.count(cluster)?,
            references: referrers.min(walk.header.max_refcount()),
        })
    });
    compared
        .filter(|found| found.references != found.on_disk)
        .collect()
}
