//! From a toy's value to its bytes: the 12-byte reftable pointer at byte 0, old structures in the
//! `old` clusters, and something recognisable in every referenced cluster.

use super::fields;
use crate::case::damage::SparseBytes;
use crate::case::model::Model;
use crate::case::refcount::Refcount;
use crate::case::validate::Impossible;

/// Lays out a toy.
pub(super) fn lay_out(model: &Model) -> Result<SparseBytes, Impossible> {
    model.validate()?;
    let cluster_size = model.cluster_size();
    let mut image = SparseBytes::zeros(model.references.len() as u64 * cluster_size);
    let mut content = vec![0; cluster_size as usize];
    for (cluster, &references) in (0_u64..).zip(&model.references).skip(1) {
        if references > 0 {
            // Bytes that name their cluster and are nowhere zero.
            content.fill(0x80 | (cluster % 0x80) as u8);
            image.put(cluster * cluster_size, &content);
        }
    }
    let (reftable, refblocks) = model.old_structures();
    let Some(&first) = reftable.first() else {
        return Ok(image);
    };
    let offset = u64::from(first) * cluster_size;
    let pointer = fields([(offset, 8), (reftable.len() as u64, 4)]);
    image.put(0, &pointer);
    let entries_per_cluster = 1_u64 << model.reftable_entry_bits;
    let counted = |cluster: u64| {
        let structure = model.old.iter().any(|&old| u64::from(old) == cluster);
        let referenced = model.references[cluster as usize];
        if structure { 1 } else { referenced }
    };
    for (range, &refblock) in (0_u64..).zip(refblocks) {
        let refblock = u64::from(refblock) * cluster_size;
        // A toy's reftable clusters may have room after their entries, as the reftable's pointer.
        let table = offset + range / entries_per_cluster * cluster_size;
        let entry = table + range % entries_per_cluster * 8;
        image.put(entry, &refblock.to_be_bytes());
        let first = range << model.refblock_bits;
        let end = (first + (1 << model.refblock_bits)).min(model.references.len() as u64);
        for cluster in first..end {
            let (order, index) = (model.refcount_order, cluster - first);
            Refcount::new(order, refblock, index).write(&mut image, counted(cluster));
        }
    }
    Ok(image)
}
