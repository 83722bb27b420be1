//! The refcount structures of a synthetic image: counted one by one, placed lowest first.

use std::collections::BTreeMap;

use super::Piece;
use super::allocator::Allocator;
use super::geometry::Sizes;
use crate::case::impossible::Impossible;

/// The largest reftable that qemu opens, in bytes.
const REFTABLE_MAX: u64 = 8 << 20;

/// Where the structures are.
#[derive(Default)]
pub(super) struct Placed {
    /// First cluster of the reftable; 0 when there is none.
    pub(super) reftable: u64,
    /// Clusters of the reftable.
    pub(super) reftable_clusters: u64,
    /// Refblocks by the range that they cover.
    refblocks: BTreeMap<u64, u64>,
}

/// Finds places for a refblock of each range in use and for the reftable, and counts them.
pub(super) fn place(
    sizes: &Sizes,
    spare: u64,
    allocator: &mut Allocator,
    counts: &mut BTreeMap<u64, u64>,
) -> Result<Placed, Impossible> {
    let mut placed = Placed::default();
    loop {
        let ranges = allocator
            .used()
            .iter()
            .map(|used| used / sizes.refblock_entries);
        let missing: Vec<u64> = ranges
            .filter(|range| !placed.refblocks.contains_key(range))
            .collect();
        for range in &missing {
            if !placed.refblocks.contains_key(range) {
                let cluster = allocator.take_lowest(1)?;
                placed.refblocks.insert(*range, cluster);
            }
        }
        let ranges = placed
            .refblocks
            .last_key_value()
            .map_or(0, |(last, _)| last + 1);
        let needed = sizes.clusters(ranges * 8) + spare;
        if needed * sizes.cluster > REFTABLE_MAX.max(sizes.cluster) {
            return Err(Impossible::ReftableTooLarge {
                bytes: needed * sizes.cluster,
                max: REFTABLE_MAX,
            });
        }
        if needed > placed.reftable_clusters {
            allocator.release(placed.reftable, placed.reftable_clusters);
            placed.reftable = allocator.take_lowest(needed)?;
            placed.reftable_clusters = needed;
        } else if missing.is_empty() {
            break;
        }
    }
    let reftable = placed.reftable..placed.reftable + placed.reftable_clusters;
    for cluster in reftable.chain(placed.refblocks.values().copied()) {
        *counts.entry(cluster).or_default() += 1;
    }
    Ok(placed)
}

/// The bytes of the structures.
pub(super) fn write(
    sizes: &Sizes,
    placed: &Placed,
    counts: &BTreeMap<u64, u64>,
    pieces: &mut Vec<Piece>,
) {
    for (&range, &cluster) in &placed.refblocks {
        pieces.push(Piece {
            offset: sizes.offset(placed.reftable) + range * 8,
            bytes: sizes.offset(cluster).to_be_bytes().to_vec(),
        });
        let first = range * sizes.refblock_entries;
        let mut bytes = Vec::new();
        for (cluster, &count) in counts.range(first..first + sizes.refblock_entries) {
            put(&mut bytes, cluster - first, sizes.refcount_bits, count);
        }
        let offset = sizes.offset(cluster);
        pieces.push(Piece { offset, bytes });
    }
}

/// Stores refcount number `index`: big-endian from 8 bits on, narrower ones from the low bits of
/// their byte up. `bytes` grows as needed.
pub(super) fn put(bytes: &mut Vec<u8>, index: u64, bits: u32, count: u64) {
    let first_bit = index * u64::from(bits);
    let at = (first_bit / 8) as usize;
    let width = bits.div_ceil(8) as usize;
    if bytes.len() < at + width {
        bytes.resize(at + width, 0);
    }
    if bits < 8 {
        bytes[at] |= (count as u8) << (first_bit % 8);
    } else {
        bytes[at..at + width].copy_from_slice(&count.to_be_bytes()[8 - width..]);
    }
}
