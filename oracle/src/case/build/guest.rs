//! L1 tables, L2 tables and the guest's clusters: of the active layer and of the snapshots.

use std::collections::BTreeMap;
use std::ops::Range;

use super::deflate;
use super::synthetic::Builder;
use crate::audit::COMPRESSED;
use crate::case::synthetic::{Content, Sharing, Synthetic};
use crate::case::validate::Impossible;
use crate::disk::SECTOR;
use crate::format::ZERO;

/// An L2 entry.
#[derive(Clone)]
struct Entry {
    /// The entry but for bit 63.
    word: u64,
    /// The subcluster bitmap of an extended entry.
    bitmap: u64,
    /// Host clusters that it refers to.
    clusters: Range<u64>,
}

/// An L2 table: where it is, and its entries.
struct Table {
    cluster: u64,
    entries: BTreeMap<u64, Entry>,
}

/// The active layer, or a snapshot.
pub(super) struct Layer {
    /// The first cluster of its L1 table.
    pub(super) l1_cluster: u64,
    /// Its L1 entries: which of the tables each leads to.
    tables: BTreeMap<u64, usize>,
}

/// Everything that guests see.
pub(super) struct Guest {
    /// Entries of each L1 table.
    pub(super) l1_entries: u64,
    /// Clusters of each L1 table.
    l1_clusters: u64,
    /// All L2 tables.
    tables: Vec<Table>,
    /// The active layer and then the snapshots.
    pub(super) layers: Vec<Layer>,
}

/// Guest clusters by L1 index and L2 index.
type Map = BTreeMap<u64, BTreeMap<u64, Content>>;

/// Lays out all layers and writes their data.
pub(super) fn lay_out(builder: &mut Builder<'_>) -> Result<Guest, Impossible> {
    let (image, sizes) = (builder.image, builder.sizes);
    let l1_entries = image
        .virtual_size()
        .div_ceil(sizes.cluster * sizes.l2_entries);
    let shares = image.snapshots.iter();
    let shares = shares.filter(|group| group.sharing != Sharing::Nothing);
    let mut writer = Writer {
        builder,
        guest: Guest {
            l1_entries,
            l1_clusters: sizes.clusters(l1_entries * 8),
            tables: Vec::new(),
            layers: Vec::new(),
        },
        packed: None,
        weight: 1 + shares.map(|group| u64::from(group.count)).sum::<u64>(),
    };
    let map = map(image, sizes.l2_entries);
    writer.layer(&map, Sharing::Nothing)?;
    writer.weight = 1;
    writer.packed = None;
    for group in &image.snapshots {
        for _ in 0..group.count {
            writer.layer(&map, group.sharing)?;
        }
    }
    Ok(writer.guest)
}

fn map(image: &Synthetic, l2_entries: u64) -> Map {
    let mut map = Map::new();
    let mut next = 0;
    for run in &image.guest {
        next += run.skip;
        for _ in 0..run.clusters {
            let table = map.entry(next / l2_entries).or_default();
            table.insert(next % l2_entries, run.content);
            next += 1;
        }
    }
    map
}

impl Guest {
    /// Calls `refer` for each time that a walk through the layers comes by a cluster.
    pub(super) fn walk(&self, mut refer: impl FnMut(u64)) {
        for layer in &self.layers {
            (layer.l1_cluster..layer.l1_cluster + self.l1_clusters).for_each(&mut refer);
            for &table in layer.tables.values() {
                let table = &self.tables[table];
                refer(table.cluster);
                let entries = table.entries.values();
                entries.for_each(|entry| entry.clusters.clone().for_each(&mut refer));
            }
        }
    }

    /// Writes L1 and L2 tables, bit 63 set where the refcount is one. In snapshots' L1 tables it
    /// means nothing and stays clear (specification, "L1 table entry").
    pub(super) fn write_tables(&self, builder: &mut Builder<'_>) {
        let sizes = builder.sizes;
        for (number, layer) in self.layers.iter().enumerate() {
            for (&index, &table) in &layer.tables {
                let cluster = self.tables[table].cluster;
                let copied = if number == 0 {
                    builder.copied(cluster)
                } else {
                    0
                };
                let entry = sizes.offset(cluster) | copied;
                let at = sizes.offset(layer.l1_cluster) + index * 8;
                builder.bytes.put(at, &entry.to_be_bytes());
            }
        }
        for table in &self.tables {
            for (&index, entry) in &table.entries {
                let mut word = entry.word;
                if word & COMPRESSED == 0 && !entry.clusters.is_empty() {
                    word |= builder.copied(entry.clusters.start);
                }
                let at = sizes.offset(table.cluster) + index * sizes.l2_entry;
                builder.bytes.put(at, &word.to_be_bytes());
                if sizes.l2_entry == 16 {
                    builder.bytes.put(at + 8, &entry.bitmap.to_be_bytes());
                }
            }
        }
    }
}

struct Writer<'a, 'b> {
    builder: &'a mut Builder<'b>,
    guest: Guest,
    /// Where the next compressed cluster may go, and the references of that host cluster so far.
    packed: Option<(u64, u64)>,
    /// How many layers will refer to what is written now.
    weight: u64,
}

impl Writer<'_, '_> {
    /// The next layer, with this in common with the first.
    fn layer(&mut self, map: &Map, sharing: Sharing) -> Result<(), Impossible> {
        let l1_cluster = match self.guest.l1_clusters {
            0 => 0,
            clusters => self.builder.allocator.take(clusters)?,
        };
        let number = self.guest.layers.len() as u64;
        let mut tables = BTreeMap::new();
        for (&l1_index, contents) in map {
            let active = self.guest.layers.first();
            let active = active.map_or(0, |active| active.tables[&l1_index]);
            if sharing == Sharing::Tables {
                tables.insert(l1_index, active);
                continue;
            }
            let cluster = self.builder.allocator.take(1)?;
            let entries = if sharing == Sharing::Data {
                self.guest.tables[active].entries.clone()
            } else {
                let first = l1_index * self.builder.sizes.l2_entries;
                let entry = |(&l2_index, &content): (&u64, &Content)| {
                    let label = number << 40 ^ (first + l2_index);
                    Ok((l2_index, self.entry(content, label)?))
                };
                contents.iter().map(entry).collect::<Result<_, _>>()?
            };
            tables.insert(l1_index, self.guest.tables.len());
            self.guest.tables.push(Table { cluster, entries });
        }
        self.guest.layers.push(Layer { l1_cluster, tables });
        Ok(())
    }

    fn entry(&mut self, content: Content, label: u64) -> Result<Entry, Impossible> {
        let extended = self.builder.sizes.l2_entry == 16;
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
        let mut entry = Entry {
            word: flag,
            bitmap,
            clusters: 0..0,
        };
        if content != Content::Zero {
            let cluster = self.builder.allocator.take(1)?;
            self.builder.stamp(cluster, "guest", label);
            entry.word |= self.builder.sizes.offset(cluster);
            entry.clusters = cluster..cluster + 1;
        }
        Ok(entry)
    }

    /// A compressed cluster, right after the one before it where the refcounts allow that.
    fn compressed(&mut self, label: u64, incompressible: u32) -> Result<Entry, Impossible> {
        let sizes = self.builder.sizes;
        let bytes = deflate::stream(label, incompressible as usize, sizes.cluster as usize);
        let length = bytes.len() as u64;
        let offset = match self.packing_place(length) {
            Some(offset) => offset,
            None => sizes.offset(self.builder.allocator.take(1)?),
        };
        let end = offset + length;
        let clusters = offset / sizes.cluster..(end - 1) / sizes.cluster + 1;
        let inside_one = clusters.end == clusters.start + 1 && offset % sizes.cluster != 0;
        let before = self.packed.filter(|_| inside_one);
        let before = before.map_or(0, |(_, references)| references);
        self.packed = Some((end, before + self.weight));
        let sectors = (offset % SECTOR + length).div_ceil(SECTOR) - 1;
        let sectors_at = 62 - (sizes.cluster_bits - 8);
        self.builder.bytes.put(offset, &bytes);
        Ok(Entry {
            word: COMPRESSED | sectors << sectors_at | offset,
            bitmap: 0,
            clusters,
        })
    }

    /// Where `length` bytes fit after the compressed cluster before, perhaps into the next host
    /// cluster.
    fn packing_place(&mut self, length: u64) -> Option<u64> {
        let sizes = self.builder.sizes;
        let (offset, references) = self.packed?;
        let room = offset.next_multiple_of(sizes.cluster) - offset;
        if room == 0 || references + self.weight > sizes.max_refcount {
            return None;
        }
        let next = (offset + room) / sizes.cluster;
        let fits = length <= room || self.builder.allocator.take_at(next);
        fits.then_some(offset)
    }
}
