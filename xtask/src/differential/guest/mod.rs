//! What the guest sees, of the active layer and of every snapshot: a fingerprint of each cluster
//! that the image holds, read by this module's own walk. Compressed and encrypted clusters are
//! compared as stored; they read the same when the stored bytes are the same.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::damage::find::{
    COMPRESSED, Entry, L1Table, OFFSET_BITS, Structures, structures,
};

/// Byte positions of the header's number of snapshots and their table's offset (specification,
/// "Header").
const SNAPSHOTS: u64 = 60;
const SNAPSHOTS_OFFSET: u64 = 64;
/// Bit 0 of an L2 entry: reads as zeros (specification, "Standard Cluster Descriptor").
const ZERO: u64 = 1;

/// The subcluster bitmap of a cluster that is stored as a whole.
const ALL_SUBCLUSTERS: u64 = 0xffff_ffff;

/// One cluster of the guest's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Reads as zeros.
    Zeros,
    /// The fingerprint of stored bytes.
    Stored(u64),
    /// Where in the external data file it lies.
    External(u64),
    /// Its entry leads nowhere, or to a cluster that holds a structure of the image too.
    Unreadable,
}

/// A layer: the active one (`None`) or that of a snapshot, by its place in the snapshot table.
type Layer = Option<usize>;

/// What the guest sees. Clusters that the image does not hold are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestData {
    layers: BTreeMap<Layer, BTreeMap<u64, Content>>,
}

impl GuestData {
    /// Reads the image; nothing when it has no header.
    pub fn read(image: &SparseBytes) -> Self {
        let found = structures(image);
        found.map_or_else(Self::default, |found| Reader::new(image, &found).read())
    }

    /// How many clusters can be read.
    pub fn readable(&self) -> usize {
        let all = self.layers.values().flat_map(BTreeMap::values);
        all.filter(|&&content| content != Content::Unreadable)
            .count()
    }

    /// Whether the image holds a cluster of the active layer.
    pub fn is_mapped(&self, cluster: u64) -> bool {
        let active = self.layers.get(&None);
        active.is_some_and(|clusters| clusters.contains_key(&cluster))
    }

    /// Whether these bytes are stored for a cluster of the active layer, all of it, as far as that can
    /// be read here.
    pub fn holds(&self, cluster: u64, bytes: &[u8]) -> bool {
        let all_subclusters = [bytes, &ALL_SUBCLUSTERS.to_be_bytes()].concat();
        let whole = [bytes, &all_subclusters].map(|stored| Content::Stored(fingerprint(stored)));
        let active = self.layers.get(&None);
        let found = active.and_then(|clusters| clusters.get(&cluster));
        found.is_some_and(|content| whole.contains(content) || *content == Content::Unreadable)
    }

    /// The first cluster that can be read here and reads otherwise in `other`, in words.
    pub fn first_loss(&self, other: &Self) -> Option<String> {
        let all = self.layers.iter();
        let mut all = all.flat_map(|(layer, clusters)| clusters.iter().map(move |it| (layer, it)));
        all.find_map(|(layer, (cluster, &was))| {
            let now = other
                .layers
                .get(layer)
                .and_then(|clusters| clusters.get(cluster));
            let layer = match layer {
                Some(index) => format!("snapshot {index}"),
                None => "the active layer".to_owned(),
            };
            (was != Content::Unreadable && now != Some(&was))
                .then(|| format!("guest cluster {cluster} of {layer} was {was:x?} and is {now:x?}"))
        })
    }
}

struct Reader<'a> {
    image: &'a SparseBytes,
    found: &'a Structures,
    /// Host clusters that hold structures: a repair may write there.
    structures: BTreeSet<u64>,
    /// Those of them that hold something besides an L2 table.
    besides_l2: BTreeSet<u64>,
}

impl<'a> Reader<'a> {
    fn new(image: &'a SparseBytes, found: &'a Structures) -> Self {
        let mut reader = Self {
            image,
            found,
            structures: BTreeSet::from([0]),
            besides_l2: BTreeSet::new(),
        };
        let (reftable, clusters) = found.reftable;
        let length = u64::from(clusters).saturating_mul(found.cluster_size());
        reader.add(reftable, length.min(found.length));
        for (_, refblock) in found.refblocks() {
            reader.add(refblock.value, 1);
        }
        // A snapshot without a table has an offset all the same.
        let is_there = |table: &&L1Table| {
            let snapshot = table.snapshot.and_then(|index| found.snapshots.get(index));
            snapshot.is_none_or(|entry| image.number(entry + 8, 4) > 0)
        };
        for table in found.l1_tables.iter().filter(is_there) {
            let last = table
                .entries
                .last()
                .map_or(0, |entry| entry.at - table.offset);
            reader.add(table.offset, last + 8);
        }
        // Also where the file ends before the first entry does, and a repair may make it longer.
        if image.number(SNAPSHOTS, 4) > 0 {
            reader.add(image.number(SNAPSHOTS_OFFSET, 8), 1);
        }
        for &snapshot in &found.snapshots {
            reader.add(snapshot, 64);
        }
        for bitmap in &found.bitmaps {
            reader.add(bitmap.at, 1);
            for entry in &bitmap.entries {
                reader.add(entry.at, 1);
                reader.add(entry.value & OFFSET_BITS, 1);
            }
        }
        reader.besides_l2 = reader.structures.clone();
        for entry in found.l1_tables.iter().flat_map(|table| &table.entries) {
            reader.add(entry.value & OFFSET_BITS, 1);
        }
        reader
    }

    fn add(&mut self, offset: u64, length: u64) {
        let bits = self.found.cluster_bits;
        let last = offset.saturating_add(length.max(1) - 1) >> bits;
        self.structures.extend(offset >> bits..=last);
    }

    fn read(&self) -> GuestData {
        let layers = self.found.l1_tables.iter();
        let layers = layers.map(|table| (table.snapshot, self.layer(table)));
        GuestData {
            layers: layers.collect(),
        }
    }

    fn layer(&self, table: &L1Table) -> BTreeMap<u64, Content> {
        let (size, bits) = (self.found.cluster_size(), self.found.cluster_bits);
        let entry_size = if self.found.extended_l2 { 16 } else { 8 };
        // Behind its end the guest sees nothing, whatever a damaged number of entries says.
        let seen = self.size(table).div_ceil(size);
        let mut clusters = BTreeMap::new();
        for l1_entry in &table.entries {
            let l2_table = l1_entry.value & OFFSET_BITS;
            if self.besides_l2.contains(&(l2_table >> bits)) {
                continue;
            }
            let first = (l1_entry.at - table.offset) / 8 * (size / entry_size);
            // The finder lists each L2 table once, in the order of the file.
            let all = &self.found.l2_entries;
            let from = all.partition_point(|entry| entry.at < l2_table);
            let inside = |entry: &&Entry| entry.at < l2_table + size;
            for entry in all[from..].iter().take_while(inside) {
                let cluster = first + (entry.at - l2_table) / entry_size;
                if let Some(content) = self.content(*entry).filter(|_| cluster < seen) {
                    clusters.insert(cluster, content);
                }
            }
        }
        clusters
    }

    /// Bytes of the virtual disk: as the header says, or as a snapshot's extra data does.
    fn size(&self, table: &L1Table) -> u64 {
        let image = self.image;
        let of_snapshot = table.snapshot.and_then(|index| {
            let entry = self.found.snapshots.get(index)?;
            let extra = image.number(entry + 36, 4);
            (extra >= 16).then(|| image.number(entry + 48, 8))
        });
        of_snapshot.unwrap_or(image.number(24, 8))
    }

    /// What an L2 entry leads to; `None` when it holds nothing.
    fn content(&self, entry: Entry) -> Option<Content> {
        let offset = entry.value & OFFSET_BITS;
        if entry.value & COMPRESSED != 0 {
            // qemu counts no reference for these, so nothing keeps the cluster as it is.
            let invalid = self.found.data_file
                || self.found.extended_l2 && self.image.number(entry.at + 8, 8) != 0;
            if invalid {
                return Some(Content::Unreadable);
            }
            return Some(self.compressed(entry.value));
        }
        if self.found.data_file {
            let is_zero = if self.found.extended_l2 {
                let bitmap = self.image.number(entry.at + 8, 8);
                if bitmap == 0 {
                    return None;
                }
                // Nothing of it is in the data file, whatever the offset says.
                bitmap & ALL_SUBCLUSTERS == 0
            } else {
                entry.value & ZERO != 0
            };
            return Some(if is_zero {
                Content::Zeros
            } else {
                Content::External(offset)
            });
        }
        if self.found.extended_l2 {
            return self.subclusters(entry, offset);
        }
        match (entry.value & ZERO, offset) {
            (ZERO, _) => Some(Content::Zeros),
            (_, 0) => None,
            _ => Some(self.stored(offset, u64::MAX)),
        }
    }

    fn subclusters(&self, entry: Entry, offset: u64) -> Option<Content> {
        let bitmap = self.image.number(entry.at + 8, 8);
        let (zeros, allocated) = (bitmap >> 32, bitmap & 0xffff_ffff);
        match (zeros & allocated, allocated, zeros) {
            (0, 0, 0) => None,
            (0, 0, 0xffff_ffff) => Some(Content::Zeros),
            // What reads as zeros is the same wherever the rest lies.
            (0, 0, _) => Some(Content::Stored(fingerprint(&bitmap.to_be_bytes()))),
            (0, ..) => Some(self.stored(offset, bitmap)),
            _ => Some(Content::Unreadable),
        }
    }

    /// A cluster of stored bytes, of which the subclusters in the low half of `bitmap` count.
    fn stored(&self, offset: u64, bitmap: u64) -> Content {
        let whole = offset.is_multiple_of(self.found.cluster_size());
        if !whole || offset >= self.found.length || self.holds_structures(offset, 1) {
            return Content::Unreadable;
        }
        let size = usize::try_from(self.found.cluster_size()).unwrap_or(usize::MAX);
        let mut bytes = self.image.bytes(offset, size);
        if bitmap == u64::MAX {
            return Content::Stored(fingerprint(&bytes));
        }
        for (index, subcluster) in bytes.chunks_mut(size / 32).enumerate() {
            if bitmap >> index & 1 == 0 {
                subcluster.fill(0);
            }
        }
        bytes.extend(bitmap.to_be_bytes());
        Content::Stored(fingerprint(&bytes))
    }

    fn compressed(&self, entry: u64) -> Content {
        let (offset, length) = compressed_region(entry, self.found.cluster_bits);
        let outside = offset + length > self.found.clusters() * self.found.cluster_size();
        if outside || self.holds_structures(offset, length) {
            return Content::Unreadable;
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Content::Stored(fingerprint(&self.image.bytes(offset, length)))
    }

    fn holds_structures(&self, offset: u64, length: u64) -> bool {
        let bits = self.found.cluster_bits;
        let clusters = offset >> bits..=(offset + length - 1) >> bits;
        self.structures.range(clusters).next().is_some()
    }
}

/// Where a compressed cluster lies, offset and length in bytes. The entry has the offset in its low
/// bits, then the sectors that the cluster takes up besides the first (specification, "Compressed
/// Clusters Descriptor").
const fn compressed_region(entry: u64, cluster_bits: u32) -> (u64, u64) {
    let offset_bits = 62 - (cluster_bits - 8);
    let descriptor = entry & (COMPRESSED - 1);
    let offset = descriptor & ((1 << offset_bits) - 1);
    (
        offset,
        ((descriptor >> offset_bits) + 1) * 512 - offset % 512,
    )
}

/// The same for the same bytes, in this process and in any other.
fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
