//! What a planner decides.

use crate::geometry::Geometry;
use crate::table::{Run, RunSet};
use crate::units::{Cluster, RefblockIndex};

/// Where new refcount structures go, and in which order they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The reftable's clusters.
    pub reftable: Run,
    /// Each refblock and its cluster, in ascending order of the refblocks.
    pub refblocks: Vec<(RefblockIndex, Cluster)>,
    /// Clusters of reftables that were given up for larger ones: counted once by the new
    /// structures and referred to by nobody, that is, leaked. [`Algorithm::Planned`] has none.
    ///
    /// [`Algorithm::Planned`]: super::Algorithm::Planned
    pub abandoned: RunSet,
    /// The order in which refblocks are written, as positions in `refblocks`; QEMU's algorithms
    /// write some more than once.
    pub order: Vec<usize>,
    /// How many sizes of the reftable were tried, this one included.
    pub tries: u64,
}

impl Layout {
    /// The clusters that the new structures count beside what they were built from: themselves
    /// and what was abandoned. Each of them is counted once.
    #[must_use]
    pub fn allocated(&self) -> RunSet {
        let refblocks = self
            .refblocks
            .iter()
            .map(|(_, cluster)| Run::single(*cluster));
        let abandoned = self.abandoned.runs().iter().copied();
        refblocks.chain(abandoned).chain([self.reftable]).collect()
    }

    /// The first cluster after the last one that it allocates.
    #[must_use]
    pub fn end(&self) -> Cluster {
        let refblocks = self
            .refblocks
            .iter()
            .map(|(_, cluster)| Run::single(*cluster).end());
        let abandoned = self.abandoned.runs().last().map(Run::end);
        refblocks
            .chain(abandoned)
            .fold(self.reftable.end(), Cluster::max)
    }

    /// Fills `bytes`, zeros so far, with the part of the reftable that begins at its byte `start`.
    pub(crate) fn encode_reftable(&self, geometry: &Geometry, start: u64, bytes: &mut [u8]) {
        let first = self
            .refblocks
            .partition_point(|(refblock, _)| Self::position(geometry, *refblock) < start);
        for (refblock, cluster) in &self.refblocks[first..] {
            let at = (Self::position(geometry, *refblock) - start) as usize;
            let Some(word) = bytes.get_mut(at..at + 8) else {
                break;
            };
            let offset = cluster.0 << geometry.cluster_bits();
            word.copy_from_slice(&offset.to_be_bytes());
        }
    }

    /// Where in the reftable a refblock's entry is, in bytes.
    const fn position(geometry: &Geometry, refblock: RefblockIndex) -> u64 {
        let cluster = refblock.0 / geometry.entries_per_reftable_cluster();
        let within = refblock.0 % geometry.entries_per_reftable_cluster();
        cluster * geometry.cluster_size() + within * 8
    }
}
