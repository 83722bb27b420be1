//! Writing new refcount structures for models of an image, which have nothing but counts.

use super::{Algorithm, Layout};
use crate::storage::{Storage, StorageError};
use crate::table::{OutOfMemory, RefcountTable, Run};

/// Why a layout could not be written. The header then still leads to the old structures, unless
/// the flush after the switch is what failed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Memory ran out.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// Writes a layout that was planned by `algorithm` from `references` alone, and switches to it, in the
/// order that survives a power cut. A repair does the same as part of its plan.
pub fn commit(
    algorithm: Algorithm,
    layout: &Layout,
    references: &RefcountTable,
    storage: &mut dyn Storage,
) -> Result<(), CommitError> {
    let geometry = references.geometry();
    let mut counts = references.clone();
    for cluster in layout.allocated().runs().iter().flat_map(Run::iter) {
        counts.set(cluster, 1)?;
    }
    let mut bytes = Vec::new();
    for batch in layout.batches(geometry) {
        let offset = layout.encode_batch(batch, &counts, &mut bytes)?;
        storage.write_at(offset, &bytes)?;
    }
    for (offset, bytes) in layout.encode_reftable(geometry)? {
        storage.write_at(offset, &bytes)?;
    }
    // QEMU has no flush there (observed with qemu-img 5.2 to 11.1).
    if algorithm == Algorithm::Planned {
        storage.flush()?;
    }
    let pointer = layout.pointer(geometry);
    storage.write_at(geometry.reftable_pointer_offset(), &pointer)?;
    Ok(storage.flush()?)
}
