//! What a planner decides.

use crate::geometry::Geometry;
use crate::table::{OutOfMemory, Run, RunSet};
use crate::units::{Cluster, RefblockIndex};

/// Where new refcount structures go.
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
    /// The order in which the algorithm itself writes refblocks, as positions in `refblocks`: QEMU's
    /// write some more than once. A repair writes each once, with its final counts.
    pub order: Vec<usize>,
    /// How many sizes of the reftable were tried, this one included.
    pub tries: u64,
}

impl Layout {
    /// The clusters that the new structures count beside what they were built from: themselves
    /// and what was abandoned. Each of them is counted once.
    pub fn allocated(&self) -> RunSet {
        let refblocks = self.refblocks.iter();
        let refblocks = refblocks.map(|(_, cluster)| Run::single(*cluster));
        let abandoned = self.abandoned.runs().iter().copied();
        refblocks.chain(abandoned).chain([self.reftable]).collect()
    }

    /// The first cluster after the last one that it allocates.
    pub fn end(&self) -> Cluster {
        self.allocated().runs().last().map_or(Cluster(0), Run::end)
    }

    /// The bytes of the reftable.
    pub(crate) fn encode_reftable(&self, geometry: &Geometry) -> Result<Vec<u8>, OutOfMemory> {
        let length = (self.reftable.count.0 << geometry.cluster_bits()) as usize;
        let mut bytes = Vec::new();
        bytes.try_reserve(length).map_err(|_| OutOfMemory)?;
        bytes.resize(length, 0);
        let (entries, _) = bytes.as_chunks_mut::<8>();
        for (refblock, cluster) in &self.refblocks {
            if let Some(entry) = entries.get_mut(refblock.0 as usize) {
                *entry = (cluster.0 << geometry.cluster_bits()).to_be_bytes();
            }
        }
        Ok(bytes)
    }
}
