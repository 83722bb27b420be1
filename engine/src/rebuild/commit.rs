//! Writing a layout in the order that survives a power cut: refblocks, reftable, flush, the
//! header's pointer, flush. Until the pointer is written, nothing that the old structures or a
//! reference lead to has changed; the pointer's 12 bytes lie within one sector.

use super::Algorithm;
use super::layout::Layout;
use crate::geometry::Geometry;
use crate::storage::{Storage, StorageError};
use crate::table::{OutOfMemory, RefcountTable, Run};
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

/// Writes a layout that was planned by `algorithm` from `references`, and switches to it.
pub fn commit(
    algorithm: Algorithm,
    layout: &Layout,
    references: &RefcountTable,
    storage: &mut dyn Storage,
) -> Result<(), CommitError> {
    let geometry = references.geometry();
    write_refblocks(layout, references, storage)?;
    write_reftable(layout, geometry, storage)?;
    if algorithm.flushes_before_switch() {
        storage.flush()?;
    }
    let mut pointer = [0; 12];
    pointer[..8].copy_from_slice(&offset_of(geometry, layout.reftable.first)?.0.to_be_bytes());
    pointer[8..].copy_from_slice(&(layout.reftable.count.0 as u32).to_be_bytes());
    storage.write_at(geometry.reftable_pointer_offset(), &pointer)?;
    storage.flush()?;
    Ok(())
}

/// Writes the refblocks in the layout's order, neighbours in one write.
fn write_refblocks(
    layout: &Layout,
    references: &RefcountTable,
    storage: &mut dyn Storage,
) -> Result<(), CommitError> {
    let geometry = references.geometry();
    let allocated = layout.allocated();
    let cluster_size = geometry.cluster_size() as usize;
    let mut batch = Batch::with_room(layout.order.len(), cluster_size)?;
    for position in &layout.order {
        let Some((refblock, cluster)) = layout.refblocks.get(*position) else {
            continue;
        };
        if !batch.takes(*cluster, cluster_size) {
            batch.write(geometry, storage)?;
            batch.first = *cluster;
        }
        let bytes = batch.extend(cluster_size)?;
        Layout::encode_refblock(references, &allocated, *refblock, bytes);
    }
    batch.write(geometry, storage)
}

/// Writes the reftable, zeros where it has no entry.
fn write_reftable(
    layout: &Layout,
    geometry: &Geometry,
    storage: &mut dyn Storage,
) -> Result<(), CommitError> {
    let cluster_size = geometry.cluster_size() as usize;
    let mut entries = layout.reftable_entries(geometry).peekable();
    let mut batch = Batch::with_room(layout.reftable.count.0 as usize, cluster_size)?;
    batch.first = layout.reftable.first;
    for (index, cluster) in layout.reftable.iter().enumerate() {
        if !batch.takes(cluster, cluster_size) {
            batch.write(geometry, storage)?;
            batch.first = cluster;
        }
        let bytes = batch.extend(cluster_size)?;
        let start = index as u64 * geometry.cluster_size();
        while let Some((position, offset)) =
            entries.next_if(|(position, _)| *position < start + geometry.cluster_size())
        {
            let within = (position - start) as usize;
            bytes[within..within + 8].copy_from_slice(&offset.0.to_be_bytes());
        }
    }
    batch.write(geometry, storage)
}

/// Clusters that lie side by side and are written together.
struct Batch {
    first: Cluster,
    bytes: Vec<u8>,
}

impl Batch {
    /// Nothing yet; room for so many clusters, or as many as are written at once.
    fn with_room(clusters: usize, cluster_size: usize) -> Result<Self, OutOfMemory> {
        let room = clusters.saturating_mul(cluster_size).min(BATCH_BYTES);
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(room).map_err(|_| OutOfMemory)?;
        Ok(Self {
            first: Cluster(0),
            bytes,
        })
    }

    /// Whether `cluster` comes right after what is held, and there is room.
    fn takes(&self, cluster: Cluster, cluster_size: usize) -> bool {
        let held = ClusterCount((self.bytes.len() / cluster_size) as u64);
        let follows = Run::new(self.first, held).end() == cluster;
        follows && (self.bytes.is_empty() || self.bytes.len() + cluster_size <= BATCH_BYTES)
    }

    /// One more cluster of zeros at the end.
    fn extend(&mut self, cluster_size: usize) -> Result<&mut [u8], OutOfMemory> {
        let held = self.bytes.len();
        self.bytes
            .try_reserve(cluster_size)
            .map_err(|_| OutOfMemory)?;
        self.bytes.resize(held + cluster_size, 0);
        Ok(&mut self.bytes[held..])
    }

    fn write(&mut self, geometry: &Geometry, storage: &mut dyn Storage) -> Result<(), CommitError> {
        if !self.bytes.is_empty() {
            storage.write_at(offset_of(geometry, self.first)?, &self.bytes)?;
            self.bytes.clear();
        }
        Ok(())
    }
}

fn offset_of(geometry: &Geometry, cluster: Cluster) -> Result<Offset, CommitError> {
    geometry
        .offset_of(cluster)
        .ok_or(CommitError::Unaddressable { cluster })
}
