//! Holds references against refcounts.

use itertools::Itertools;

use super::Audit;

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
    pub const fn is_leak(&self) -> bool {
        self.on_disk > self.references
    }

    /// Whether it is in use and counts as free: anything may be written over it.
    pub const fn is_free_on_disk(&self) -> bool {
        self.on_disk == 0 && self.references > 0
    }
}

/// Compares references with refcounts, cluster by cluster.
pub(super) fn mismatches(found: &Audit) -> Vec<Mismatch> {
    let counted = found.disk.counts().keys();
    let known = found.references.keys().merge(counted).dedup();
    let known = known.copied().filter(|&cluster| cluster < found.clusters);
    let compared = known.filter_map(|cluster| {
        Some(Mismatch {
            cluster,
            on_disk: found.disk.count(cluster)?,
            references: found
                .references_to(cluster)
                .min(found.header.max_refcount()),
        })
    });
    let differ = compared.filter(|found| found.references != found.on_disk);
    differ.collect()
}
