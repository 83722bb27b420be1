//! The refcount structures of a synthetic image: counted one by one, placed lowest first.

use std::collections::{BTreeMap, BTreeSet};

use super::synthetic::Builder;
use crate::case::refcount::Refcount;
use crate::case::validate::{Impossible, in_range};
use crate::format::REFTABLE_MAX;

/// Places and writes a refblock for each range in use and the reftable, with so many clusters to
/// spare; the reftable's first cluster, and how many it has.
pub(super) fn lay_out(builder: &mut Builder<'_>, spare: u64) -> Result<(u64, u64), Impossible> {
    let (sizes, allocator) = (builder.sizes, &mut builder.allocator);
    // By the range that each covers.
    let mut refblocks = BTreeMap::new();
    let (mut reftable, mut clusters) = (0, 0);
    loop {
        let used = allocator.used().iter();
        let ranges = used.map(|used| used / sizes.refblock_entries);
        let missing = ranges.filter(|range| !refblocks.contains_key(range));
        let missing: BTreeSet<u64> = missing.collect();
        for &range in &missing {
            refblocks.insert(range, allocator.take_lowest(1)?);
        }
        let last = refblocks.last_key_value();
        let entries = last.map_or(0, |(last, _)| last + 1);
        let needed = sizes.clusters(entries * 8) + spare;
        let most = REFTABLE_MAX.max(sizes.cluster);
        in_range(
            "the reftable's size in bytes",
            needed * sizes.cluster,
            0,
            most,
        )?;
        if needed > clusters {
            allocator.release(reftable, clusters);
            reftable = allocator.take_lowest(needed)?;
            clusters = needed;
        } else if missing.is_empty() {
            break;
        }
    }
    let structures = (reftable..reftable + clusters).chain(refblocks.values().copied());
    structures.for_each(|cluster| builder.refer(cluster));
    let table = sizes.offset(reftable);
    for (range, cluster) in refblocks {
        let refblock = sizes.offset(cluster);
        builder
            .bytes
            .put(table + range * 8, &refblock.to_be_bytes());
        let first = range * sizes.refblock_entries;
        let covered = builder.counts.range(first..first + sizes.refblock_entries);
        for (cluster, &count) in covered {
            let (order, index) = (builder.image.refcount_order, cluster - first);
            Refcount::new(order, refblock, index).write(&mut builder.bytes, count);
        }
    }
    Ok((reftable, clusters))
}
