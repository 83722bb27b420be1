//! The sizes of a synthetic image, from the specification.

use crate::case::synthetic::Synthetic;

/// Last byte position plus one that the offset fields can name (56 bits).
const OFFSET_LIMIT: u64 = 1 << 56;

/// Derived sizes. All in bytes or entries as named.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// Binary logarithm of a cluster's bytes.
    pub(super) cluster_bits: u32,
    /// Bytes of a cluster.
    pub(super) cluster: u64,
    /// Bytes of an L2 entry.
    pub(super) l2_entry: u64,
    /// Entries of an L2 table.
    pub(super) l2_entries: u64,
    /// Refcounts of a refblock.
    pub(super) refblock_entries: u64,
    /// Bits of a refcount.
    pub(super) refcount_bits: u32,
    /// The largest refcount.
    pub(super) max_refcount: u64,
    /// The last cluster that an offset can name.
    pub(super) last_cluster: u64,
}

impl Sizes {
    pub(super) const fn of(image: &Synthetic) -> Self {
        let cluster = 1 << image.cluster_bits;
        let refcount_bits = 1 << image.refcount_order;
        let l2_entry = if image.extended_l2 { 16 } else { 8 };
        Self {
            cluster_bits: image.cluster_bits,
            cluster,
            l2_entry,
            l2_entries: cluster / l2_entry,
            refblock_entries: cluster * 8 / refcount_bits as u64,
            refcount_bits,
            max_refcount: u64::MAX >> (64 - refcount_bits),
            last_cluster: OFFSET_LIMIT / cluster - 1,
        }
    }

    /// Clusters that so many bytes take.
    pub(super) const fn clusters(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster)
    }

    /// The first byte of a cluster.
    pub(super) const fn offset(&self, cluster: u64) -> u64 {
        cluster << self.cluster_bits
    }
}
