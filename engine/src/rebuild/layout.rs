//! What a planner decides.

use crate::geometry::Geometry;
use crate::table::{RefcountTable, Run, RunSet};
use crate::units::{Cluster, ClusterCount, Offset, RefblockIndex};

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

    /// The bytes of a refblock: what `references` counts, and the layout's own clusters
    /// (`allocated`, from [`Layout::allocated`]).
    pub fn encode_refblock(
        references: &RefcountTable,
        allocated: &RunSet,
        refblock: RefblockIndex,
        bytes: &mut [u8],
    ) {
        let geometry = references.geometry();
        references.encode(refblock, bytes);
        let first = geometry.first_covered(refblock);
        let past = first.saturating_add(ClusterCount(geometry.refcounts_per_refblock()));
        let mut from = first;
        while let Some(cluster) = allocated.next_from(from).filter(|cluster| *cluster < past) {
            let index = cluster.since(first).0 as usize;
            crate::table::width::set(geometry.order(), bytes, index, 1);
            from = cluster.saturating_add(ClusterCount(1));
        }
    }

    /// The reftable's entries that are not 0, as byte position within the table and offset of the
    /// refblock.
    pub fn reftable_entries(&self, geometry: &Geometry) -> impl Iterator<Item = (u64, Offset)> {
        self.refblocks.iter().map(|(refblock, cluster)| {
            let (cluster_index, within) = (
                refblock.0 / geometry.entries_per_reftable_cluster(),
                refblock.0 % geometry.entries_per_reftable_cluster(),
            );
            let position = cluster_index * geometry.cluster_size() + within * 8;
            (position, Offset(cluster.0 << geometry.cluster_bits()))
        })
    }
}
