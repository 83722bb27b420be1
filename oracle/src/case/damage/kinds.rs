//! What can become of a structure, kind by kind.
#![expect(missing_docs, reason = "the text of a variant names its fields")]

use arbitrary::Arbitrary;
use serde::{Deserialize, Serialize};

use super::find::Structures;
use crate::audit::{COMPRESSED, COPIED, OFFSET};
use crate::case::Pick;

/// What becomes of a 64-bit field that leads to a cluster: a reftable, L1, L2 or bitmap table entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PointerDamage {
    /// 0.
    Cleared,
    /// Its offset grows by `sectors` plus one of 512 bytes, modulo those of a cluster: unaligned,
    /// except where a cluster is one sector.
    Shifted { sectors: u16 },
    /// It leads `clusters` past the end of the file.
    PastEnd { clusters: u16 },
    /// It leads to another `cluster` of the file.
    Elsewhere { cluster: Pick },
    /// Bit `bit % 64` flips.
    Bit { bit: u8 },
    /// The COPIED bit, 63, flips.
    Copied,
    /// The compressed bit, 62, flips.
    Compressed,
}

impl PointerDamage {
    /// What `entry` becomes in an image with these structures.
    pub(super) fn of(self, entry: u64, found: &Structures) -> u64 {
        let offset = entry & OFFSET;
        let cluster_size = found.header.cluster_size();
        let moved = |offset: u64| entry & !OFFSET | offset & OFFSET;
        match self {
            Self::Cleared => 0,
            Self::Shifted { sectors } => {
                let most = (cluster_size / 512 - 1).max(1);
                moved(offset.wrapping_add((1 + u64::from(sectors) % most) * 512))
            }
            Self::PastEnd { clusters } => {
                moved((found.clusters() + u64::from(clusters)) * cluster_size)
            }
            Self::Elsewhere { cluster } => {
                let cluster = cluster.of(found.clusters() as usize);
                cluster.map_or(entry, |cluster| moved(cluster as u64 * cluster_size))
            }
            Self::Bit { bit } => entry ^ (1 << (bit % 64)),
            Self::Copied => entry ^ COPIED,
            Self::Compressed => entry ^ COMPRESSED,
        }
    }
}

/// What becomes of the header's reftable pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReftableDamage {
    /// Offset 0, 0 clusters.
    Gone,
    /// The offset becomes 0, the clusters stay.
    OffsetZero,
    /// The offset as any other pointer's.
    Offset(PointerDamage),
    /// The number of clusters.
    Clusters(u32),
    /// The content becomes zeros.
    Zeroed,
    /// The content becomes random bytes from `seed`.
    Random { seed: u32 },
}

/// What becomes of a refblock's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefblockDamage {
    /// Zeros.
    Zeroed,
    /// Ones in every bit: the largest refcounts.
    Ones,
    /// Random bytes from `seed`.
    Random { seed: u32 },
    /// Some refcounts become random: `seed` says which, and what.
    Scattered { seed: u32 },
    /// The content of the other `refblock`.
    CopyOf { refblock: Pick },
}

/// Which clusters a refcount is chosen among.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Among {
    /// Those with a refcount above 0.
    Allocated,
    /// Those inside the file with a refcount of 0.
    Free,
    /// Those past the end of the file that a refblock covers.
    PastEnd,
}

/// What a refcount becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum To {
    /// 0.
    Zero,
    /// One more, where the width allows.
    Up,
    /// One less, where it is not 0.
    Down,
    /// The largest of the width.
    Max,
    /// This number, cut to the width.
    Exactly(u32),
}

/// What becomes of a header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeaderDamage {
    /// Incompatible feature bit 0, dirty, is set; nothing in version 2.
    Dirty,
    /// Incompatible feature bit 1, corrupt, is set; nothing in version 2.
    Corrupt,
    /// Bit `bit % 64` of feature field `field % 3` flips (incompatible, compatible, autoclear);
    /// nothing in version 2.
    Feature { field: u8, bit: u8 },
    /// The active L1 table's offset, as any other pointer.
    L1Offset(PointerDamage),
    /// The active L1 table's entries.
    L1Entries(u32),
    /// Bit `bit % 832` of the first 104 bytes flips.
    Bit { bit: u16 },
}

/// What becomes of the snapshot table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotDamage {
    /// An entry's L1 offset, as any other pointer.
    L1Offset(PointerDamage),
    /// An entry's L1 offset grows by this many bytes.
    L1OffsetBytes(u16),
    /// An entry's L1 entries.
    L1Entries(u32),
    /// An entry's extra data size.
    ExtraData(u32),
    /// The header's number of snapshots.
    Count(u32),
    /// The header's snapshot table offset, as any other pointer.
    Table(PointerDamage),
}

/// What becomes of a bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BitmapDamage {
    /// `entry`, of its table's entries that are not 0, as any other pointer.
    TableEntry { entry: Pick, becomes: PointerDamage },
    /// The directory entry's table offset, as any other pointer.
    TableOffset(PointerDamage),
    /// The directory entry's number of table entries.
    TableEntries(u32),
    /// The directory entry's flags, of which bits 2 and up are reserved.
    Flags(u32),
    /// The extension's number of bitmaps.
    Count(u32),
    /// The extension's directory size, in bytes.
    DirectorySize(u32),
    /// The extension's directory offset, as any other pointer.
    DirectoryOffset(PointerDamage),
}
