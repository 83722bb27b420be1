//! The refcount structure of an image, byte for byte, to compare two rebuilds.

use serde::{Deserialize, Serialize};

use crate::case::damage::SparseBytes;
use crate::case::damage::find::structures;

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
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Refblock {
    /// The entry's index.
    index: usize,
    /// The entry.
    entry: u64,
    /// The checksum of the refblock's content.
    crc: u32,
    /// The content, which is not recorded.
    #[serde(skip)]
    content: Vec<u8>,
}

impl PartialEq for Refblock {
    fn eq(&self, other: &Self) -> bool {
        (self.index, self.entry, self.crc) == (other.index, other.entry, other.crc)
    }
}

impl Eq for Refblock {}

impl Layout {
    /// Reads it; `None` when there is no header.
    #[must_use]
    pub fn read(image: &SparseBytes) -> Option<Self> {
        let found = structures(image)?;
        let size = found.cluster_size() as usize;
        let used = found.reftable_entries.iter().enumerate();
        let used = used.filter(|(_, entry)| entry.value != 0);
        let refblocks = used.map(|(index, entry)| {
            let content = image.bytes(entry.value, size);
            Refblock {
                index,
                entry: entry.value,
                crc: crc32fast::hash(&content),
                content,
            }
        });
        Some(Self {
            reftable: found.reftable,
            refblocks: refblocks.collect(),
        })
    }

    /// The first difference, in words.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<String> {
        let ((offset, clusters), (their_offset, their_clusters)) = (self.reftable, other.reftable);
        if self.reftable != other.reftable {
            return Some(format!(
                "reftable at {offset:#x}, {clusters} clusters, \
                 against {their_offset:#x}, {their_clusters}"
            ));
        }
        let (ours, theirs) = (self.refblocks.len(), other.refblocks.len());
        let mut pairs = self.refblocks.iter().zip(&other.refblocks);
        match pairs.find(|(ours, theirs)| ours != theirs) {
            Some((ours, theirs)) => Some(ours.difference(theirs)),
            None if ours != theirs => Some(format!("{ours} refblocks against {theirs}")),
            None => None,
        }
    }
}

impl Refblock {
    fn difference(&self, other: &Self) -> String {
        if (self.index, self.entry) != (other.index, other.entry) {
            return format!(
                "reftable entry {} is {:#x}, against entry {}, {:#x}",
                self.index, self.entry, other.index, other.entry
            );
        }
        let mut bytes = self.content.iter().zip(&other.content);
        match bytes.position(|(ours, theirs)| ours != theirs) {
            Some(byte) => format!(
                "refblock {} differs from byte {byte} on: {:#x} against {:#x}",
                self.index, self.content[byte], other.content[byte]
            ),
            None => format!(
                "refblock {} differs: checksum {:#x} against {:#x}",
                self.index, self.crc, other.crc
            ),
        }
    }
}
