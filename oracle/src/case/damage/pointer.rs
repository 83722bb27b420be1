//! What becomes of a 64-bit field that leads to a cluster: a reftable, L1, L2 or bitmap table
//! entry.

use arbitrary::Arbitrary;
use serde::{Deserialize, Serialize};

use super::find::{COMPRESSED, COPIED, OFFSET_BITS, Structures};
use crate::case::Pick;

/// What becomes of an entry that leads to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the text of a variant names its fields")]
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
        let offset = entry & OFFSET_BITS;
        let cluster_size = found.cluster_size();
        let moved = |offset: u64| entry & !OFFSET_BITS | offset & OFFSET_BITS;
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
