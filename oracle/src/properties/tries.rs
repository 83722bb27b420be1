//! How many sizes of the reftable the algorithm `planned` has to try at most.

use crate::format::REFTABLE_MAX;
use crate::toy::Shape;

/// The sizes that the number of tries depends on.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// B, refcounts of a refblock.
    pub refcounts: u64,
    /// E, entries of a reftable cluster.
    pub entries: u64,
    /// Clusters of the largest reftable.
    pub most: u64,
}

impl Sizes {
    /// Those of a shape.
    pub fn of(shape: Shape) -> Self {
        Self {
            refcounts: shape.refcounts().into(),
            entries: shape.entries().into(),
            most: REFTABLE_MAX >> shape.cluster_bits(),
        }
    }

    /// The number of tries within which a placement is found or ruled out, in the file or with the
    /// space after it, when `reserved` clusters must be worked around. `None`: no bound but that each
    /// try is larger than the one before (only toys with E(B-1) <= 2).
    ///
    /// A table of R clusters covers R*E ranges. What it lacks are the clusters of the table and a
    /// refblock for each of these ranges that is used or has a free cluster, less their free
    /// clusters; the try fails if that is more than 0. The next, larger by d, is the least with room
    /// for a table of R, so what it lacks can only be its own further clusters: d at most. That it may
    /// have to be larger to cover itself only adds ranges, and to d.
    ///
    /// Nothing reserved: the first try covers the last used cluster, so each further cluster of
    /// reftable adds E empty ranges, worth y = E(B-1) places. Where s are lacking, d = ceil(s/y), and
    /// the next lacks s - (y-1) d <= s/y. The first lacks its own clusters and R*E refblocks at most;
    /// so the second, with M the largest reftable, is larger by at most ceil(M(E+1)/y) and lacks no
    /// more than that, and from there each lacks at most a yth of the one before. At every geometry
    /// of the format that is less than y, and the third try is the last.
    ///
    /// S reserved: if a try grown by d and the next, grown by d', both fail, the ranges between them
    /// give less than d + d' places, so that more than y d' - d - d' of their clusters are reserved.
    /// Summed over k failing tries after the second, itself grown by at most M: S + M >= (y-2) k.
    pub const fn proven_tries(self, reserved: u64) -> Option<u64> {
        let places = self.entries * (self.refcounts - 1);
        if places < 2 || (places == 2 && reserved > 0) {
            return None;
        }
        if reserved > 0 {
            return Some(3 + (reserved + self.most) / (places - 2));
        }
        let mut tries = 2;
        let mut lacking = (self.most * (self.entries + 1)).div_ceil(places);
        while lacking > 0 {
            lacking /= places;
            tries += 1;
        }
        Some(tries)
    }
}
