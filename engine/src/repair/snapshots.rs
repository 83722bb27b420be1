//! Writing the snapshot table anew: without what is over a limit or blank, and with the extra data
//! that version 3 demands.
//!
//! The new table gets clusters of its own, which the rebuilt refcount structures count beside the
//! old one's; then the 12 bytes of the header that lead to it are switched, and the old table is
//! left over.

use super::RepairError;
use super::rebuild::Ground;
use crate::format::header::SNAPSHOTS_POSITION;
use crate::format::snapshot::FIXED_BYTES;
use crate::image::Image;
use crate::rebuild::lowest_free_run;
use crate::references::{Snapshot, SnapshotTable};
use crate::storage::{Storage, StorageError};
use crate::table::Run;
use crate::units::{ClusterCount, Offset};

/// Extra data as it is written now: VM state size, disk size, instruction count (8 bytes each).
const EXTRA_BYTES: usize = 24;
/// The instruction count of a snapshot that has none.
const NO_ICOUNT: u64 = u64::MAX;
const SECTOR: u64 = 512;

/// A snapshot table on its way into the image.
pub(super) struct NewSnapshotTable {
    place: Run,
    offset: Offset,
    bytes: Vec<u8>,
    /// How many snapshots it has.
    pub count: u32,
}

impl NewSnapshotTable {
    /// Lays out the table and takes clusters for it; `None` when the present one will do.
    pub fn prepare(
        image: &Image,
        storage: &dyn Storage,
        table: &SnapshotTable,
        ground: &mut Ground,
    ) -> Result<Option<Self>, RepairError> {
        if !table.is_rewritten() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        for snapshot in &table.entries {
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            append_entry(image, storage, snapshot, &mut bytes)?;
        }
        let geometry = image.geometry();
        let count = table.entries.len() as u32;
        let clusters = geometry.clusters_for(bytes.len() as u64);
        let place = if clusters == ClusterCount(0) {
            Run::new(crate::units::Cluster(0), clusters)
        } else {
            lowest_free_run(&ground.input(), clusters)?
        };
        ground.take(place)?;
        let offset = Offset(place.first.0 << geometry.cluster_bits());
        Ok(Some(Self {
            place,
            offset,
            bytes,
            count,
        }))
    }

    /// Writes the table where nothing leads to it yet, and makes it durable.
    pub fn write(&self, image: &Image, storage: &mut dyn Storage) -> Result<(), StorageError> {
        let length = self.place.count.0 << image.geometry().cluster_bits();
        let mut bytes = self.bytes.clone();
        bytes.resize(length as usize, 0);
        if !bytes.is_empty() {
            storage.write_at(self.offset, &bytes)?;
        }
        storage.flush()
    }

    /// Lets the header lead to it.
    pub fn switch(&self, storage: &mut dyn Storage) -> Result<(), StorageError> {
        let mut pointer = [0; 12];
        pointer[..4].copy_from_slice(&self.count.to_be_bytes());
        pointer[4..].copy_from_slice(&self.offset.0.to_be_bytes());
        storage.write_at(Offset(SNAPSHOTS_POSITION), &pointer)?;
        storage.flush()
    }
}

/// Lets the header name no more snapshots than there are.
pub(super) fn set_count(storage: &mut dyn Storage, count: u32) -> Result<(), StorageError> {
    storage.write_at(Offset(SNAPSHOTS_POSITION), &count.to_be_bytes())?;
    storage.flush()
}

/// Appends an entry with complete extra data.
fn append_entry(
    image: &Image,
    storage: &dyn Storage,
    snapshot: &Snapshot,
    bytes: &mut Vec<u8>,
) -> Result<(), RepairError> {
    let entry = &snapshot.entry;
    let mut fixed = [0; FIXED_BYTES as usize];
    storage.read_at(entry.position, &mut fixed)?;
    let kept = snapshot.extra_data_kept as usize;
    let mut extra = vec![0; kept.max(EXTRA_BYTES)];
    storage.read_at(Offset(entry.position.0 + FIXED_BYTES), &mut extra[..kept])?;
    // What is missing gets the value that its absence stands for.
    let vm_state_size = u64::from(u32::from_be_bytes([
        fixed[32], fixed[33], fixed[34], fixed[35],
    ]));
    let disk_size = image.header.size / SECTOR * SECTOR;
    let defaults = [vm_state_size, disk_size, NO_ICOUNT];
    for (field, default) in defaults.iter().enumerate() {
        let position = field * 8;
        if kept < position + 8 {
            extra[position..position + 8].copy_from_slice(&default.to_be_bytes());
        }
    }
    fixed[36..40].copy_from_slice(&(extra.len() as u32).to_be_bytes());
    let mut names = vec![0; usize::from(entry.id_size) + usize::from(entry.name_size)];
    let names_at = entry.position.0 + FIXED_BYTES + u64::from(entry.extra_data_size);
    storage.read_at(Offset(names_at), &mut names)?;
    bytes.extend_from_slice(&fixed);
    bytes.extend_from_slice(&extra);
    bytes.extend_from_slice(&names);
    Ok(())
}
