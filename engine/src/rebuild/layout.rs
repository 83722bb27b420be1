//! What a planner decides.

use std::ops::Range;

use crate::geometry::Geometry;
use crate::table::{OutOfMemory, RefcountTable, Run, RunSet};
use crate::units::{Cluster, Offset, RefblockIndex};

/// Bytes written at once, at most: enough to make joining worthwhile, little enough to hold.
const BATCH_BYTES: u64 = 1 << 20;

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
        let refblocks = self.refblocks.iter();
        let refblocks = refblocks.map(|(_, cluster)| Run::single(*cluster));
        let abandoned = self.abandoned.runs().iter().copied();
        refblocks.chain(abandoned).chain([self.reftable]).collect()
    }

    /// The first cluster after the last one that it allocates.
    #[must_use]
    pub fn end(&self) -> Cluster {
        self.allocated().runs().last().map_or(Cluster(0), Run::end)
    }

    /// The refblocks that are written at once, neighbours, as ranges of [`Self::order`].
    pub(crate) fn batches(&self, geometry: &Geometry) -> impl Iterator<Item = Range<usize>> {
        let most = at_once(geometry);
        let after = |position: &usize| Some(Run::single(self.place(*position)?).end());
        let neighbours = move |one: &usize, next: &usize| after(one) == self.place(*next);
        let runs = self.order.chunk_by(neighbours);
        let batches = runs.flat_map(move |run| run.chunks(most));
        batches.scan(0, |start, batch| {
            let range = *start..*start + batch.len();
            *start = range.end;
            Some(range)
        })
    }

    fn place(&self, position: usize) -> Option<Cluster> {
        let refblock = self.refblocks.get(position)?;
        Some(refblock.1)
    }

    /// Where a batch goes, and in `bytes` its refblocks with these counts.
    pub(crate) fn encode_batch(
        &self,
        batch: Range<usize>,
        counts: &RefcountTable,
        bytes: &mut Vec<u8>,
    ) -> Result<Offset, OutOfMemory> {
        let geometry = counts.geometry();
        let positions = self.order.get(batch).unwrap_or_default().iter();
        let mut refblocks = positions
            .filter_map(|position| self.refblocks.get(*position))
            .peekable();
        let first = refblocks.peek().map_or(Cluster(0), |(_, cluster)| *cluster);
        bytes.clear();
        for (refblock, _) in refblocks {
            let held = bytes.len();
            grow(bytes, geometry.cluster_size())?;
            counts.encode(*refblock, &mut bytes[held..]);
        }
        Ok(Offset(first.0 << geometry.cluster_bits()))
    }

    /// The writes of the reftable.
    pub(crate) fn encode_reftable(
        &self,
        geometry: &Geometry,
    ) -> Result<Vec<(Offset, Vec<u8>)>, OutOfMemory> {
        let (size, entries) = (
            geometry.cluster_size(),
            geometry.entries_per_reftable_cluster(),
        );
        let most = at_once(geometry);
        let mut writes = Vec::new();
        for first in (0..self.reftable.count.0).step_by(most) {
            let clusters = (self.reftable.count.0 - first).min(most as u64);
            let mut bytes = Vec::new();
            grow(&mut bytes, clusters * size)?;
            let start = first * entries;
            let from = self
                .refblocks
                .partition_point(|(refblock, _)| refblock.0 < start);
            for (refblock, cluster) in &self.refblocks[from..] {
                let index = refblock.0 - start;
                let at = (index / entries * size + index % entries * 8) as usize;
                let Some(word) = bytes.get_mut(at..at + 8) else {
                    break;
                };
                word.copy_from_slice(&(cluster.0 << geometry.cluster_bits()).to_be_bytes());
            }
            let place = self.reftable.first.0 + first;
            writes.push((Offset(place << geometry.cluster_bits()), bytes));
        }
        Ok(writes)
    }

    /// The header's pointer to the reftable: 8 bytes of offset, 4 of clusters, within one sector.
    pub(crate) fn pointer(&self, geometry: &Geometry) -> Vec<u8> {
        let offset = self.reftable.first.0 << geometry.cluster_bits();
        let clusters = self.reftable.count.0 as u32;
        [&offset.to_be_bytes()[..], &clusters.to_be_bytes()].concat()
    }
}

/// Clusters that are written at once, at most.
fn at_once(geometry: &Geometry) -> usize {
    (BATCH_BYTES / geometry.cluster_size()).max(1) as usize
}

/// Adds zeros.
fn grow(bytes: &mut Vec<u8>, more: u64) -> Result<(), OutOfMemory> {
    let more = more as usize;
    bytes.try_reserve(more).map_err(|_| OutOfMemory)?;
    bytes.resize(bytes.len() + more, 0);
    Ok(())
}
