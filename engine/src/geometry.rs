//! The sizes that everything else derives from, validated once (specification, "Header").

use crate::units::{Cluster, ClusterCount, Offset, RefblockIndex};

/// The width of a refcount, 1 to 64 bits (header field `refcount_order`, its binary logarithm).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefcountOrder(u8);

impl RefcountOrder {
    /// The order of 64-bit refcounts, the widest.
    pub const MAX: Self = Self(6);

    /// The order of 1-bit refcounts, the narrowest.
    pub(crate) const BIT: Self = Self(0);

    /// The order of 8-bit refcounts.
    pub(crate) const BYTE: Self = Self(3);

    /// From the header field; `None` above 6.
    pub(crate) fn new(order: u32) -> Option<Self> {
        (order <= Self::MAX.get()).then_some(Self(order as u8))
    }

    /// The header field.
    pub(crate) const fn get(self) -> u32 {
        self.0 as u32
    }

    /// Bits of one refcount.
    pub(crate) const fn bits(self) -> u32 {
        1 << self.0
    }

    /// The largest refcount of this width.
    pub(crate) const fn max_refcount(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }
}

/// Why sizes do not make a geometry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "their texts say what they are")]
pub enum GeometryError {
    #[error("cluster_bits is {0}, which is outside 9 to 21")]
    ClusterBits(u32),
    #[error("refcount_order is {0}, which is above 6")]
    RefcountOrder(u32),
    #[error("a cluster of 2^{cluster_bits} bytes cannot hold the tables of this model geometry")]
    Model { cluster_bits: u32 },
}

/// Cluster size, refcount width, and what follows from them: how many refcounts a refblock holds
/// (**B**) and how many reftable entries a cluster holds (**E**).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    cluster_bits: u32,
    order: RefcountOrder,
    refblock_bits: u32,
    reftable_entry_bits: u32,
    pointer_offset: Offset,
}

impl Geometry {
    /// The geometry of a real image: `cluster_bits` 9 to 21, `refcount_order` 0 to 6.
    pub fn new(cluster_bits: u32, refcount_order: u32) -> Result<Self, GeometryError> {
        if !(9..=21).contains(&cluster_bits) {
            return Err(GeometryError::ClusterBits(cluster_bits));
        }
        let refblock_bits = (cluster_bits + 3).saturating_sub(refcount_order);
        let entry_bits = cluster_bits - 3;
        Ok(Self {
            pointer_offset: Offset(48),
            ..Self::model(cluster_bits, refcount_order, refblock_bits, entry_bits)?
        })
    }

    /// A toy geometry for models: B and E are given, as binary logarithms, and only have to fit
    /// into the cluster (the rest of a table's cluster is zeros). The reftable's pointer in the
    /// header, at byte 48 of a real image, is at byte 0 here, so that it fits into 16 bytes.
    pub fn model(
        cluster_bits: u32,
        refcount_order: u32,
        refblock_bits: u32,
        reftable_entry_bits: u32,
    ) -> Result<Self, GeometryError> {
        let order = RefcountOrder::new(refcount_order);
        let order = order.ok_or(GeometryError::RefcountOrder(refcount_order))?;
        if !(4..=21).contains(&cluster_bits)
            || refblock_bits < 1
            || refblock_bits + refcount_order > cluster_bits + 3
            || reftable_entry_bits + 3 > cluster_bits
            // A refblock is stored as whole bytes.
            || refblock_bits + refcount_order < 3
        {
            return Err(GeometryError::Model { cluster_bits });
        }
        Ok(Self {
            cluster_bits,
            order,
            refblock_bits,
            reftable_entry_bits,
            pointer_offset: Offset(0),
        })
    }

    /// Binary logarithm of the cluster size.
    pub const fn cluster_bits(&self) -> u32 {
        self.cluster_bits
    }

    /// Bytes of a cluster.
    pub const fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// The width of a refcount.
    pub(crate) const fn order(&self) -> RefcountOrder {
        self.order
    }

    /// The largest refcount.
    pub const fn max_refcount(&self) -> u64 {
        self.order.max_refcount()
    }

    /// **B**: refcounts of a refblock, which is also the number of clusters that it covers.
    pub const fn refcounts_per_refblock(&self) -> u64 {
        1 << self.refblock_bits
    }

    /// Bytes of a refblock that hold refcounts: all of the cluster in a real image.
    pub const fn refblock_bytes(&self) -> usize {
        1 << (self.refblock_bits + self.order.get() - 3)
    }

    /// **E**: reftable entries of a cluster.
    pub const fn entries_per_reftable_cluster(&self) -> u64 {
        1 << self.reftable_entry_bits
    }

    /// The largest reftable, in clusters: 8 MiB, but at least one cluster (observed: qemu opens no
    /// image with a larger one).
    pub const fn max_reftable_clusters(&self) -> ClusterCount {
        ClusterCount((8 << 20) >> self.cluster_bits)
    }

    /// Where in the file the header's reftable pointer is: 8 bytes of offset, 4 of clusters.
    pub const fn reftable_pointer_offset(&self) -> Offset {
        self.pointer_offset
    }

    /// The first byte of a cluster; `None` past 2^64.
    pub(crate) fn offset_of(&self, cluster: Cluster) -> Option<Offset> {
        cluster.0.checked_mul(self.cluster_size()).map(Offset)
    }

    /// The cluster that a byte lies in.
    pub(crate) const fn cluster_of(&self, offset: Offset) -> Cluster {
        Cluster(offset.0 >> self.cluster_bits)
    }

    /// Whether a position is the first byte of a cluster.
    pub(crate) const fn is_aligned(&self, offset: Offset) -> bool {
        offset.0 & (self.cluster_size() - 1) == 0
    }

    /// How many clusters `bytes` take up, the last one perhaps in part.
    pub(crate) const fn clusters_for(&self, bytes: u64) -> ClusterCount {
        ClusterCount(bytes.div_ceil(self.cluster_size()))
    }

    /// The refblock that holds the refcount of a cluster.
    pub(crate) const fn refblock_of(&self, cluster: Cluster) -> RefblockIndex {
        RefblockIndex(cluster.0 >> self.refblock_bits)
    }

    /// The first cluster that a refblock covers; saturates past 2^64.
    pub const fn first_covered(&self, refblock: RefblockIndex) -> Cluster {
        Cluster(refblock.0.saturating_mul(self.refcounts_per_refblock()))
    }

    /// How many reftable clusters hold `entries` entries.
    pub(crate) const fn reftable_clusters_for(&self, entries: u64) -> ClusterCount {
        ClusterCount(entries.div_ceil(self.entries_per_reftable_cluster()))
    }
}
