//! What is done to an image before anyone repairs it.
//!
//! An act of damage names a kind of structure and, by [`Pick`], one of however many the image has;
//! [`apply`] finds it in the bytes and reports every byte that it changed.

mod act;
pub mod bytes;
pub mod find;
mod kinds;
mod random;
#[cfg(test)]
mod tests;

use arbitrary::Arbitrary;
use serde::{Deserialize, Serialize};

use super::Pick;
pub use bytes::SparseBytes;
pub use kinds::{
    Among, BitmapDamage, HeaderDamage, PointerDamage, RefblockDamage, ReftableDamage,
    SnapshotDamage, To,
};
pub use random::random_damage;

/// One act of damage. Structures are chosen among those that the image has; entries among those
/// that are not 0.
#[derive(Clone, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the text of a variant names its fields")]
pub enum Damage {
    /// The header's reftable pointer.
    Reftable(ReftableDamage),
    /// `entry` of the reftable.
    ReftableEntry { entry: Pick, becomes: PointerDamage },
    /// The content of `refblock`.
    Refblock {
        refblock: Pick,
        becomes: RefblockDamage,
    },
    /// The refcount of `cluster`, chosen `among` some.
    Refcount { among: Among, cluster: Pick, to: To },
    /// `entry` of an L1 `table`, the active one or a snapshot's.
    L1Entry {
        table: Pick,
        entry: Pick,
        becomes: PointerDamage,
    },
    /// `entry` of any L2 table.
    L2Entry { entry: Pick, becomes: PointerDamage },
    /// The offset and sector count in a compressed cluster's L2 `entry`: bit `bit % 62` flips.
    Compressed { entry: Pick, bit: u8 },
    /// The subcluster bitmap of an L2 `entry`: the subclusters that become `allocated` and `zero`;
    /// nothing without extended L2.
    Subclusters {
        entry: Pick,
        allocated: u32,
        zero: u32,
    },
    /// The snapshot table, or its entry for `snapshot`.
    Snapshot {
        snapshot: Pick,
        becomes: SnapshotDamage,
    },
    /// The bitmaps, or `bitmap`.
    Bitmap { bitmap: Pick, becomes: BitmapDamage },
    /// The header's other fields.
    Header(HeaderDamage),
    /// The file ends early: `bytes` and whole `clusters` are gone, modulo its length.
    Truncated { clusters: u8, bytes: u16 },
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
        applied: Applied::default(),
    };
    let _ = pen.act(damage);
    pen.applied
}
