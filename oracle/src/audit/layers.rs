//! L1 tables, L2 tables and what the guest sees through them (specification, "Cluster mapping").

use litemap::LiteMap;

use super::corruption::Wrong;
use super::reader::{be64, can_be_read};
use super::references::{EmptyEntry, LayerId, Referrer, TableUse, Walk};
use super::refusal::{Refusal, Unreadable};

const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;
/// Bits 9 to 55 of an L1 or L2 entry.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// All bits of an L1 entry that are neither offset nor bit 63.
const L1_RESERVED: u64 = !(OFFSET | COPIED);
/// Bits 1 to 8 and 56 to 61 of an L2 entry that is not compressed.
const L2_RESERVED: u64 = 0x3f00_0000_0000_01fe;
const ALLOCATED_SUBCLUSTERS: u64 = 0xffff_ffff;

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

/// qemu's statistics of the active layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Guest clusters with a host cluster.
    pub allocated: u64,
    /// Those that do not follow the one before in the same L2 table.
    pub fragmented: u64,
    /// Compressed ones; they count as fragmented.
    pub compressed: u64,
}

/// A bit 63 of the active layer to be compared with the refcount on disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct CopiedBit {
    pub(super) referrer: Referrer,
    pub(super) cluster: u64,
    pub(super) copied: bool,
    /// The cluster whose refcount must be readable for this to be looked at.
    pub(super) table: u64,
}

/// What the walk of one layer found.
pub(super) struct Walked {
    pub(super) layer: Layer,
    pub(super) statistics: Statistics,
    pub(super) copied_bits: Vec<CopiedBit>,
}

/// Walks one layer, from its L1 table to its data.
pub(super) fn walk(
    walk: &mut Walk<'_, '_>,
    id: LayerId,
    l1_offset: u64,
    l1_entries: u64,
) -> Result<Walked, Unreadable> {
    let mut walked = Walked {
        layer: Layer {
            id,
            l1_offset,
            l1_entries,
            map: LiteMap::new(),
        },
        statistics: Statistics::default(),
        copied_bits: Vec::new(),
    };
    if l1_entries == 0 {
        return Ok(walked);
    }
    let referrer = Referrer::L1 { layer: id };
    walk.refer(referrer, l1_offset, l1_entries * 8)?;
    if walk.skips(l1_offset) {
        return Ok(walked);
    }
    if !can_be_read(l1_offset, l1_entries * 8) {
        let table = "L1 table";
        let offset = l1_offset;
        walk.block(referrer, Refusal::Table { table, offset });
        return Ok(walked);
    }
    for (l1_index, entry) in walk.reader.table(l1_offset, l1_entries)? {
        let referrer = Referrer::L2 {
            layer: id,
            l1_index,
        };
        if entry & L1_RESERVED != 0 {
            walk.corrupt(referrer, Wrong::Reserved { entry });
        }
        let offset = entry & OFFSET;
        walk.refer_cluster(referrer, offset)?;
        if !walk.header.is_aligned(offset) {
            walk.corrupt(referrer, Wrong::Unaligned { offset });
        }
        let cluster = offset >> walk.header.cluster_bits;
        if offset != 0 {
            walked.copied_bits.push(CopiedBit {
                referrer,
                cluster,
                copied: entry & COPIED != 0,
                table: cluster,
            });
        }
        walk_l2(walk, &mut walked, l1_index, offset)?;
    }
    Ok(walked)
}

/// One entry of an L2 table and where it is.
struct Entry {
    layer: LayerId,
    l1_index: u64,
    l2_index: u64,
    word: u64,
    bitmap: u64,
}

impl Entry {
    const fn data(&self) -> Referrer {
        Referrer::Data {
            layer: self.layer,
            l1_index: self.l1_index,
            l2_index: self.l2_index,
        }
    }
}

fn walk_l2(
    walk: &mut Walk<'_, '_>,
    walked: &mut Walked,
    l1_index: u64,
    offset: u64,
) -> Result<(), Unreadable> {
    if walk.skips(offset) {
        return Ok(());
    }
    walk.reader.pay_for_keeping()?;
    walk.tables.push(TableUse {
        layer: walked.layer.id,
        l1_index,
        offset,
    });
    if offset >= walk.reader.length() {
        return Ok(());
    }
    let table = walk.reader.bytes(offset, walk.header.cluster_size())?;
    let extended = walk.header.extended_l2();
    let mut previous_end = None;
    for (l2_index, raw) in (0..).zip(table.chunks_exact(if extended { 16 } else { 8 })) {
        let entry = Entry {
            layer: walked.layer.id,
            l1_index,
            l2_index,
            word: be64(raw),
            bitmap: if extended { be64(&raw[8..]) } else { 0 },
        };
        if entry.word == 0 && entry.bitmap == 0 {
            continue;
        }
        let mapping = if entry.word & COMPRESSED == 0 {
            standard(walk, walked, &entry, offset, &mut previous_end)?
        } else {
            compressed(walk, walked, &entry)?
        };
        if let Some(mapping) = mapping {
            walk.reader.pay_for_keeping()?;
            let guest = l1_index * walk.header.l2_entries() + l2_index;
            walked.layer.map.insert(guest, mapping);
        }
    }
    Ok(())
}

fn compressed(
    walk: &mut Walk<'_, '_>,
    walked: &mut Walked,
    entry: &Entry,
) -> Result<Option<Mapping>, Unreadable> {
    let referrer = Referrer::Compressed {
        layer: entry.layer,
        l1_index: entry.l1_index,
        l2_index: entry.l2_index,
    };
    if entry.word & COPIED != 0 {
        walk.corrupt(referrer, Wrong::CompressedCopied);
    }
    if walk.header.external_data() {
        walk.corrupt(referrer, Wrong::CompressedExternal);
        return Ok(None);
    }
    if entry.bitmap != 0 {
        let bitmap = entry.bitmap;
        walk.corrupt(referrer, Wrong::CompressedSubclusters { bitmap });
        return Ok(None);
    }
    // Bits 0 to x-1 are the offset, bits x to 61 the number of sectors after the first.
    let x = 62 - (walk.header.cluster_bits - 8);
    let offset = entry.word & ((1 << x) - 1);
    let sectors = (entry.word & (COMPRESSED - 1)) >> x;
    let bytes = (sectors + 1) * 512 - offset % 512;
    walk.refer(referrer, offset, bytes)?;
    walked.statistics.allocated += 1;
    walked.statistics.fragmented += 1;
    walked.statistics.compressed += 1;
    Ok(Some(Mapping::Compressed { offset, bytes }))
}

fn standard(
    walk: &mut Walk<'_, '_>,
    walked: &mut Walked,
    entry: &Entry,
    table: u64,
    previous_end: &mut Option<u64>,
) -> Result<Option<Mapping>, Unreadable> {
    let (word, bitmap) = (entry.word, entry.bitmap);
    let extended = walk.header.extended_l2();
    let external = walk.header.external_data();
    let offset = word & OFFSET;
    if word & L2_RESERVED != 0 {
        walk.corrupt(entry.data(), Wrong::Reserved { entry: word });
    }
    let zero = !extended && word & ZERO != 0;
    let unallocated = offset == 0 && !(external && word & COPIED != 0);
    if zero && offset == 0 {
        return Ok(Some(Mapping::Zero));
    }
    if !zero && unallocated {
        if bitmap & ALLOCATED_SUBCLUSTERS != 0 {
            walk.corrupt(entry.data(), Wrong::SubclustersWithoutCluster { bitmap });
        }
        return Ok(subclusters(0, bitmap));
    }
    if bitmap >> 32 & bitmap & ALLOCATED_SUBCLUSTERS != 0 {
        walk.corrupt(entry.data(), Wrong::Subclusters { bitmap });
    }
    if !walk.header.is_aligned(offset) {
        walk.corrupt(entry.data(), Wrong::Unaligned { offset });
        let holds_data = if extended {
            bitmap & ALLOCATED_SUBCLUSTERS != 0
        } else {
            !zero
        };
        if !holds_data && word & L2_RESERVED == 0 {
            walk.empty.push(EmptyEntry {
                referrer: entry.data(),
                table,
                l2_index: entry.l2_index,
                offset,
            });
        }
    }
    walked.statistics.allocated += 1;
    walked.statistics.fragmented += u64::from(previous_end.is_some_and(|end| end != offset));
    *previous_end = Some(offset + walk.header.cluster_size());
    if !external {
        walk.refer_cluster(entry.data(), offset)?;
    }
    // qemu does not look behind an L1 entry that has bits but no offset.
    if table != 0 {
        walked.copied_bits.push(CopiedBit {
            referrer: entry.data(),
            cluster: offset >> walk.header.cluster_bits,
            copied: word & COPIED != 0,
            table: table >> walk.header.cluster_bits,
        });
    }
    Ok(if extended {
        subclusters(offset, bitmap)
    } else if zero {
        Some(Mapping::Preallocated { offset })
    } else {
        Some(Mapping::Data { offset })
    })
}

/// What an extended entry reads as; `None` for one without any subcluster.
fn subclusters(offset: u64, bitmap: u64) -> Option<Mapping> {
    let zero = (bitmap >> 32) as u32;
    let allocated = (bitmap & ALLOCATED_SUBCLUSTERS) as u32;
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
