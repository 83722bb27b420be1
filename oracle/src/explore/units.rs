//! The pieces that an exploration is cut into, in their order.

use super::bounds::{Bounds, OLD_MAX, SHAPES};
use crate::toy::{Clusters, Shape};

/// Binary logarithm of the number of patterns in a unit.
const UNIT_BITS: u32 = 9;

/// Patterns of used clusters that are looked at together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Clusters of the file.
    pub clusters: u32,
    /// The sizes of the tables.
    pub shape: Shape,
    /// The first pattern; bit n stands for cluster n + 1, as cluster 0 is always used.
    first: u64,
    /// One after the last.
    end: u64,
}

/// All units within bounds, the smallest files first.
pub(super) fn all(bounds: &Bounds) -> Vec<Unit> {
    let mut units = Vec::new();
    for clusters in 1..=bounds.clusters {
        let patterns = 1_u64 << (clusters - 1);
        for shape in SHAPES {
            let firsts = (0..patterns).step_by(1 << UNIT_BITS);
            units.extend(firsts.map(|first| Unit {
                clusters,
                shape,
                first,
                end: patterns.min(first + (1 << UNIT_BITS)),
            }));
        }
    }
    units
}

impl Unit {
    /// The sets of used clusters.
    pub fn patterns(&self) -> impl Iterator<Item = Clusters> + use<> {
        (self.first..self.end).map(|pattern| Clusters(u128::from(pattern) << 1 | 1))
    }

    /// The sets of old clusters among the free ones: none, then every set of up to three, of which
    /// the reftable's entries can hold the refblocks.
    pub(super) fn old(&self, used: Clusters, bounds: &Bounds) -> impl Iterator<Item = Clusters> {
        let free = Clusters::run(0, self.clusters).without(used);
        let most = match bounds.clusters_with_old {
            largest if self.clusters > largest => 0,
            _ => OLD_MAX.min(1 + self.shape.entries()),
        };
        free.subsets().filter(move |old| old.count() <= most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_of_clusters_is_there_once() {
        let clusters = Clusters(0b110_1011);
        let sets: std::collections::BTreeSet<_> = clusters.subsets().collect();
        assert!(sets.iter().all(|set| set.without(clusters).is_empty()));
        assert_eq!(clusters.subsets().count(), sets.len());
        assert_eq!(sets.len(), 1 << 5);
        assert_eq!(Clusters::NONE.subsets().count(), 1);
    }

    #[test]
    fn every_pattern_of_every_size_is_there_once() {
        let bounds = Bounds::up_to(12);
        let mut seen = std::collections::BTreeSet::new();
        for unit in all(&bounds) {
            for used in unit.patterns() {
                assert!(used.contains(0) && used.end() <= unit.clusters);
                assert!(seen.insert((unit.clusters, unit.shape, used)));
            }
        }
        assert_eq!(seen.len(), SHAPES.len() * ((1 << 12) - 1));
    }
}
