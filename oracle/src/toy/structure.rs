//! The refcount structures of a toy: nothing but pointer, reftable, refblocks and counts.

use std::io;

use litemap::LiteMap;

use crate::audit::{Bytes, be32, be64, nonzero_counts};
use crate::case::model::Model;

/// Most entries of a toy's reftable that are looked at.
const ENTRIES_MAX: u64 = 1 << 14;
/// Clusters with a count in most toys.
const CLUSTERS_USUAL: usize = 64;

/// What a toy's header leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToyStructure {
    /// The pointer in the header: byte offset of the reftable.
    pub reftable_offset: u64,
    /// And its clusters.
    pub reftable_clusters: u64,
    /// The reftable's entries that are not 0: byte offset of the refblock of each range.
    pub refblocks: LiteMap<u64, u64>,
    /// Refcounts that are not 0, by cluster.
    pub counts: LiteMap<u64, u64>,
}

impl ToyStructure {
    /// How often each cluster is used by the structures themselves.
    pub fn own_clusters(&self, model: &Model) -> LiteMap<u64, u64> {
        let bits = model.shape().cluster_bits();
        let first = self.reftable_offset >> bits;
        let reftable = first..first.saturating_add(self.reftable_clusters.min(ENTRIES_MAX));
        let refblocks = self.refblocks.values();
        let refblocks = refblocks.map(|&offset| offset >> bits);
        let mut uses = LiteMap::new();
        for cluster in reftable.chain(refblocks) {
            *uses.entry(cluster).or_insert(0) += 1;
        }
        uses
    }
}

/// Reads the structures of a toy with the sizes of a model.
pub fn structure(bytes: &dyn Bytes, model: &Model) -> io::Result<ToyStructure> {
    let length = bytes.length()?;
    let cluster_size = model.cluster_size();
    let mut pointer = [0; 12];
    bytes.read(0, &mut pointer)?;
    // Allocated once for the toys that there are millions of.
    let mut found = ToyStructure {
        reftable_offset: be64(&pointer),
        reftable_clusters: be32(&pointer[8..]),
        refblocks: LiteMap::with_capacity(CLUSTERS_USUAL),
        counts: LiteMap::with_capacity(CLUSTERS_USUAL),
    };
    let entries_per_cluster = 1 << model.reftable_entry_bits;
    let entries = found.reftable_clusters.saturating_mul(entries_per_cluster);
    let mut block = Vec::new();
    for index in 0..entries.min(ENTRIES_MAX) {
        let inside = index / entries_per_cluster * cluster_size + index % entries_per_cluster * 8;
        let Some(at) = found.reftable_offset.checked_add(inside) else {
            break;
        };
        if at >= length {
            break;
        }
        let mut entry = [0; 8];
        bytes.read(at, &mut entry)?;
        let offset = u64::from_be_bytes(entry);
        if offset == 0 {
            continue;
        }
        found.refblocks.insert(index, offset);
        if offset >= length {
            continue;
        }
        block.resize((1 << (model.refblock_bits + model.refcount_order)) / 8, 0);
        bytes.read(offset, &mut block)?;
        for (place, count) in nonzero_counts(&block, 1 << model.refcount_order) {
            let cluster = (index << model.refblock_bits) + place;
            found.counts.insert(cluster, count);
        }
    }
    Ok(found)
}
