//! The writes of new refcount structures: refblocks, neighbours in one write, then the reftable.

use super::Algorithm;
use super::layout::Layout;
use crate::geometry::Geometry;
use crate::storage::{Storage, StorageError};
use crate::table::{OutOfMemory, RefcountTable};
use crate::units::{Cluster, ClusterCount, Offset};

/// Bytes written at once, at most: enough to make joining worthwhile, little enough to hold.
const BATCH_BYTES: usize = 1 << 20;

/// Why a layout could not be written. The header then still leads to the old structures, unless
/// the flush after the switch is what failed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A place lies past what the storage can address: the layout was not made for it.
    #[error("cluster {cluster} of the new refcount structures is past the largest file offset")]
    Unaddressable {
        /// The place.
        cluster: Cluster,
    },
    /// Memory ran out.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// The writes that bring a layout to the storage, in order.
#[derive(Clone, Debug, Default)]
pub struct Writes {
    /// Refblocks that are written at once, as ranges of [`Layout::order`].
    batches: Vec<(usize, usize)>,
    /// Writes of the reftable.
    reftable: usize,
}

impl Writes {
    /// Those of a layout.
    pub fn of(layout: &Layout, geometry: &Geometry) -> Result<Self, OutOfMemory> {
        let most = most_at_once(geometry);
        let place = |position: usize| {
            let refblock = layout.refblocks.get(*layout.order.get(position)?);
            refblock.map(|(_, cluster)| *cluster)
        };
        let mut batches: Vec<(usize, usize)> = Vec::new();
        for position in 0..layout.order.len() {
            let follows = |past: usize| {
                place(past - 1).map(|before| before.saturating_add(ClusterCount(1)))
                    == place(position)
            };
            match batches.last_mut() {
                Some((start, past)) if position - *start < most && follows(*past) => *past += 1,
                _ => {
                    batches.try_reserve(1).map_err(|_| OutOfMemory)?;
                    batches.push((position, position + 1));
                }
            }
        }
        let reftable = (layout.reftable.count.0 as usize).div_ceil(most);
        Ok(Self { batches, reftable })
    }

    /// How many there are of refblocks, which come first.
    pub const fn of_refblocks(&self) -> usize {
        self.batches.len()
    }

    /// How many there are of the reftable.
    pub const fn of_reftable(&self) -> usize {
        self.reftable
    }

    /// Where the n-th goes; its bytes in `bytes`. `counts` include the layout's own clusters.
    pub fn write(
        &self,
        number: usize,
        layout: &Layout,
        counts: &RefcountTable,
        bytes: &mut Vec<u8>,
    ) -> Result<Offset, CommitError> {
        let geometry = counts.geometry();
        let cluster_size = geometry.cluster_size() as usize;
        bytes.clear();
        if let Some((start, past)) = self.batches.get(number) {
            let blocks = layout.order.get(*start..*past).unwrap_or_default().iter();
            let blocks = blocks.filter_map(|position| layout.refblocks.get(*position));
            let mut first = None;
            for (refblock, cluster) in blocks {
                first = first.or(Some(*cluster));
                let held = bytes.len();
                grow(bytes, cluster_size)?;
                counts.encode(*refblock, &mut bytes[held..]);
            }
            return offset_of(geometry, first.unwrap_or_default());
        }
        let most = most_at_once(geometry);
        let first = ((number - self.batches.len()) * most) as u64;
        let clusters = layout
            .reftable
            .count
            .0
            .saturating_sub(first)
            .min(most as u64);
        grow(bytes, clusters as usize * cluster_size)?;
        layout.encode_reftable(geometry, first << geometry.cluster_bits(), bytes);
        let place = layout.reftable.first.saturating_add(ClusterCount(first));
        offset_of(geometry, place)
    }
}

/// Clusters that are written at once, at most.
const fn most_at_once(geometry: &Geometry) -> usize {
    let clusters = BATCH_BYTES >> geometry.cluster_bits();
    if clusters == 0 { 1 } else { clusters }
}

/// Adds zeros.
fn grow(bytes: &mut Vec<u8>, more: usize) -> Result<(), OutOfMemory> {
    bytes.try_reserve(more).map_err(|_| OutOfMemory)?;
    bytes.resize(bytes.len() + more, 0);
    Ok(())
}

fn offset_of(geometry: &Geometry, cluster: Cluster) -> Result<Offset, CommitError> {
    geometry
        .offset_of(cluster)
        .ok_or(CommitError::Unaddressable { cluster })
}

/// The header's pointer to a reftable: 8 bytes of offset, 4 of clusters, within one sector.
pub fn pointer_to(layout: &Layout, geometry: &Geometry) -> Result<[u8; 12], CommitError> {
    let mut pointer = [0; 12];
    let offset = offset_of(geometry, layout.reftable.first)?;
    pointer[..8].copy_from_slice(&offset.0.to_be_bytes());
    pointer[8..].copy_from_slice(&(layout.reftable.count.0 as u32).to_be_bytes());
    Ok(pointer)
}

/// Writes a layout that was planned by `algorithm` from `references` alone, and switches to it, in the
/// order that survives a power cut. A repair does the same as part of its plan; this is for models of
/// an image, which have nothing but counts.
pub fn commit(
    algorithm: Algorithm,
    layout: &Layout,
    references: &RefcountTable,
    storage: &mut dyn Storage,
) -> Result<(), CommitError> {
    let geometry = references.geometry();
    let mut counts = references.clone();
    for run in layout.allocated().runs() {
        for cluster in run.iter() {
            counts.set(cluster, 1)?;
        }
    }
    let writes = Writes::of(layout, geometry)?;
    let mut bytes = Vec::new();
    for number in 0..writes.of_refblocks() + writes.of_reftable() {
        let offset = writes.write(number, layout, &counts, &mut bytes)?;
        storage.write_at(offset, &bytes)?;
    }
    if algorithm.flushes_before_switch() {
        storage.flush()?;
    }
    let pointer = pointer_to(layout, geometry)?;
    storage.write_at(geometry.reftable_pointer_offset(), &pointer)?;
    Ok(storage.flush()?)
}
