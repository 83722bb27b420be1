//! What becomes of the snapshot table.
//!
//! A new table gets clusters of its own and all its entries the extra data that version 3 demands;
//! the header's fields that lead to it are written together with those that lead to the reftable.

use super::{RepairError, RepairOptions, Scope};
use crate::check::CheckError;
use crate::format::snapshot::{FIXED_BYTES, SnapshotEntry};
use crate::image::Image;
use crate::references::{Region, SnapshotRefusal, SnapshotTable, WalkError};
use crate::storage::Storage;
use crate::units::{Cluster, Offset};

/// Extra data as it is written now: VM state size, disk size, instruction count (8 bytes each).
const EXTRA_BYTES: usize = 24;
/// The instruction count of a snapshot that has none.
const NO_ICOUNT: u64 = u64::MAX;
const SECTOR: u64 = 512;

/// What a repair does about the snapshot table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nothing.
    None,
    /// The header names fewer snapshots: so many.
    Shorten(usize),
    /// It is written anew, with so many snapshots.
    Rewrite(usize),
}

impl Remedy {
    /// Whether the table calls for one, so that it has to be known what else is damaged.
    pub fn is_due(table: &SnapshotTable, options: &RepairOptions) -> bool {
        options.scope == Scope::All
            && (table.corruptions > 0 || table.refusal.is_some() || options.release_unreachable)
    }

    /// Decides. Something is given up only where that was asked for, and nothing is changed while it
    /// may be what shows that something is damaged. An error where a check gives up and this does not
    /// help.
    pub fn of(
        image: &Image,
        table: &SnapshotTable,
        options: &RepairOptions,
        is_sound: bool,
    ) -> Result<Self, RepairError> {
        if table.at_header {
            let snapshots = image.header.nb_snapshots;
            let offset = table.offset;
            let error = WalkError::SnapshotsInHeader { snapshots, offset };
            return Err(CheckError::from(error).into());
        }
        let released = options.release_unreachable && options.scope == Scope::All;
        let may_rewrite = options.scope == Scope::All && (is_sound || released);
        let mends = match table.refusal {
            None => true,
            Some(SnapshotRefusal::ExtraData { .. }) => may_rewrite,
            Some(SnapshotRefusal::Nonsense { .. }) => false,
            Some(_) => released,
        };
        let untouched = table.past_end || !may_rewrite;
        if let Some(refusal) = table.refusal.filter(|_| !mends || untouched) {
            return Err(CheckError::from(WalkError::from(refusal)).into());
        }
        if untouched {
            return Ok(Self::None);
        }
        let entries = if released {
            table.worth_keeping()
        } else {
            &table.entries
        };
        let named = image.header.nb_snapshots as usize;
        Ok(
            if entries
                .iter()
                .any(|entry| entry.is_misshapen(image.header.version))
            {
                Self::Rewrite(entries.len())
            } else if entries.len() < named {
                Self::Shorten(entries.len())
            } else {
                Self::None
            },
        )
    }
}

impl Remedy {
    /// The clusters that the table takes up no more.
    pub fn released(&self, image: &Image, table: &SnapshotTable) -> Vec<Cluster> {
        let left = match *self {
            Self::None => return Vec::new(),
            Self::Shorten(snapshots) => table.length_of(snapshots),
            Self::Rewrite(_) => 0,
        };
        let clusters = |length: u64| {
            let offset = table.offset;
            Region { offset, length }.clusters(image.geometry())
        };
        let after = clusters(left);
        let before = clusters(table.length).iter();
        before.filter(|cluster| !after.contains(*cluster)).collect()
    }
}

/// The bytes of a table with these snapshots.
pub(super) fn bytes_of(
    image: &Image,
    storage: &dyn Storage,
    snapshots: &[SnapshotEntry],
) -> Result<Vec<u8>, RepairError> {
    let mut bytes = Vec::new();
    for snapshot in snapshots {
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        append_entry(image, storage, snapshot, &mut bytes)?;
    }
    Ok(bytes)
}

/// Appends an entry with complete extra data.
fn append_entry(
    image: &Image,
    storage: &dyn Storage,
    entry: &SnapshotEntry,
    bytes: &mut Vec<u8>,
) -> Result<(), RepairError> {
    let mut fixed = [0; FIXED_BYTES as usize];
    storage.read_at(entry.position, &mut fixed)?;
    let kept = entry.extra_data_kept() as usize;
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
    bytes.try_reserve(fixed.len() + extra.len() + names.len())?;
    bytes.extend_from_slice(&fixed);
    bytes.extend_from_slice(&extra);
    bytes.extend_from_slice(&names);
    Ok(())
}
