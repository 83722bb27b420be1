//! Toys of a dozen clusters with nothing but counts, for the planners.

use std::collections::BTreeSet;

use arbitrary::{Arbitrary, Unstructured};
use serde::{Deserialize, Serialize};

use super::refcount;
use super::validate::{Impossible, impossible, in_range, refuse_overflow};

/// Bytes of a reftable entry.
const ENTRY_BYTES: u32 = 8;
/// Most clusters of a toy: more is what synthetic images are for.
const CLUSTERS_MAX: u64 = 1 << 20;

/// A toy image. Byte 0 of cluster 0 has the reftable's pointer, 8 bytes of offset and 4 of
/// clusters; a refblock uses the first B * width / 8 bytes of its cluster and a reftable cluster
/// the first E * 8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Binary logarithm of B, the refcounts of a refblock.
    pub refblock_bits: u32,
    /// Binary logarithm of E, the reftable entries of a cluster.
    pub reftable_entry_bits: u32,
    /// Binary logarithm of the refcount width.
    pub refcount_order: u32,
    /// References of each cluster, from cluster 0 (the header) on.
    #[serde(with = "super::big::list")]
    pub references: Vec<u64>,
    /// Clusters of the old refcount structures: reserved, not referenced. First the reftable, in a
    /// row, then the refblocks of the ranges from 0 on. Empty: there is no reftable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub old: Vec<u32>,
}

/// How much a refblock and a reftable cluster of a toy hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// Binary logarithm of B, the refcounts of a refblock.
    pub refblock_bits: u32,
    /// Binary logarithm of E, the reftable entries of a cluster.
    pub reftable_entry_bits: u32,
    /// Binary logarithm of the refcount width.
    pub refcount_order: u32,
}

impl Shape {
    /// B.
    pub const fn refcounts(self) -> u32 {
        1 << self.refblock_bits
    }

    /// E.
    pub const fn entries(self) -> u32 {
        1 << self.reftable_entry_bits
    }

    /// Binary logarithm of the cluster size: the smallest, from 512 bytes on, that holds a refblock
    /// and E reftable entries.
    pub fn cluster_bits(self) -> u32 {
        let refblock = (self.refblock_bits + self.refcount_order).saturating_sub(3);
        let entries = self.reftable_entry_bits + ENTRY_BYTES.trailing_zeros();
        9.max(refblock).max(entries)
    }

    /// The number of references that a used cluster has: 1, 2 and the maximum in turn. Planners
    /// only ask whether there are any.
    pub const fn references_of(self, cluster: u32) -> u64 {
        match cluster % 3 {
            0 => 1,
            1 => 2,
            _ => refcount::largest(self.refcount_order),
        }
    }
}

impl Model {
    /// The sizes of its tables.
    pub const fn shape(&self) -> Shape {
        Shape {
            refblock_bits: self.refblock_bits,
            reftable_entry_bits: self.reftable_entry_bits,
            refcount_order: self.refcount_order,
        }
    }

    /// Bytes of a cluster.
    pub fn cluster_size(&self) -> u64 {
        1 << self.shape().cluster_bits()
    }

    /// What the `old` clusters are: those of the reftable, and the refblocks of the ranges from 0 on.
    /// The reftable has as many clusters as its refblocks need, at least one.
    pub(super) fn old_structures(&self) -> (&[u32], &[u32]) {
        let entries = 1 << self.reftable_entry_bits;
        let enough = |&clusters: &usize| clusters * entries >= self.old.len() - clusters;
        let clusters = (1..=self.old.len()).find(enough).unwrap_or(0);
        self.old.split_at(clusters)
    }

    /// Fails where there cannot be such a toy.
    pub(super) fn validate(&self) -> Result<(), Impossible> {
        let (order, entry_bits) = (self.refcount_order, self.reftable_entry_bits);
        in_range("refcount_order", order.into(), 0, 6)?;
        in_range("refblock_bits", self.refblock_bits.into(), 1, 20)?;
        in_range("reftable_entry_bits", entry_bits.into(), 0, 18)?;
        // A refblock has whole bytes.
        let bits = self.refblock_bits + order;
        in_range("refblock_bits + refcount_order", bits.into(), 3, 26)?;
        in_range("cluster_bits", self.shape().cluster_bits().into(), 9, 21)?;
        let clusters = self.references.len() as u64;
        in_range("the number of clusters", clusters, 1, CLUSTERS_MAX)?;
        if self.references[0] == 0 {
            return impossible("cluster 0 holds the header; it must have at least one reference");
        }
        refuse_overflow((0..).zip(self.references.iter().copied()), order)?;
        let mut seen = BTreeSet::new();
        for &cluster in &self.old {
            let why = match self.references.get(cluster as usize) {
                None => "lies past the end of the image",
                Some(1..) => "is referenced as well",
                Some(0) if !seen.insert(cluster) => "is named twice",
                Some(0) => continue,
            };
            return impossible(format!("old structure cluster {cluster} {why}"));
        }
        let (reftable, _) = self.old_structures();
        let first = reftable.first().copied().unwrap_or_default();
        let mut row = (first..).zip(reftable);
        match row.find(|(expected, cluster)| expected != *cluster) {
            None => Ok(()),
            Some((_, cluster)) => impossible(format!(
                "old structure cluster {cluster} is part of the reftable, which is not in a row"
            )),
        }
    }
}

impl<'a> Arbitrary<'a> for Model {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let refcount_order = u.int_in_range(0..=6)?;
        let refblock_bits = u.int_in_range(3_u32.saturating_sub(refcount_order).max(1)..=5)?;
        let reftable_entry_bits = u.int_in_range(0..=3)?;
        let max = refcount::largest(refcount_order);
        let clusters = u.int_in_range(1..=48_usize)?;
        let mut references = vec![1; clusters];
        let mut free = Vec::new();
        for (cluster, count) in (0..).zip(&mut references).skip(1) {
            *count = [0, 0, 1, 1, 2, max][u.choose_index(6)?].min(max);
            if *count == 0 {
                free.push(cluster);
            }
        }
        // A reftable of one cluster and refblocks, wherever there is space.
        let mut old = Vec::new();
        let most = free.len().min(1 + (1 << reftable_entry_bits));
        for _ in 0..u.int_in_range(0..=most)? {
            old.push(free.swap_remove(u.choose_index(free.len())?));
        }
        Ok(Self {
            refblock_bits,
            reftable_entry_bits,
            refcount_order,
            references,
            old,
        })
    }
}
