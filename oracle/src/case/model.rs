//! Toys of a dozen clusters with nothing but counts, for the planners.

use arbitrary::Arbitrary;
use serde::{Deserialize, Serialize};

/// A toy image.
#[derive(Clone, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Binary logarithm of B, the refcounts of a refblock.
    pub refblock_bits: u32,
    /// Binary logarithm of E, the reftable entries of a cluster.
    pub reftable_entry_bits: u32,
    /// Binary logarithm of the refcount width.
    pub refcount_order: u32,
    /// References of each cluster, from cluster 0 (the header) on.
    pub references: Vec<u64>,
    /// Clusters of the old refcount structures: reserved, not referenced.
    pub old: Vec<u32>,
}
