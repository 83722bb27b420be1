//! L1 tables, L2 tables and the guest's clusters: of the active layer and of the snapshots.

use std::collections::BTreeMap;
use std::ops::Range;

use super::allocator::Allocator;
use super::deflate;
use super::geometry::Sizes;
use super::{Piece, stamp};
use crate::case::impossible::Impossible;
use crate::case::synthetic::{Content, Sharing, Synthetic};

/// L2 entry, bit 62: compressed.
const COMPRESSED: u64 = 1 << 62;
/// L2 entry, bit 0: reads as zeros.
const ZERO: u64 = 1;
/// L1 and L2 entry, bit 63: the refcount is exactly one.
pub(super) const COPIED: u64 = 1 << 63;
/// Bytes of a sector, in which a compressed cluster's length is counted.
const SECTOR: u64 = 512;

/// An L2 entry.
pub(super) struct Entry {
    /// The entry but for bit 63.
    pub(super) word: u64,
    /// The subcluster bitmap of an extended entry.
    pub(super) bitmap: u64,
    /// Host clusters that it refers to.
    pub(super) clusters: Range<u64>,
}

impl Entry {
    /// Whether bit 63 says something about it: not for compressed clusters.
    pub(super) const fn is_standard(&self) -> bool {
        self.word & COMPRESSED == 0
    }
}

/// An L2 table.
pub(super) struct Table {
    /// Where it is.
    pub(super) cluster: u64,
    /// Its entries.
    pub(super) entries: BTreeMap<u64, Entry>,
}

/// The active layer, or a snapshot.
pub(super) struct Layer {
    /// The first cluster of its L1 table.
    pub(super) l1_cluster: u64,
    /// Its L1 entries: which of the tables each leads to.
    pub(super) tables: BTreeMap<u64, usize>,
}

/// Everything that guests see.
pub(super) struct Guest {
    /// Entries of each L1 table.
    pub(super) l1_entries: u64,
    /// All L2 tables.
    pub(super) tables: Vec<Table>,
    /// The active layer and then the snapshots.
    pub(super) layers: Vec<Layer>,
}

/// Guest clusters by L1 index and L2 index.
type Map = BTreeMap<u64, BTreeMap<u64, Content>>;

/// Lays out all layers and adds their data to `pieces`.
pub(super) fn lay_out(
    image: &Synthetic,
    sizes: &Sizes,
    allocator: &mut Allocator,
    pieces: &mut Vec<Piece>,
) -> Result<Guest, Impossible> {
    let map = map(image, sizes);
    let mut guest = Guest {
        l1_entries: image
            .virtual_size()
            .div_ceil(sizes.cluster * sizes.l2_entries),
        tables: Vec::new(),
        layers: Vec::new(),
    };
    let l1_clusters = sizes.clusters(guest.l1_entries * 8);
    let sharing = |wanted: &[Sharing]| -> u64 {
        let like = |group: &&crate::case::synthetic::Snapshots| wanted.contains(&group.sharing);
        let alike = image.snapshots.iter().filter(like);
        alike.map(|group| u64::from(group.count)).sum()
    };
    let mut writer = Writer {
        sizes,
        allocator,
        pieces,
        packed: None,
        weight: 1 + sharing(&[Sharing::Tables, Sharing::Data]),
    };
    let active = writer.layer(&map, &mut guest, l1_clusters, 0)?;
    guest.layers.push(active);
    writer.weight = 1;
    writer.packed = None;
    for group in &image.snapshots {
        for _ in 0..group.count {
            let layer = match group.sharing {
                Sharing::Tables => Layer {
                    l1_cluster: writer.l1(l1_clusters)?,
                    tables: guest.layers[0].tables.clone(),
                },
                Sharing::Data => writer.copy(&mut guest, l1_clusters)?,
                Sharing::Nothing => {
                    let number = guest.layers.len() as u64;
                    writer.layer(&map, &mut guest, l1_clusters, number)?
                }
            };
            guest.layers.push(layer);
        }
    }
    Ok(guest)
}

fn map(image: &Synthetic, sizes: &Sizes) -> Map {
    let mut map = Map::new();
    let mut next = 0;
    for run in &image.guest {
        next += run.skip;
        for _ in 0..run.clusters {
            let table = map.entry(next / sizes.l2_entries).or_default();
            table.insert(next % sizes.l2_entries, run.content);
            next += 1;
        }
    }
    map
}

struct Writer<'a> {
    sizes: &'a Sizes,
    allocator: &'a mut Allocator,
    pieces: &'a mut Vec<Piece>,
    /// Where the next compressed cluster may go, and the references of that host cluster so far.
    packed: Option<(u64, u64)>,
    /// How many layers will refer to what is written now.
    weight: u64,
}

impl Writer<'_> {
    fn l1(&mut self, clusters: u64) -> Result<u64, Impossible> {
        if clusters == 0 {
            return Ok(0);
        }
        self.allocator.take(clusters)
    }

    /// A layer with tables and data of its own.
    fn layer(
        &mut self,
        map: &Map,
        guest: &mut Guest,
        l1_clusters: u64,
        number: u64,
    ) -> Result<Layer, Impossible> {
        let l1_cluster = self.l1(l1_clusters)?;
        let mut tables = BTreeMap::new();
        for (&l1_index, contents) in map {
            let cluster = self.allocator.take(1)?;
            let mut entries = BTreeMap::new();
            for (&l2_index, &content) in contents {
                let at = l1_index * self.sizes.l2_entries + l2_index;
                entries.insert(l2_index, self.entry(content, number << 40 ^ at)?);
            }
            tables.insert(l1_index, guest.tables.len());
            guest.tables.push(Table { cluster, entries });
        }
        Ok(Layer { l1_cluster, tables })
    }

    /// A layer with tables of its own that lead to the active layer's data.
    fn copy(&mut self, guest: &mut Guest, l1_clusters: u64) -> Result<Layer, Impossible> {
        let l1_cluster = self.l1(l1_clusters)?;
        let mut tables = BTreeMap::new();
        for (l1_index, table) in guest.layers[0].tables.clone() {
            let cluster = self.allocator.take(1)?;
            let copied = guest.tables[table].entries.iter();
            let entries = copied
                .map(|(&index, entry)| {
                    let (word, bitmap) = (entry.word, entry.bitmap);
                    let clusters = entry.clusters.clone();
                    (
                        index,
                        Entry {
                            word,
                            bitmap,
                            clusters,
                        },
                    )
                })
                .collect();
            tables.insert(l1_index, guest.tables.len());
            guest.tables.push(Table { cluster, entries });
        }
        Ok(Layer { l1_cluster, tables })
    }

    fn entry(&mut self, content: Content, label: u64) -> Result<Entry, Impossible> {
        let extended = self.sizes.l2_entry == 16;
        let (flag, bitmap) = match content {
            Content::Data => (0, u64::from(u32::MAX)),
            Content::Preallocated | Content::Zero if extended => (0, u64::from(u32::MAX) << 32),
            Content::Preallocated | Content::Zero => (ZERO, 0),
            Content::Subclusters { allocated, zero } => {
                (0, u64::from(zero) << 32 | u64::from(allocated))
            }
            Content::Compressed { incompressible } => {
                return self.compressed(label, incompressible);
            }
        };
        if matches!(content, Content::Zero) {
            return Ok(Entry {
                word: flag,
                bitmap,
                clusters: 0..0,
            });
        }
        let cluster = self.allocator.take(1)?;
        stamp(self.pieces, self.sizes, cluster, "guest", label);
        Ok(Entry {
            word: self.sizes.offset(cluster) | flag,
            bitmap,
            clusters: cluster..cluster + 1,
        })
    }

    /// A compressed cluster, right after the one before it where the refcounts allow that.
    fn compressed(&mut self, label: u64, incompressible: u32) -> Result<Entry, Impossible> {
        let cluster_size = self.sizes.cluster as usize;
        let bytes = deflate::stream(label, incompressible as usize, cluster_size);
        let length = bytes.len() as u64;
        let offset = match self.packing_place(length) {
            Some(offset) => offset,
            None => self.sizes.offset(self.allocator.take(1)?),
        };
        let end = offset + length;
        let clusters = offset / self.sizes.cluster..(end - 1) / self.sizes.cluster + 1;
        let before = match self.packed {
            Some((_, references))
                if clusters.end == clusters.start + 1 && offset % self.sizes.cluster != 0 =>
            {
                references
            }
            _ => 0,
        };
        self.packed = Some((end, before + self.weight));
        let sectors = (offset % SECTOR + length).div_ceil(SECTOR) - 1;
        let sectors_at = 62 - (self.sizes.cluster_bits - 8);
        self.pieces.push(Piece { offset, bytes });
        Ok(Entry {
            word: COMPRESSED | sectors << sectors_at | offset,
            bitmap: 0,
            clusters,
        })
    }

    /// Where `length` bytes fit after the compressed cluster before, perhaps into the next host
    /// cluster.
    fn packing_place(&mut self, length: u64) -> Option<u64> {
        let (offset, references) = self.packed?;
        let room = offset.next_multiple_of(self.sizes.cluster) - offset;
        if room == 0 || references + self.weight > self.sizes.max_refcount {
            return None;
        }
        let fits = length <= room || self.allocator.take_at((offset + room) / self.sizes.cluster);
        fits.then_some(offset)
    }
}
