//! The clusters of one refblock whose refcount is not the number of their references.

use crate::finding::Miscount;
use crate::table::{RefcountTable, Run, width};
use crate::units::Cluster;

/// Clusters that are looked at in one go.
const BLOCK: usize = 64;

/// The clusters that differ, in ascending order: each with the refcount that `found`, the refblock as
/// it is on disk, nothing where there is none, gives it, and the references, cut to the width.
/// `range` begins where the refblock's range does. Those of a block that differ are bits of one
/// number, so that equal ones cost next to nothing.
pub(crate) fn differences(
    table: &RefcountTable,
    found: &[u8],
    range: Run,
) -> impl Iterator<Item = Miscount> {
    let order = table.geometry().order();
    let max = order.max_refcount();
    let count = range.count.0 as usize;
    (0..count).step_by(BLOCK).flat_map(move |start| {
        let bytes = start * order.bits() as usize / 8;
        let on_disk = width::decode(order, found.get(bytes..).unwrap_or_default());
        let first = range.first.0 + start as u64;
        // What the disk can say of more references than its width counts is the largest refcount.
        let counted = table.block(first).map(|count| count.min(max));
        let pairs = on_disk.iter().zip(&counted);
        let differs = pairs.map(|(refcount, references)| u64::from(refcount != references));
        let bits = differs.zip(0..).fold(0, |bits, (bit, at)| bits | bit << at);
        let mut differing = bits & (u64::MAX >> (BLOCK - (count - start).min(BLOCK)));
        std::iter::from_fn(move || {
            let at = differing.trailing_zeros() as usize;
            let (refcount, references) = (*on_disk.get(at)?, counted[at]);
            differing &= differing - 1;
            let cluster = Cluster(first + at as u64);
            Some(Miscount {
                cluster,
                refcount,
                references,
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Geometry;
    use crate::units::ClusterCount;

    #[test]
    fn they_are_those_of_each_cluster_on_its_own() {
        for order in 0..=6 {
            let geometry = Geometry::new(9, order).expect("valid");
            let clusters = geometry.refcounts_per_refblock();
            let first = Cluster(clusters);
            for (step, on_disk) in [(1, 0), (7, 3), (70, 1), (200, 200)] {
                let mut table = RefcountTable::new(geometry);
                for cluster in (clusters..2 * clusters).step_by(step) {
                    table.add(Run::single(Cluster(cluster)), 1).expect("memory");
                }
                let mut found = vec![0; geometry.refblock_bytes()];
                for index in (0..clusters as usize).step_by(on_disk.max(1)) {
                    width::set(geometry.order(), &mut found, index, 1);
                }
                // As much as there is, a part of it, and no refblock at all.
                for (found, count) in [(&found[..], clusters), (&found, 130), (&[], clusters)] {
                    let range = Run::new(first, ClusterCount(count));
                    let differing = differences(&table, found, range);
                    let one_by_one = (0..count).filter_map(|index| {
                        let cluster = Cluster(clusters + index);
                        let refcount = width::get(geometry.order(), found, index as usize);
                        let references = table.get(cluster);
                        (refcount != references).then_some(Miscount {
                            cluster,
                            refcount,
                            references,
                        })
                    });
                    assert!(differing.eq(one_by_one), "{geometry:?}, every {step}");
                }
            }
        }
    }
}
