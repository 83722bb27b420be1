//! The refcount structure of an image, byte for byte, to compare two rebuilds.

use itertools::Itertools as _;
use serde::{Deserialize, Serialize};

use crate::case::damage::SparseBytes;
use crate::case::damage::find::{Structures, structures};

/// Everything that a rebuild writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// The header's pointer: offset and clusters.
    reftable: (u64, u32),
    /// The reftable's entries that are not 0, in order.
    refblocks: Vec<Refblock>,
}

/// A reftable entry and what it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Refblock {
    /// The entry's index.
    index: usize,
    /// The entry.
    entry: u64,
    /// The checksum of the refblock's content.
    crc: u32,
}

impl Layout {
    /// Reads it; `None` when there is no header.
    pub fn read(image: &SparseBytes) -> Option<Self> {
        let Structures {
            header, reftable, ..
        } = structures(image)?;
        let size = header.cluster_size() as usize;
        let used = reftable.iter().enumerate();
        let used = used.filter(|(_, entry)| entry.value != 0);
        let refblocks = used.map(|(index, entry)| {
            let content = image.bytes(entry.value, size);
            Refblock {
                index,
                entry: entry.value,
                crc: crc32fast::hash(&content),
            }
        });
        Some(Self {
            reftable: (header.reftable_offset, header.reftable_clusters as u32),
            refblocks: refblocks.collect(),
        })
    }

    /// The first difference, in words.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let mut lines = self.lines().zip_longest(other.lines());
        let pair = lines.find(|pair| {
            pair.as_ref()
                .both()
                .is_none_or(|(ours, theirs)| ours != theirs)
        })?;
        let (ours, theirs) = pair.or_else(|| "nothing".to_owned(), || "nothing".to_owned());
        Some(format!("{ours}, against {theirs}"))
    }

    /// The pointer and then each entry, in words.
    fn lines(&self) -> impl Iterator<Item = String> {
        let (offset, clusters) = self.reftable;
        let pointer = format!("reftable at {offset:#x}, {clusters} clusters");
        let refblocks = self.refblocks.iter().map(|Refblock { index, entry, crc }| {
            format!("reftable entry {index}, {entry:#x}, to a refblock with checksum {crc:#x}")
        });
        std::iter::once(pointer).chain(refblocks)
    }
}
