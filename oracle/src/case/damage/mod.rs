//! What is done to an image before anyone repairs it.
//!
//! An act of damage names a kind of structure and, by [`Pick`], one of however many the image has;
//! [`apply`] finds it in the bytes and reports every byte that it changed.

mod act;
pub mod bytes;
pub mod find;
mod kinds;
mod pointer;
mod random;
#[cfg(test)]
mod tests;

use arbitrary::Arbitrary;
use serde::{Deserialize, Serialize};

use super::Pick;
pub use bytes::SparseBytes;
pub use kinds::{
    Among, BitmapDamage, HeaderDamage, RefblockDamage, ReftableDamage, SnapshotDamage, To,
};
pub use pointer::PointerDamage;
pub use random::random_damage;

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

/// Does the damage. The same damage to the same bytes gives the same bytes.
pub fn apply(image: &mut SparseBytes, damage: &Damage) -> Applied {
    let Some(found) = find::structures(image) else {
        return Applied::default();
    };
    let mut pen = act::Pen {
        image,
        found: &found,
        changes: Vec::new(),
    };
    let _ = pen.act(damage);
    let changes = pen.changes;
    Applied { changes }
}
