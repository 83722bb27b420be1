//! What becomes of the snapshot table.
//!
//! A new table gets clusters of its own and all its entries the extra data that version 3 demands;
//! the header's fields that lead to it are written together with those that lead to the reftable.

use super::make::Draft;
use super::{RepairError, Scope};
use crate::format::snapshot::{FIXED_BYTES, SnapshotEntry};
use crate::image::Image;
use crate::references::{CheckError, SnapshotRefusal};
use crate::step::Step;
use crate::storage::Storage;
use crate::table::Run;
use crate::units::{Offset, Region};

/// Extra data as it is written now: VM state size, disk size, instruction count (8 bytes each).
const EXTRA_BYTES: usize = 24;
/// The instruction count of a snapshot that has none.
const NO_ICOUNT: u64 = u64::MAX;
const SECTOR: u64 = 512;

/// What a repair does about the snapshot table: the header names so many snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remedy {
    pub snapshots: u32,
    /// Whether the table is written anew.
    pub rewrites: bool,
}

impl Remedy {
    pub const fn step(self) -> Step {
        if self.rewrites {
            Step::RewroteSnapshotTable(self.snapshots)
        } else {
            Step::ShortenedSnapshotTable(self.snapshots)
        }
    }
}

impl Draft<'_> {
    /// Decides. Something is given up only where that was asked for, and nothing is changed while it
    /// may be what shows that something is damaged. An error where a check gives up and this does not
    /// help.
    pub(super) fn remedy(&self) -> Result<Option<Remedy>, RepairError> {
        let header = &self.image.header;
        let table = &self.look.references.snapshots;
        if table.at_header {
            let snapshots = header.nb_snapshots;
            let offset = table.region.offset;
            return Err(CheckError::SnapshotsInHeader { snapshots, offset }.into());
        }
        let gives_up = self.options.release_unreachable;
        let may_change = self.options.scope == Scope::All && !self.keeps && !table.past_end;
        let is_mended = |refusal: &SnapshotRefusal| match refusal {
            SnapshotRefusal::ExtraData { .. } => may_change,
            SnapshotRefusal::Nonsense { .. } => false,
            _ => may_change && gives_up,
        };
        if let Some(refusal) = table.refusal.filter(|refusal| !is_mended(refusal)) {
            return Err(CheckError::from(refusal).into());
        }
        let entries = if gives_up {
            table.worth_keeping()
        } else {
            &table.entries
        };
        let rewrites = entries
            .iter()
            .any(|entry| entry.is_misshapen(header.version));
        let snapshots = entries.len() as u32;
        let is_due = may_change && (rewrites || snapshots < header.nb_snapshots);
        Ok(is_due.then_some(Remedy {
            snapshots,
            rewrites,
        }))
    }

    /// The clusters that the snapshot table takes up no more.
    pub(super) fn released_by_remedy(&self) -> Run {
        let table = &self.look.references.snapshots;
        let left = match self.remedy {
            None => table.region.length,
            Some(Remedy { rewrites: true, .. }) => 0,
            Some(Remedy { snapshots, .. }) => table.length_of(snapshots as usize),
        };
        let offset = table.region.offset;
        let clusters = |length| Region { offset, length }.clusters(self.image.geometry());
        let (all, left) = (clusters(table.region.length), clusters(left));
        Run::new(left.end(), all.end().since(left.end()))
    }
}

/// The bytes of a table with these snapshots, each with complete extra data.
pub(super) fn bytes_of(
    image: &Image,
    storage: &dyn Storage,
    snapshots: &[SnapshotEntry],
) -> Result<Vec<u8>, RepairError> {
    let mut bytes = Vec::new();
    for snapshot in snapshots {
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let entry = entry_bytes(image, storage, snapshot)?;
        bytes.try_reserve(entry.len())?;
        bytes.extend(entry);
    }
    Ok(bytes)
}

fn entry_bytes(
    image: &Image,
    storage: &dyn Storage,
    entry: &SnapshotEntry,
) -> Result<Vec<u8>, RepairError> {
    let fixed = FIXED_BYTES as usize;
    let kept = entry.extra_data_kept() as usize;
    let mut bytes = vec![0; fixed + kept];
    storage.read_at(entry.position, &mut bytes)?;
    if kept < EXTRA_BYTES {
        // What is missing gets the value that its absence stands for.
        let vm_state_size = u32::from_be_bytes([bytes[32], bytes[33], bytes[34], bytes[35]]);
        let disk_size = image.header.size / SECTOR * SECTOR;
        let fields = [vm_state_size.into(), disk_size, NO_ICOUNT].map(u64::to_be_bytes);
        let whole = kept / 8 * 8;
        bytes.truncate(fixed + whole);
        bytes.extend_from_slice(&fields.as_flattened()[whole..]);
    }
    let extra_bytes = (bytes.len() - fixed) as u32;
    bytes[36..40].copy_from_slice(&extra_bytes.to_be_bytes());
    let names = bytes.len();
    let length = usize::from(entry.id_size) + usize::from(entry.name_size);
    bytes.resize(names + length, 0);
    let names_at = entry.position.0 + FIXED_BYTES + u64::from(entry.extra_data_size);
    storage.read_at(Offset(names_at), &mut bytes[names..])?;
    Ok(bytes)
}
