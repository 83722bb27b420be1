//! What is done to an image before anyone repairs it.
//!
//! An act of damage names a kind of structure and, by [`Pick`], one of however many the image has;
//! [`apply`] finds it in the bytes and reports every byte that it changed.

pub mod bytes;
pub mod find;
mod header;
mod mapping;
mod pointer;
mod random;
mod refcounts;
mod snapshots;
#[cfg(test)]
mod tests;

use std::io;

use arbitrary::Arbitrary;
use serde::{Deserialize, Serialize};

use super::Pick;
pub use bytes::{ReadWriteAt, SparseBytes};
use find::Structures;
pub use header::HeaderDamage;
pub use pointer::PointerDamage;
pub use random::random_damage;
pub use refcounts::{Among, RefblockDamage, ReftableDamage, To};
pub use snapshots::{BitmapDamage, SnapshotDamage};

/// One act of damage.
#[derive(Clone, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damage {
    /// The header's reftable pointer.
    Reftable(ReftableDamage),
    /// A reftable entry.
    ReftableEntry {
        /// Which of the entries that are not 0.
        entry: Pick,
        /// What becomes of it.
        becomes: PointerDamage,
    },
    /// The content of a refblock.
    Refblock {
        /// Which.
        refblock: Pick,
        /// What becomes of it.
        becomes: RefblockDamage,
    },
    /// The refcount of a cluster.
    Refcount {
        /// Which clusters it is chosen among.
        among: Among,
        /// Which of these.
        cluster: Pick,
        /// What it becomes.
        to: To,
    },
    /// An entry of an L1 table, the active one's or a snapshot's.
    L1Entry {
        /// Which of the tables.
        table: Pick,
        /// Which of the entries that are not 0.
        entry: Pick,
        /// What becomes of it.
        becomes: PointerDamage,
    },
    /// An entry of an L2 table.
    L2Entry {
        /// Which of the entries that are not 0.
        entry: Pick,
        /// What becomes of it.
        becomes: PointerDamage,
    },
    /// The offset and sector count of a compressed cluster's L2 entry.
    Compressed {
        /// Which of the compressed clusters.
        entry: Pick,
        /// Bit of the entry that flips, modulo 62.
        bit: u8,
    },
    /// The subcluster bitmap of an L2 entry; nothing without extended L2.
    Subclusters {
        /// Which of the entries that are not 0.
        entry: Pick,
        /// The subclusters that become allocated.
        allocated: u32,
        /// The subclusters that become zero.
        zero: u32,
    },
    /// The snapshot table.
    Snapshot {
        /// Which of the entries.
        snapshot: Pick,
        /// What becomes of it.
        becomes: SnapshotDamage,
    },
    /// The bitmaps.
    Bitmap {
        /// Which of the bitmaps.
        bitmap: Pick,
        /// What becomes of it.
        becomes: BitmapDamage,
    },
    /// The header's other fields.
    Header(HeaderDamage),
    /// The file ends early: this many bytes of its last clusters, modulo its length, are gone.
    Truncated {
        /// Whole clusters cut off.
        clusters: u8,
        /// Bytes cut off besides.
        bytes: u16,
    },
}

/// Bytes that damage replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Byte position.
    pub at: u64,
    /// What was there.
    pub before: Vec<u8>,
    /// What is there now; empty where the file was cut.
    pub after: Vec<u8>,
}

/// What an act of damage changed; nothing when the image has no such structure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// In the order in which it was done.
    pub changes: Vec<Change>,
}

impl Applied {
    /// Whether the image is as it was.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.changes
            .iter()
            .all(|change| change.before == change.after)
    }
}

/// Damage could not be done because the image could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot damage the image: {0}")]
pub struct DamageError(#[from] pub io::Error);

/// Does the damage. The same damage to the same bytes gives the same bytes.
pub fn apply(image: &mut dyn ReadWriteAt, damage: &Damage) -> Result<Applied, DamageError> {
    let mut applied = Applied::default();
    let Some(found) = find::structures(image)? else {
        return Ok(applied);
    };
    let mut pen = Pen {
        image,
        found: &found,
        applied: &mut applied,
    };
    match damage {
        Damage::Reftable(how) => refcounts::reftable(&mut pen, *how),
        Damage::ReftableEntry { entry, becomes } => {
            refcounts::reftable_entry(&mut pen, *entry, *becomes)
        }
        Damage::Refblock { refblock, becomes } => {
            refcounts::refblock(&mut pen, *refblock, *becomes)
        }
        Damage::Refcount { among, cluster, to } => {
            refcounts::refcount(&mut pen, *among, *cluster, *to)
        }
        Damage::L1Entry {
            table,
            entry,
            becomes,
        } => mapping::l1_entry(&mut pen, *table, *entry, *becomes),
        Damage::L2Entry { entry, becomes } => mapping::l2_entry(&mut pen, *entry, *becomes),
        Damage::Compressed { entry, bit } => mapping::compressed(&mut pen, *entry, *bit),
        Damage::Subclusters {
            entry,
            allocated,
            zero,
        } => mapping::subclusters(&mut pen, *entry, *allocated, *zero),
        Damage::Snapshot { snapshot, becomes } => {
            snapshots::snapshot(&mut pen, *snapshot, *becomes)
        }
        Damage::Bitmap { bitmap, becomes } => snapshots::bitmap(&mut pen, *bitmap, becomes),
        Damage::Header(how) => header::header(&mut pen, *how),
        Damage::Truncated { clusters, bytes } => pen.truncate(*clusters, *bytes),
    }?;
    Ok(applied)
}

/// Writes into the image and keeps what was there.
struct Pen<'a> {
    image: &'a mut dyn ReadWriteAt,
    found: &'a Structures,
    applied: &'a mut Applied,
}

impl Pen<'_> {
    /// Replaces bytes; never makes the file longer.
    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let room = self.image.len().saturating_sub(at);
        let bytes = &bytes[..bytes.len().min(bytes::in_memory(room))];
        if bytes.is_empty() {
            return Ok(());
        }
        let mut before = vec![0; bytes.len()];
        self.image.read_at(at, &mut before)?;
        self.image.write_at(at, bytes)?;
        let after = bytes.to_vec();
        self.applied.changes.push(Change { at, before, after });
        Ok(())
    }

    fn write_be32(&mut self, at: u64, field: u32) -> io::Result<()> {
        self.write(at, &field.to_be_bytes())
    }

    fn write_be64(&mut self, at: u64, field: u64) -> io::Result<()> {
        self.write(at, &field.to_be_bytes())
    }

    fn truncate(&mut self, clusters: u8, odd_bytes: u16) -> io::Result<()> {
        let length = self.image.len();
        let cut = u64::from(clusters) * self.found.cluster_size() + u64::from(odd_bytes);
        let Some(cut) = cut.checked_rem(length) else {
            return Ok(());
        };
        let mut before = vec![0; bytes::in_memory(cut)];
        let at = length - cut;
        self.image.read_at(at, &mut before)?;
        self.image.set_len(at)?;
        let after = Vec::new();
        self.applied.changes.push(Change { at, before, after });
        Ok(())
    }
}
