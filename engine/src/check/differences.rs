//! The clusters of one refblock whose refcount is not the number of their references.

use crate::table::{RefcountTable, Run, width};
use crate::units::Cluster;

/// Clusters that are looked at in one go.
const BLOCK: usize = 64;

/// The clusters that differ, in ascending order: each with the refcount and the
/// references, cut to the width. Those
/// of a block that differ are bits of one number, so that equal ones cost next to nothing.
pub(super) struct Differences<'a> {
    table: &'a RefcountTable,
    /// The refblock as it is on disk, nothing where there is none.
    found: &'a [u8],
    /// The clusters to look at, which begin where the refblock's range does.
    range: Run,
    /// How many of them have been decoded.
    decoded: usize,
    refcounts: [u64; BLOCK],
    references: [u64; BLOCK],
    /// Those of the block that differ and were not handed over.
    left: u64,
}

impl<'a> Differences<'a> {
    pub fn new(table: &'a RefcountTable, found: &'a [u8], range: Run) -> Self {
        Self {
            table,
            found,
            range,
            decoded: 0,
            refcounts: [0; BLOCK],
            references: [0; BLOCK],
            left: 0,
        }
    }

    /// Decodes the next block; says whether there was one.
    fn advance(&mut self) -> bool {
        let left = (self.range.count.0 as usize).saturating_sub(self.decoded);
        if left == 0 {
            return false;
        }
        let order = self.table.geometry().order();
        let first = self.decoded;
        let bytes = first * order.bits() as usize / 8;
        self.refcounts = width::decode(order, self.found.get(bytes..).unwrap_or_default());
        self.references = self.table.block(self.range.first.0 + first as u64);
        // What the disk can say of more references than its width counts is the largest refcount.
        for references in &mut self.references {
            *references = (*references).min(order.max_refcount());
        }
        let pairs = self.refcounts.iter().zip(&self.references);
        let differing = pairs.map(|(refcount, references)| u64::from(refcount != references));
        let bits = differing
            .zip(0..)
            .fold(0, |bits, (differs, position)| bits | differs << position);
        let inside = u64::MAX >> (BLOCK - left.min(BLOCK));
        self.left = bits & inside;
        self.decoded += BLOCK;
        true
    }
}

impl Iterator for Differences<'_> {
    type Item = (Cluster, u64, u64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        while self.left == 0 {
            if !self.advance() {
                return None;
            }
        }
        let position = self.left.trailing_zeros() as usize % BLOCK;
        self.left &= self.left - 1;
        let cluster = self.range.first.0 + (self.decoded - BLOCK + position) as u64;
        let (refcount, references) = (self.refcounts[position], self.references[position]);
        Some((Cluster(cluster), refcount, references))
    }
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
                    let differences = Differences::new(&table, found, range);
                    let one_by_one = (0..count).filter_map(|index| {
                        let cluster = Cluster(clusters + index);
                        let refcount = width::get(geometry.order(), found, index as usize);
                        let references = table.get(cluster);
                        (refcount != references).then_some((cluster, refcount, references))
                    });
                    assert!(differences.eq(one_by_one), "{geometry:?}, every {step}");
                }
            }
        }
    }
}
