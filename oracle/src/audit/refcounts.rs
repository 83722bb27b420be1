//! What the disk says of each cluster (specification, "Host cluster management").

use litemap::LiteMap;

use super::corruption::Wrong;
use super::header::Header;
use super::qemu_view::habits::{can_be_read, is_seen_shared};
use super::reader::{Unreadable, be};
use super::references::{Referrer, Walk};

/// Bits 9 to 63 of a reftable entry.
const OFFSET: u64 = 0xffff_ffff_ffff_fe00;
/// Bits 0 to 8 of a reftable entry.
const RESERVED: u64 = 0x1ff;

/// The refcounts on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnDisk {
    header: Header,
    /// The reftable's entries that are not 0, as they are.
    pub entries: LiteMap<u64, u64>,
    /// The refcounts that are not 0, by cluster.
    counts: LiteMap<u64, u64>,
}

impl OnDisk {
    /// A cluster's refcount; `None` where the reftable entry leads into the middle of a cluster, or
    /// so far that nothing can be read there.
    pub fn count(&self, cluster: u64) -> Option<u64> {
        let entry = self
            .entries
            .get(&(cluster / self.header.refblock_entries()));
        if entry.is_some_and(|entry| !self.is_readable(entry & OFFSET)) {
            return None;
        }
        Some(self.counts.get(&cluster).copied().unwrap_or(0))
    }

    /// Whether a refblock at this offset can be read.
    pub fn is_readable(&self, offset: u64) -> bool {
        self.header.is_aligned(offset) && can_be_read(offset, self.header.cluster_size())
    }

    /// All refcounts that are not 0, by cluster.
    pub const fn counts(&self) -> &LiteMap<u64, u64> {
        &self.counts
    }

    /// Where each refblock is, in bytes, by the range of clusters that it covers.
    pub fn refblocks(&self) -> impl Iterator<Item = (u64, u64)> {
        let offsets = self.entries.iter();
        let offsets = offsets.map(|(&index, &entry)| (index, entry & OFFSET));
        offsets.filter(|&(_, offset)| offset != 0)
    }
}

/// Reads the reftable and all refblocks.
pub(super) fn read(walk: &mut Walk<'_>) -> Result<OnDisk, Unreadable> {
    let header = walk.header;
    let entries = header.reftable_clusters * (header.cluster_size() / 8);
    let mut disk = OnDisk {
        header,
        ..OnDisk::default()
    };
    let entries = if header.reftable_usable { entries } else { 0 };
    for (index, entry) in walk.reader.table(header.reftable_offset, entries)? {
        walk.reader.pay_for_keeping()?;
        disk.entries.insert(index, entry);
    }
    for (index, offset) in disk.refblocks().collect::<Vec<_>>() {
        if !disk.is_readable(offset) || offset >= walk.reader.length() {
            continue;
        }
        let block = walk.reader.bytes(offset, header.cluster_size())?;
        let first = index.saturating_mul(header.refblock_entries());
        for (at, count) in nonzero_counts(&block, header.refcount_bits()) {
            walk.reader.pay_for_keeping()?;
            disk.counts.insert(first.saturating_add(at), count);
        }
    }
    Ok(disk)
}

/// The refcounts of a refblock that are not 0, with their places: big-endian from 8 bits on,
/// narrower ones from the low bits of their byte up.
pub(crate) fn nonzero_counts(block: &[u8], bits: u64) -> impl Iterator<Item = (u64, u64)> {
    let width = bits.div_ceil(8) as usize;
    let each = 8 / bits.min(8);
    let raw = (0_u64..)
        .zip(block.chunks_exact(width))
        .filter(|(_, raw)| raw.iter().any(|&byte| byte != 0));
    raw.flat_map(move |(at, raw)| {
        let raw = be(raw);
        (0..each).filter_map(move |place| {
            let count = raw >> (place * bits) & (u64::MAX >> (64 - bits));
            (count != 0).then_some((at * each + place, count))
        })
    })
}

/// Counts the references to refblocks, and judges the reftable's place and entries.
pub(super) fn judge(walk: &mut Walk<'_>) -> Result<(), Unreadable> {
    if !walk.header.reftable_usable {
        let offset = walk.header.reftable_offset;
        let wrong = Wrong::Impossible("cannot be at this offset", offset);
        walk.corrupt(Referrer::Reftable, wrong);
    }
    for (index, entry) in walk.found.disk.entries.clone() {
        let referrer = Referrer::Refblock { index };
        let offset = entry & OFFSET;
        let cluster = offset >> walk.header.cluster_bits;
        let bytes = walk.header.cluster_size();
        if entry & RESERVED != 0 {
            walk.corrupt(referrer, Wrong::Reserved(entry));
        } else if !walk.header.is_aligned(offset) {
            walk.corrupt(referrer, Wrong::Unaligned(offset));
        } else if cluster >= walk.found.clusters {
            walk.corrupt(referrer, Wrong::PastTheEnd { offset, bytes });
        } else {
            walk.refer_cluster(referrer, offset)?;
            if is_seen_shared(walk.found.references_to(cluster), &walk.header) {
                let wrong = "leads to a cluster to which there are other references";
                walk.corrupt(referrer, Wrong::Impossible(wrong, cluster));
            }
        }
    }
    Ok(())
}
