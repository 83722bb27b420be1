//! Whether new refcount structures can be placed at all, and with how small a reftable: by trying
//! every reftable at every place with every choice of ranges. Written without a look at any
//! planner; slow, and meant to be obvious.

use crate::toy::{CLUSTERS_MAX, Clusters, Shape, Toy};

/// Where structures may be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Space {
    /// The sizes of the tables.
    pub shape: Shape,
    /// Clusters with references: each range with one of them needs a refblock.
    pub used: Clusters,
    /// Clusters that nothing may be placed in, and that need no refblock.
    pub reserved: Clusters,
    /// Clusters that there are.
    pub clusters: u32,
}

impl Space {
    /// The toy's file as it is.
    pub const fn inside_file(toy: &Toy) -> Self {
        Self {
            shape: toy.shape,
            used: toy.used,
            reserved: toy.old,
            clusters: toy.clusters,
        }
    }

    /// Everything that the toy's storage can hold. Where it can grow: as much as is certainly
    /// enough, and as no smaller reftable than that takes can reach beyond. `None` where that is
    /// more than a set of clusters holds.
    pub fn whole_storage(toy: &Toy) -> Option<Self> {
        let clusters = toy.capacity().unwrap_or_else(|| {
            let (refcounts, entries) = (toy.shape.refcounts(), toy.shape.entries());
            let covered_by_one = refcounts * entries;
            // All of the new structures after the end of the file, every range in use.
            let enough = (1..=CLUSTERS_MAX).find(|tables| {
                let all = tables * covered_by_one;
                toy.clusters + tables + tables * entries <= all
            });
            enough.unwrap_or(CLUSTERS_MAX) * covered_by_one
        });
        (clusters <= CLUSTERS_MAX).then_some(Self {
            clusters,
            ..Self::inside_file(toy)
        })
    }

    /// The fewest clusters of reftable with which there is a placement; `None` when there is none.
    pub fn least_table(&self) -> Option<u32> {
        (1..=self.clusters).find(|tables| self.has_placement(*tables))
    }

    /// Whether there is a placement with a reftable of `tables` clusters.
    pub fn has_placement(&self, tables: u32) -> bool {
        let covered = tables * self.shape.entries() * self.shape.refcounts();
        let reach = covered.min(self.clusters);
        if self.used.end() > reach {
            return false;
        }
        (0..=reach.saturating_sub(tables)).any(|first| {
            let table = Clusters::run(first, tables);
            let lies_free = table.and(self.used.or(self.reserved)).is_empty();
            lies_free && table.end() <= reach && self.refblocks_fit(table, reach)
        })
    }

    /// Whether, with the reftable in `table`, some choice of ranges has a free cluster for the
    /// refblock of each. It must include the ranges in use; a refblock may go into any of them.
    fn refblocks_fit(&self, table: Clusters, reach: u32) -> bool {
        let in_use = self.used.or(table);
        let free = Clusters::run(0, reach).without(in_use.or(self.reserved));
        let ranges = reach.div_ceil(self.shape.refcounts());
        let range = |range: u32| {
            Clusters::run(range << self.shape.refblock_bits, self.shape.refcounts())
                .and(Clusters::run(0, reach))
        };
        let needed = (0..ranges).filter(|index| !range(*index).and(in_use).is_empty());
        let (mut clusters, mut count) = (Clusters::NONE, 0);
        for index in needed {
            clusters = clusters.or(range(index));
            count += 1;
        }
        // Choosing among ranges that are wholly free makes no difference: the lowest are taken.
        let (mut whole, mut partial) = (Clusters::NONE, Clusters::NONE);
        for index in (0..ranges).filter(|index| range(*index).and(in_use).is_empty()) {
            let is_whole = range(index).and(free).count() == self.shape.refcounts();
            let kind = if is_whole { &mut whole } else { &mut partial };
            *kind = kind.or(Clusters::run(index, 1));
        }
        partial.subsets().any(|chosen| {
            let union = |all: Clusters, index| all.or(range(index));
            let mut clusters = chosen.iter().fold(clusters, union);
            let mut refblocks = count + chosen.count();
            let fits = |clusters: Clusters, refblocks| clusters.and(free).count() >= refblocks;
            fits(clusters, refblocks)
                || whole.iter().any(|index| {
                    clusters = union(clusters, index);
                    refblocks += 1;
                    fits(clusters, refblocks)
                })
        })
    }
}
