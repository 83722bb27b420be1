//! What the guest sees, of the active layer and of every snapshot: a fingerprint of each cluster
//! that the image holds, by the audit's walk over the tables. Compressed and encrypted clusters are
//! compared as stored; they read the same when the stored bytes are the same.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use recount_oracle::audit::{self, Audit, Layer, LayerId, Mapping, Referrer};
use recount_oracle::case::damage::SparseBytes;

/// Subclusters of a cluster.
const SUBCLUSTERS: usize = 32;
/// Byte position of a snapshot's virtual disk size in its entry, and the extra data that has it
/// (specification, "Snapshots").
const SNAPSHOT_DISK: u64 = 48;
const EXTRA_WITH_DISK: u64 = 16;

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

/// What the guest sees. Clusters that the image does not hold are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestData {
    layers: BTreeMap<LayerId, BTreeMap<u64, Content>>,
}

impl GuestData {
    /// Reads the image; nothing of one that the audit cannot read.
    pub fn read(image: &SparseBytes) -> Self {
        audit::audit(image).map_or_else(|_| Self::default(), |audit| Self::of(image, &audit))
    }

    /// Reads the image with this audit.
    pub fn of(image: &SparseBytes, audit: &Audit) -> Self {
        let reader = Reader { image, audit };
        let layers = audit.layers.iter();
        Self {
            layers: layers
                .map(|layer| (layer.id, reader.layer(layer)))
                .collect(),
        }
    }

    /// How many clusters can be read.
    pub fn readable(&self) -> usize {
        let all = self.layers.values().flat_map(BTreeMap::values);
        all.filter(|&&content| content != Content::Unreadable)
            .count()
    }

    /// A cluster of the active layer; `None` when the image does not hold it.
    fn active(&self, cluster: u64) -> Option<Content> {
        self.layers.get(&LayerId::Active)?.get(&cluster).copied()
    }

    /// Whether the image holds a cluster of the active layer.
    pub fn is_mapped(&self, cluster: u64) -> bool {
        self.active(cluster).is_some()
    }

    /// Whether these bytes are stored for a cluster of the active layer, all of it, as far as that can
    /// be read here.
    pub fn holds(&self, cluster: u64, bytes: &[u8]) -> bool {
        let whole = [Content::Stored(fingerprint(bytes)), Content::Unreadable];
        self.active(cluster)
            .is_some_and(|content| whole.contains(&content))
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
            (was != Content::Unreadable && now != Some(&was))
                .then(|| format!("guest cluster {cluster} of {layer} was {was:x?} and is {now:x?}"))
        })
    }
}

struct Reader<'a> {
    image: &'a SparseBytes,
    audit: &'a Audit,
}

impl Reader<'_> {
    fn layer(&self, layer: &Layer) -> BTreeMap<u64, Content> {
        let header = &self.audit.header;
        // Behind its end the guest sees nothing, whatever a damaged number of entries says.
        let seen = self.disk(layer.id).div_ceil(header.cluster_size());
        let is_l2 = |by: &Referrer| matches!(by, Referrer::L2 { .. });
        let tables = self.audit.tables.iter();
        let unread = tables.filter(|table| {
            table.layer == layer.id
                && !(header.is_aligned(table.offset) && self.is_only(table.offset, 1, is_l2))
        });
        let unread: BTreeSet<u64> = unread.map(|table| table.l1_index).collect();
        let is_read = |cluster: u64| !unread.contains(&(cluster / header.l2_entries()));
        let clusters = layer.map.iter();
        let clusters = clusters.filter(|&(&cluster, _)| cluster < seen && is_read(cluster));
        let content =
            |(&cluster, &mapping): (&u64, &Mapping)| Some((cluster, self.content(mapping)?));
        clusters.filter_map(content).collect()
    }

    /// Bytes of the virtual disk: as the header says, or as a snapshot's extra data does.
    fn disk(&self, layer: LayerId) -> u64 {
        let snapshot = match layer {
            LayerId::Active => None,
            LayerId::Snapshot(index) => self.audit.snapshots.entries.get(index as usize),
        };
        match snapshot {
            Some(entry) if entry.extra >= EXTRA_WITH_DISK => {
                self.image.number(entry.at + SNAPSHOT_DISK, 8)
            }
            _ => self.audit.header.virtual_size,
        }
    }

    /// What an entry leads to; `None` when it holds nothing.
    fn content(&self, mapping: Mapping) -> Option<Content> {
        let is_external = self.audit.header.external_data();
        Some(match mapping {
            Mapping::Zero | Mapping::Preallocated { .. } => Content::Zeros,
            Mapping::Compressed { offset, bytes } => self
                .stored(offset, bytes)
                .map_or(Content::Unreadable, |bytes| {
                    Content::Stored(fingerprint(&bytes))
                }),
            Mapping::Data { offset } if is_external => Content::External(offset),
            Mapping::Data { offset } => self.cluster(offset, u32::MAX, 0),
            Mapping::Subclusters {
                allocated, zero, ..
            } if allocated & zero != 0 => Content::Unreadable,
            // What reads as zeros is the same wherever the rest lies.
            Mapping::Subclusters {
                allocated: 0, zero, ..
            } => match zero {
                0 => return None,
                _ if is_external => Content::Zeros,
                _ => Content::Stored(fingerprint(&zero.to_be_bytes())),
            },
            Mapping::Subclusters { offset, .. } if is_external => Content::External(offset),
            Mapping::Subclusters {
                offset,
                allocated,
                zero,
            } => self.cluster(offset, allocated, zero),
        })
    }

    /// A cluster of which these subclusters are stored, and these read as zeros.
    fn cluster(&self, offset: u64, allocated: u32, zero: u32) -> Content {
        let size = self.audit.header.cluster_size();
        let is_there = self.audit.header.is_aligned(offset) && offset < self.audit.length;
        let Some(mut bytes) = self.stored(offset, size).filter(|_| is_there) else {
            return Content::Unreadable;
        };
        if allocated != u32::MAX {
            let subclusters = bytes.chunks_mut(size as usize / SUBCLUSTERS).enumerate();
            for (_, subcluster) in subclusters.filter(|(index, _)| allocated >> index & 1 == 0) {
                subcluster.fill(0);
            }
            bytes.extend([allocated, zero].map(u32::to_be_bytes).concat());
        }
        Content::Stored(fingerprint(&bytes))
    }

    /// Bytes that hold data and no structure; `None` where they do not, or are not there.
    fn stored(&self, offset: u64, length: u64) -> Option<Vec<u8>> {
        let size = self.audit.header.cluster_size();
        let is_data =
            |by: &Referrer| matches!(by, Referrer::Data { .. } | Referrer::Compressed { .. });
        let is_inside = offset + length <= self.audit.length.next_multiple_of(size);
        let is_stored = is_inside && self.is_only(offset, length, is_data);
        is_stored.then(|| self.image.bytes(offset, length as usize))
    }

    /// Whether nothing else refers to the clusters of some bytes: a repair may write where a structure
    /// is.
    fn is_only(&self, offset: u64, length: u64, kind: impl Fn(&Referrer) -> bool) -> bool {
        let bits = self.audit.header.cluster_bits;
        let clusters = offset >> bits..=(offset + length - 1) >> bits;
        let mut uses = self.audit.references.range(clusters);
        uses.all(|(_, by)| by.iter().all(&kind))
    }
}

/// The same for the same bytes, in this process and in any other.
fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
