//! The refcount structure of an image, byte for byte, to compare two rebuilds.

use std::collections::BTreeMap;

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::damage::find::structures;

/// Everything that a rebuild writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The header's pointer: offset and clusters.
    pub reftable: (u64, u32),
    /// The reftable's entries that are not 0, by index.
    pub entries: BTreeMap<usize, u64>,
    /// The content of each refblock, by index.
    refblocks: BTreeMap<usize, Vec<u8>>,
}

impl Layout {
    /// Reads it; `None` when there is no header.
    pub fn read(image: &SparseBytes) -> Option<Self> {
        let found = structures(image).ok().flatten()?;
        let mut layout = Self {
            reftable: found.reftable,
            entries: BTreeMap::new(),
            refblocks: BTreeMap::new(),
        };
        let size = usize::try_from(found.cluster_size()).ok()?;
        for (index, entry) in found.reftable_entries.iter().enumerate() {
            if entry.value == 0 {
                continue;
            }
            layout.entries.insert(index, entry.value);
            if found.is_table(entry.value) {
                let content = image.bytes(entry.value, size);
                layout.refblocks.insert(index, content);
            }
        }
        Some(layout)
    }

    /// The first difference, in words.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self.reftable != other.reftable {
            let (ours, theirs) = (self.reftable, other.reftable);
            return Some(format!(
                "reftable at {:#x}, {} clusters, against {:#x}, {}",
                ours.0, ours.1, theirs.0, theirs.1
            ));
        }
        let entry = |layout: &Self, index| layout.entries.get(&index).copied().unwrap_or(0);
        let all = self.entries.keys().chain(other.entries.keys()).copied();
        for index in all {
            let (ours, theirs) = (entry(self, index), entry(other, index));
            if ours != theirs {
                return Some(format!(
                    "reftable entry {index} is {ours:#x} against {theirs:#x}"
                ));
            }
            if self.refblocks.get(&index) != other.refblocks.get(&index) {
                return Some(self.refblock_difference(other, index));
            }
        }
        None
    }

    fn refblock_difference(&self, other: &Self, index: usize) -> String {
        let none = Vec::new();
        let ours = self.refblocks.get(&index).unwrap_or(&none);
        let theirs = other.refblocks.get(&index).unwrap_or(&none);
        let mut pairs = ours.iter().zip(theirs);
        let byte = pairs.position(|(ours, theirs)| ours != theirs);
        let byte = byte.unwrap_or_default();
        let at = |bytes: &[u8]| bytes.get(byte).copied().unwrap_or_default();
        let (ours, theirs) = (at(ours), at(theirs));
        format!("refblock {index} differs from byte {byte} on: {ours:#x} against {theirs:#x}")
    }
}
