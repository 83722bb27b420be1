//! L1 tables, L2 tables and what the guest sees through them (specification, "Cluster mapping").

use litemap::LiteMap;

use super::corruption::Wrong;
use super::entry::{COPIED, Entry, Target, entries, l1_entry};
use super::qemu_view::habits::{can_be_read, is_looked_behind};
use super::reader::Unreadable;
use super::references::{EmptyEntry, LayerId, Referrer, TableUse, Walk};

/// What a guest cluster reads as. Clusters that are not in the map are unallocated: they read as
/// the backing file does, or as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mapping {
    /// The bytes at this offset.
    Data {
        /// In the image, or in the external data file.
        offset: u64,
    },
    /// Some subclusters of the bytes at this offset.
    Subclusters {
        /// In the image, or in the external data file; 0 when none is allocated.
        offset: u64,
        /// Bit n: subcluster n is allocated.
        allocated: u32,
        /// Bit n: subcluster n reads as zeros.
        zero: u32,
    },
    /// Zeros; a cluster is kept for them.
    Preallocated {
        /// Where it is.
        offset: u64,
    },
    /// Zeros.
    Zero,
    /// Compressed data.
    Compressed {
        /// First byte.
        offset: u64,
        /// Bytes to the end of the last sector.
        bytes: u64,
    },
}

/// A layer as the guest sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Which one.
    pub id: LayerId,
    /// Its L1 table.
    pub l1_offset: u64,
    /// Entries of it.
    pub l1_entries: u64,
    /// What each guest cluster reads as.
    pub map: LiteMap<u64, Mapping>,
}

/// A bit 63 of the active layer, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopiedBit {
    /// Whose bit it is.
    pub referrer: Referrer,
    /// Byte position of the entry.
    pub at: u64,
    /// What it says.
    pub copied: bool,
    /// The cluster that it is about.
    pub cluster: u64,
    /// First byte of the L2 table: that of the L2 entry, or the one that the L1 entry leads to.
    pub table: u64,
}

/// Walks one layer, from its L1 table to its data.
pub(super) fn walk(
    walk: &mut Walk<'_>,
    id: LayerId,
    l1_offset: u64,
    l1_entries: u64,
) -> Result<(), Unreadable> {
    let mut layer = Layer {
        id,
        l1_offset,
        l1_entries,
        map: LiteMap::new(),
    };
    let walked = walk_l1(walk, &mut layer);
    walk.found.layers.push(layer);
    walked
}

fn walk_l1(walk: &mut Walk<'_>, layer: &mut Layer) -> Result<(), Unreadable> {
    let (id, l1_offset, l1_entries) = (layer.id, layer.l1_offset, layer.l1_entries);
    if l1_entries == 0 {
        return Ok(());
    }
    let referrer = Referrer::L1 { layer: id };
    walk.refer(referrer, l1_offset, l1_entries * 8)?;
    if walk.skips(l1_offset) {
        return Ok(());
    }
    if !can_be_read(l1_offset, l1_entries * 8) {
        walk.block(referrer, "it ends past 2^63", l1_offset);
        return Ok(());
    }
    for (l1_index, word) in walk.reader.table(l1_offset, l1_entries)? {
        let referrer = Referrer::L2 {
            layer: id,
            l1_index,
        };
        let (offset, reserved) = l1_entry(word);
        if reserved {
            walk.corrupt(referrer, Wrong::Reserved(word));
        }
        walk.refer_cluster(referrer, offset)?;
        if !walk.header.is_aligned(offset) {
            walk.corrupt(referrer, Wrong::Unaligned(offset));
        }
        if id == LayerId::Active && is_looked_behind(offset) {
            walk.found.copied_bits.push(CopiedBit {
                referrer,
                at: l1_offset + l1_index * 8,
                copied: word & COPIED != 0,
                cluster: offset >> walk.header.cluster_bits,
                table: offset,
            });
        }
        if !walk.skips(offset) {
            walk.reader.pay_for_keeping()?;
            let table = TableUse {
                layer: id,
                l1_index,
                offset,
            };
            walk.found.tables.push(table);
            walk_l2(walk, layer, table)?;
        }
    }
    Ok(())
}

fn walk_l2(walk: &mut Walk<'_>, layer: &mut Layer, table: TableUse) -> Result<(), Unreadable> {
    if table.offset >= walk.reader.length() {
        return Ok(());
    }
    let bytes = walk
        .reader
        .bytes(table.offset, walk.header.cluster_size())?;
    walk.found.qemu.statistics.begin_table();
    let header = walk.header;
    for entry in entries(&header, &bytes) {
        if entry.has_reserved_bits() {
            walk.corrupt(data(table, &entry), Wrong::Reserved(entry.word));
        }
        let mapping = match entry.target {
            Target::Compressed { offset, bytes } => compressed(walk, table, &entry, offset, bytes)?,
            Target::Cluster { offset } => cluster(walk, table, &entry, offset)?,
            Target::Nothing => nothing(walk, table, &entry),
        };
        if let Some(mapping) = mapping {
            walk.reader.pay_for_keeping()?;
            let guest = table.l1_index * walk.header.l2_entries() + entry.index;
            layer.map.insert(guest, mapping);
        }
    }
    Ok(())
}

fn compressed(
    walk: &mut Walk<'_>,
    table: TableUse,
    entry: &Entry,
    offset: u64,
    bytes: u64,
) -> Result<Option<Mapping>, Unreadable> {
    let referrer = Referrer::Compressed {
        layer: table.layer,
        l1_index: table.l1_index,
        l2_index: entry.index,
    };
    if entry.is_copied() {
        let wrong = "is compressed and says that its refcount is one";
        walk.corrupt(referrer, Wrong::Impossible(wrong, entry.word));
    }
    if walk.header.external_data() {
        let wrong = "is compressed in an image whose data lies in another file";
        walk.corrupt(referrer, Wrong::Impossible(wrong, entry.word));
        return Ok(None);
    }
    if entry.bitmap != 0 {
        let wrong = Wrong::Subclusters("subclusters and is compressed", entry.bitmap);
        walk.corrupt(referrer, wrong);
        return Ok(None);
    }
    walk.refer(referrer, offset, bytes)?;
    if table.layer == LayerId::Active {
        walk.found.qemu.statistics.compressed();
    }
    Ok(Some(Mapping::Compressed { offset, bytes }))
}

const fn data(table: TableUse, entry: &Entry) -> Referrer {
    Referrer::Data {
        layer: table.layer,
        l1_index: table.l1_index,
        l2_index: entry.index,
    }
}

fn nothing(walk: &mut Walk<'_>, table: TableUse, entry: &Entry) -> Option<Mapping> {
    let bitmap = entry.bitmap;
    if entry.holds_data() {
        let wrong = Wrong::Subclusters("allocated subclusters but no cluster", bitmap);
        walk.corrupt(data(table, entry), wrong);
    }
    mapping(0, bitmap)
}

fn cluster(
    walk: &mut Walk<'_>,
    table: TableUse,
    entry: &Entry,
    offset: u64,
) -> Result<Option<Mapping>, Unreadable> {
    let (referrer, bitmap) = (data(table, entry), entry.bitmap);
    let at = table.offset + entry.index * walk.header.l2_entry_bytes();
    if bitmap >> 32 & bitmap != 0 {
        let wrong = "subclusters that are both allocated and zero";
        walk.corrupt(referrer, Wrong::Subclusters(wrong, bitmap));
    }
    if !walk.header.is_aligned(offset) {
        walk.corrupt(referrer, Wrong::Unaligned(offset));
        if !entry.holds_data() && !entry.has_reserved_bits() {
            walk.found.empty.push(EmptyEntry {
                referrer,
                table: table.offset,
                at,
                without_cluster: entry.without_cluster(&walk.header),
            });
        }
    }
    if !walk.header.external_data() {
        walk.refer_cluster(referrer, offset)?;
    }
    if table.layer == LayerId::Active {
        walk.found
            .qemu
            .statistics
            .cluster(offset, walk.header.cluster_size());
    }
    if table.layer == LayerId::Active && is_looked_behind(table.offset) {
        walk.found.copied_bits.push(CopiedBit {
            referrer,
            at,
            copied: entry.is_copied(),
            cluster: offset >> walk.header.cluster_bits,
            table: table.offset,
        });
    }
    Ok(mapping(offset, bitmap))
}

/// What an entry that is not compressed reads as; `None` where it says nothing.
fn mapping(offset: u64, bitmap: u64) -> Option<Mapping> {
    let (allocated, zero) = (bitmap as u32, (bitmap >> 32) as u32);
    match (allocated, zero) {
        (0, 0) if offset == 0 => None,
        (u32::MAX, 0) => Some(Mapping::Data { offset }),
        (0, u32::MAX) if offset == 0 => Some(Mapping::Zero),
        (0, u32::MAX) => Some(Mapping::Preallocated { offset }),
        _ => Some(Mapping::Subclusters {
            offset,
            allocated,
            zero,
        }),
    }
}
