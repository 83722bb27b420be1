//! A toy image as sets of clusters: small enough that a set is one number, so that every toy there
//! is can be looked at.

mod structure;
mod word;

pub use structure::{ToyStructure, structure};
pub use word::{NoToy, Word};

use crate::case::model::Model;
pub use crate::case::model::Shape;
use crate::case::{Algorithm, Case, Image, Schedule, StorageLimit};

/// The most clusters that a toy, with everything that is placed in it, can have.
pub const CLUSTERS_MAX: u32 = u128::BITS;

/// A set of clusters: bit n is cluster n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Clusters(pub u128);

impl Clusters {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// `count` clusters from `first` on; those past the largest possible cluster are left out.
    pub const fn run(first: u32, count: u32) -> Self {
        match (first, count) {
            (CLUSTERS_MAX.., _) | (_, 0) => Self::NONE,
            (_, CLUSTERS_MAX..) => Self(u128::MAX << first),
            _ => Self(((1 << count) - 1) << first),
        }
    }

    /// How many there are.
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether a cluster is among them.
    pub const fn contains(self, cluster: u32) -> bool {
        cluster < CLUSTERS_MAX && self.0 >> cluster & 1 == 1
    }

    /// Those of either.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that the other does not have.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The lowest.
    pub const fn first(self) -> Option<u32> {
        match self.0 {
            0 => None,
            set => Some(set.trailing_zeros()),
        }
    }

    /// The first cluster after the highest; 0 when there are none.
    pub const fn end(self) -> u32 {
        u128::BITS - self.0.leading_zeros()
    }

    /// Every subset, the empty one first.
    pub fn subsets(self) -> impl Iterator<Item = Self> {
        // The next larger number whose ones are all in the set; 0 after the set itself.
        let next = move |subset: &Self| Self((subset.0 | !self.0).wrapping_add(1) & self.0);
        std::iter::successors(Some(Self::NONE), move |subset| {
            Some(next(subset)).filter(|next| !next.is_empty())
        })
    }

    /// In ascending order.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let next = Self(left).first()?;
            left &= left - 1;
            Some(next)
        })
    }
}

impl FromIterator<u32> for Clusters {
    fn from_iter<T: IntoIterator<Item = u32>>(clusters: T) -> Self {
        let single = clusters.into_iter().map(|cluster| Self::run(cluster, 1));
        single.fold(Self::NONE, Self::or)
    }
}

/// An image of which only this matters: what is used, what is reserved, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Toy {
    /// The sizes of its tables.
    pub shape: Shape,
    /// Clusters of the file.
    pub clusters: u32,
    /// Clusters with references; cluster 0, the header, always is.
    pub used: Clusters,
    /// Clusters of the old refcount structures, which nothing else refers to.
    pub old: Clusters,
    /// Whether there is room after the end.
    pub room: StorageLimit,
}

impl Toy {
    /// Clusters that the storage can hold; `None` without limit.
    pub const fn capacity(&self) -> Option<u32> {
        match self.room {
            StorageLimit::Growing => None,
            StorageLimit::Fixed { spare } => Some(self.clusters + spare),
        }
    }

    /// The toy as a case, for storing, replaying and building its bytes.
    pub fn to_case(&self, algorithm: Algorithm) -> Case {
        let references = (0..self.clusters).map(|cluster| {
            u64::from(self.used.contains(cluster)) * self.shape.references_of(cluster)
        });
        Case {
            image: Image::Model(Model {
                refblock_bits: self.shape.refblock_bits,
                reftable_entry_bits: self.shape.reftable_entry_bits,
                refcount_order: self.shape.refcount_order,
                references: references.collect(),
                old: self.old.iter().collect(),
            }),
            damage: Vec::new(),
            storage: self.room,
            algorithm,
            schedule: Schedule::Quiet,
        }
    }

    /// The toy of a case; `None` when the case is none, or too large for sets of clusters.
    pub fn from_case(case: &Case) -> Option<Self> {
        let Image::Model(model) = &case.image else {
            return None;
        };
        let clusters = u32::try_from(model.references.len()).ok()?;
        let counted = (0..).zip(&model.references);
        let counted = counted.filter(|(_, count)| **count > 0);
        let is_small = clusters <= CLUSTERS_MAX / 2;
        is_small.then(|| Self {
            shape: model.shape(),
            clusters,
            used: counted.map(|(cluster, _)| cluster).collect(),
            old: model.old.iter().copied().collect(),
            room: case.storage,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_clusters_counts_what_it_holds() {
        let set = Clusters::run(3, 4).or(Clusters::run(127, 9));
        assert_eq!(set.iter().collect::<Vec<_>>(), [3, 4, 5, 6, 127]);
        assert_eq!((set.count(), set.first(), set.end()), (5, Some(3), 128));
        assert!(set.contains(6) && !set.contains(7) && !set.contains(128));
        assert_eq!(set.without(Clusters::run(0, 128)), Clusters::NONE);
        assert_eq!(Clusters::run(0, 128).count(), 128);
    }
}
