//! What the guest sees, of the active layer and of every snapshot: a fingerprint of each cluster
//! that the image holds, by the audit's walk over the tables. Compressed and encrypted clusters are
//! compared as stored; they read the same when the stored bytes are the same.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::audit::{self, Audit, Layer, LayerId, Mapping, Referrer};
use crate::case::damage::SparseBytes;

/// Subclusters of a cluster.
pub const SUBCLUSTERS: usize = 32;
/// Byte position of a snapshot's virtual disk size in its entry, and the extra data that has it
/// (specification, "Snapshots").
const SNAPSHOT_DISK: u64 = 48;
const EXTRA_WITH_DISK: u64 = 16;

/// One cluster of the guest's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Content {
    /// Reads as zeros.
    #[error("zeros")]
    Zeros,
    /// The fingerprint of stored bytes.
    #[error("data with the checksum {0:016x}")]
    Stored(u64),
    /// Where in the external data file it lies.
    #[error("its data at offset {0:#x} of the data file")]
    External(u64),
}

impl Content {
    /// These bytes: the same for the same ones, in this process and in any other.
    pub fn stored(bytes: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        Self::Stored(hasher.finish())
    }
}

/// What the guest sees, by layer and cluster. Clusters that the image does not hold are left out, and
/// those that cannot be read: their entry leads nowhere, or to a cluster that holds a structure of the
/// image too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestData(BTreeMap<(LayerId, u64), Content>);

impl GuestData {
    /// Reads the image; nothing of one that the audit cannot read.
    pub fn read(image: &SparseBytes) -> Self {
        audit::audit(image).map_or_else(|_| Self::default(), |audit| Self::of(image, &audit))
    }

    /// Reads the image with this audit.
    pub fn of(image: &SparseBytes, audit: &Audit) -> Self {
        let layers = audit.layers.iter().flat_map(|layer| {
            let clusters = clusters(image, audit, layer);
            clusters.filter_map(|(at, stored)| Some(((layer.id, at), stored?.content()?)))
        });
        Self(layers.collect())
    }

    /// Whether no cluster can be read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a cluster of the active layer has.
    pub fn active(&self, cluster: u64) -> Option<Content> {
        self.0.get(&(LayerId::Active, cluster)).copied()
    }

    /// The same but for these clusters of the active layer.
    #[must_use]
    pub fn without(mut self, clusters: &[u64]) -> Self {
        for cluster in clusters {
            self.0.remove(&(LayerId::Active, *cluster));
        }
        self
    }

    /// The first cluster that can be read here and reads otherwise in `other`, in words.
    pub fn first_loss(&self, other: &Self) -> Option<String> {
        self.0.iter().find_map(|(at, was)| {
            let ((layer, cluster), now) = (at, other.0.get(at));
            (now != Some(was)).then(|| {
                let now = now.map_or("cannot be read".to_owned(), |now| format!("has {now}"));
                format!("guest cluster {cluster} of {layer} had {was} and {now} now")
            })
        })
    }
}

/// What an image has of a guest cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Bytes of which these subclusters count; these others read as zeros, and the rest as in the
    /// backing file. There are no bytes where none counts.
    Bytes(Vec<u8>, u32, u32),
    /// Compressed data, to the end of its last sector.
    Compressed(Vec<u8>),
    /// It is in the external data file, at this offset.
    External(u64),
}

impl Stored {
    /// `None` where all is in the backing file.
    fn content(self) -> Option<Content> {
        Some(match self {
            Self::Bytes(_, 0, 0) => return None,
            Self::Bytes(_, 0, u32::MAX) => Content::Zeros,
            Self::Bytes(bytes, u32::MAX, _) | Self::Compressed(bytes) => Content::stored(&bytes),
            // What reads as zeros is the same wherever the rest lies.
            Self::Bytes(_, 0, zero) => Content::stored(&zero.to_be_bytes()),
            Self::Bytes(mut bytes, allocated, zero) => {
                bytes.extend([allocated, zero].map(u32::to_be_bytes).concat());
                Content::stored(&bytes)
            }
            Self::External(offset) => Content::External(offset),
        })
    }
}

/// The guest's clusters of a layer that L2 entries say something of; `None` where that cannot be read.
pub fn clusters<'a>(
    image: &'a SparseBytes,
    audit: &'a Audit,
    layer: &'a Layer,
) -> impl Iterator<Item = (u64, Option<Stored>)> + 'a {
    let (reader, header) = (Reader { image, audit }, &audit.header);
    // Behind its end the guest sees nothing, whatever a damaged number of entries says.
    let seen = reader.disk(layer.id).div_ceil(header.cluster_size());
    let is_l2 = |by: &Referrer| is_data(by) || matches!(by, Referrer::L2 { .. });
    let tables = audit.tables.iter().filter(|table| {
        let is_read = header.is_aligned(table.offset) && reader.is_only(table.offset, 1, is_l2);
        table.layer == layer.id && !is_read
    });
    let unread: BTreeSet<u64> = tables.map(|table| table.l1_index).collect();
    let clusters = layer.map.iter();
    let clusters = clusters.filter(move |&(&cluster, _)| cluster < seen);
    clusters.map(move |(&cluster, &mapping)| {
        let is_read = !unread.contains(&(cluster / header.l2_entries()));
        (cluster, is_read.then(|| reader.entry(mapping)).flatten())
    })
}

struct Reader<'a> {
    image: &'a SparseBytes,
    audit: &'a Audit,
}

impl Reader<'_> {
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

    /// What an entry leads to, where that can be read.
    fn entry(&self, mapping: Mapping) -> Option<Stored> {
        let header = &self.audit.header;
        let (offset, allocated, zero) = match mapping {
            Mapping::Zero | Mapping::Preallocated { .. } => (0, 0, u32::MAX),
            Mapping::Compressed { offset, bytes } => {
                return self.stored(offset, bytes).map(Stored::Compressed);
            }
            Mapping::Data { offset } => (offset, u32::MAX, 0),
            Mapping::Subclusters {
                offset,
                allocated,
                zero,
            } => (offset, allocated, zero),
        };
        let is_inside = header.is_aligned(offset) && offset < self.audit.length;
        match allocated {
            _ if allocated & zero != 0 => return None,
            0 => return Some(Stored::Bytes(Vec::new(), 0, zero)),
            _ if header.external_data() => return Some(Stored::External(offset)),
            _ if !is_inside => return None,
            _ => (),
        }
        let mut bytes = self.stored(offset, header.cluster_size())?;
        if allocated != u32::MAX {
            let size = bytes.len() / SUBCLUSTERS;
            let subclusters = bytes.chunks_mut(size).enumerate();
            for (_, subcluster) in subclusters.filter(|(index, _)| allocated >> index & 1 == 0) {
                subcluster.fill(0);
            }
        }
        Some(Stored::Bytes(bytes, allocated, zero))
    }

    /// Bytes that hold data and no structure; `None` where they do not, or are not there.
    fn stored(&self, offset: u64, length: u64) -> Option<Vec<u8>> {
        let size = self.audit.header.cluster_size();
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

/// Whether it is guest data that something refers to.
const fn is_data(by: &Referrer) -> bool {
    matches!(by, Referrer::Data { .. } | Referrer::Compressed { .. })
}
