//! From a toy's value to its bytes: the 12-byte reftable pointer at byte 0, old structures in the
//! `old` clusters, and something recognisable in every referenced cluster.

use super::refcounts::put;
use super::{Layout, Piece};
use crate::case::impossible::Impossible;
use crate::case::model::{Model, OldStructures};

/// Bytes between two clusters that are written at once.
const GAP_MAX: u64 = 4096;

/// Lays out a toy.
pub(super) fn lay_out(model: &Model) -> Result<Layout, Impossible> {
    model.validate()?;
    let cluster_size = model.cluster_size();
    let mut pieces = data(model);
    if let Some(old) = model.old_structures()? {
        let reftable = u64::from(old.reftable);
        let mut pointer = (reftable * cluster_size).to_be_bytes().to_vec();
        pointer.extend_from_slice(&old.reftable_clusters.to_be_bytes());
        pieces.push(Piece {
            offset: 0,
            bytes: pointer,
        });
        structures(model, &old, &mut pieces);
    }
    Ok(Layout {
        pieces,
        cluster_size,
        length: model.references.len() as u64 * cluster_size,
    })
}

/// What the clusters with references hold: bytes that name their cluster and are nowhere zero. Near
/// neighbours are one piece, with the zeros between them.
fn data(model: &Model) -> Vec<Piece> {
    let cluster_size = model.cluster_size();
    let mut pieces: Vec<Piece> = Vec::new();
    let used = (0_u64..).zip(&model.references).skip(1);
    for (cluster, _) in used.filter(|&(_, &references)| references > 0) {
        let offset = cluster * cluster_size;
        let is_near = |last: &Piece| offset - last.offset < GAP_MAX + last.bytes.len() as u64;
        if !pieces.last().is_some_and(is_near) {
            let bytes = Vec::with_capacity(GAP_MAX as usize);
            pieces.push(Piece { offset, bytes });
        }
        if let Some(Piece {
            offset: start,
            bytes,
        }) = pieces.last_mut()
        {
            bytes.resize((offset - *start) as usize, 0);
            let name = 0x80 | (cluster % 0x80) as u8;
            bytes.resize(bytes.len() + cluster_size as usize, name);
        }
    }
    pieces
}

fn structures(model: &Model, old: &OldStructures, pieces: &mut Vec<Piece>) {
    let cluster_size = model.cluster_size();
    let counted = |cluster: u64| {
        let referenced = model.references[cluster as usize];
        let structure = model.old.iter().any(|&old| u64::from(old) == cluster);
        if structure { 1 } else { referenced }
    };
    let entries_per_cluster = 1_u64 << model.reftable_entry_bits;
    for (range, &refblock) in (0_u64..).zip(&old.refblocks) {
        let offset = u64::from(refblock) * cluster_size;
        // A toy's reftable clusters may have room after their entries, as the reftable's pointer.
        let table = u64::from(old.reftable) + range / entries_per_cluster;
        let entry = table * cluster_size + range % entries_per_cluster * 8;
        pieces.push(Piece {
            offset: entry,
            bytes: offset.to_be_bytes().to_vec(),
        });
        let mut bytes = Vec::new();
        let first = range << model.refblock_bits;
        let end = (first + (1 << model.refblock_bits)).min(model.references.len() as u64);
        for cluster in first..end {
            put(&mut bytes, cluster - first, model.width(), counted(cluster));
        }
        pieces.push(Piece { offset, bytes });
    }
}
