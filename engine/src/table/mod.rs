//! How often each cluster is referred to, or how often the disk says that it is.
//!
//! A count is the true number, whatever the width of the image's refcounts; only where it becomes a
//! refcount, it is cut to that width. Memory follows what was counted, and none of it is allocated
//! without asking whether it is there, a few bytes for each range aside.

mod add;
mod chunk;
mod collected;
mod convert;
mod list;
mod runs;
mod shared;
pub(crate) mod width;

use std::collections::BTreeMap;

use chunk::Chunk;

pub(crate) use add::Piece;
pub(crate) use collected::Collected;
pub use runs::{Run, RunSet};
pub(crate) use shared::SharedTable;

use crate::geometry::Geometry;
use crate::units::{Cluster, ClusterCount, RefblockIndex};

/// Memory for a table ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not enough memory for the table of refcounts")]
pub struct OutOfMemory;

/// Refblocks whose chunks are found by their number, at the cost of a few bytes for each up to the
/// last one in use: 3 MiB at most, and enough for a terabyte of 4 KiB clusters. Those beyond are
/// searched for.
const NEAR_REFBLOCKS: u64 = 1 << 17;

/// A count for each cluster of an image, sparse: memory follows the clusters that have one, never the
/// size of the file or a number in it.
///
/// A count has 64 bits and stops at the end of these.
#[derive(Clone, Debug)]
pub struct RefcountTable {
    geometry: Geometry,
    /// One chunk a refblock, by its number, as far as there is any. A chunk whose counts are all 0
    /// need not be empty: setting one to 0 would have to look for another that is not, each time;
    /// who asks which are in use looks for one, and nearly always finds it at the beginning.
    near: Vec<Chunk>,
    /// Those of the refblocks beyond, where anything was counted.
    far: BTreeMap<u64, Chunk>,
    /// Whether a count was ever above 1.
    has_shared: bool,
}

impl RefcountTable {
    /// A table in which every count is 0.
    #[must_use]
    pub const fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            near: Vec::new(),
            far: BTreeMap::new(),
            has_shared: false,
        }
    }

    /// The geometry that it is laid out by.
    #[must_use]
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Sets every count to 0.
    pub fn clear(&mut self) {
        self.near.clear();
        self.far.clear();
        self.has_shared = false;
    }

    /// Whether a count was ever above 1; when not, each is 0 or 1.
    #[must_use]
    pub const fn has_shared(&self) -> bool {
        self.has_shared
    }

    /// The count of a cluster.
    #[must_use]
    pub fn get(&self, cluster: Cluster) -> u64 {
        let (refblock, index) = self.split(cluster);
        self.chunk(refblock)
            .map_or(0, |chunk| chunk.get(&self.geometry, index))
    }

    /// Sets the count of a cluster.
    pub fn set(&mut self, cluster: Cluster, value: u64) -> Result<(), OutOfMemory> {
        let (refblock, index) = self.split(cluster);
        if value == 0 && self.chunk(refblock).is_none() {
            return Ok(());
        }
        let geometry = self.geometry;
        let chunk = self.chunk_mut(refblock)?;
        chunk.set(&geometry, index, value)?;
        if chunk.is_empty() {
            self.far.remove(&refblock);
        }
        self.has_shared |= value > 1;
        Ok(())
    }

    /// Raises the counts of a run by one each. Clusters past 2^64 do not exist and are not counted.
    pub fn increment(&mut self, run: Run) -> Result<(), OutOfMemory> {
        self.add(run, 1)
    }

    /// Adds `times` to the counts of a run.
    pub fn add(&mut self, run: Run, times: u64) -> Result<(), OutOfMemory> {
        let mut next = run.first;
        let mut left = run.count.0.min(u64::MAX - run.first.0);
        while left > 0 && times > 0 {
            let (refblock, index) = self.split(next);
            let count = left.min(self.geometry.refcounts_per_refblock() - index as u64);
            let geometry = self.geometry;
            let chunk = self.chunk_mut(refblock)?;
            let added = chunk.add_run(&geometry, index..index + count as usize, times)?;
            self.has_shared |= added.shared;
            next = next.saturating_add(ClusterCount(count));
            left -= count;
        }
        Ok(())
    }

    /// The clusters whose count is above the largest refcount of the image's width, in ascending
    /// order, each with its count. Where there are none, hardly anything is looked at.
    pub fn over_maximum(&self) -> impl Iterator<Item = (Cluster, u64)> + '_ {
        self.above(self.geometry.max_refcount())
    }

    /// The clusters whose count is above `max`, which is at least 1, in ascending order.
    pub(crate) fn above(&self, max: u64) -> impl Iterator<Item = (Cluster, u64)> + '_ {
        let chunks = self.has_shared.then(|| self.chunks_from(0));
        chunks
            .into_iter()
            .flatten()
            .flat_map(move |(number, chunk)| {
                let mut from = 0;
                std::iter::from_fn(move || {
                    let (index, count) = chunk.find_above(&self.geometry, from, max)?;
                    from = index + 1;
                    Some((self.join(number, index), count))
                })
            })
    }

    /// How many clusters of a run, which lies within the range of one refblock, have the count 1.
    #[must_use]
    pub fn count_ones(&self, run: Run) -> u64 {
        let (refblock, index) = self.split(run.first);
        let fitting = run
            .count
            .0
            .min(self.geometry.refcounts_per_refblock() - index as u64);
        let run = index..index + fitting as usize;
        self.chunk(refblock)
            .map_or(0, |chunk| chunk.count_ones(&self.geometry, run))
    }

    /// The first cluster from `from` on whose count is 0. There always is one.
    #[must_use]
    pub fn next_free(&self, from: Cluster) -> Cluster {
        let (mut refblock, mut index) = self.split(from);
        while let Some(chunk) = self.chunk(refblock) {
            if let Some(found) = chunk.find(&self.geometry, index, true) {
                return self.join(refblock, found);
            }
            refblock += 1;
            index = 0;
        }
        self.join(refblock, index)
    }

    /// The first cluster from `from` on whose count is not 0.
    #[must_use]
    pub fn next_used(&self, from: Cluster) -> Option<Cluster> {
        let (refblock, index) = self.split(from);
        self.chunks_from(refblock).find_map(|(number, chunk)| {
            let start = if number == refblock { index } else { 0 };
            chunk
                .find(&self.geometry, start, false)
                .map(|found| self.join(number, found))
        })
    }

    /// The last cluster whose count is not 0.
    #[must_use]
    pub fn last_used(&self) -> Option<Cluster> {
        self.chunks_from(0).rev().find_map(|(number, chunk)| {
            let found = chunk.last_used(&self.geometry);
            found.map(|found| self.join(number, found))
        })
    }

    /// The last cluster before `end` whose count is not 0, if it lies in the range of the refblock
    /// that covers the cluster before `end`.
    #[must_use]
    pub fn last_used_before(&self, end: Cluster) -> Option<Cluster> {
        let (refblock, last) = self.split(Cluster(end.0.checked_sub(1)?));
        let chunk = self.chunk(refblock)?;
        let found = match chunk.last_used(&self.geometry)? {
            found if found <= last => Some(found),
            _ => (0..=last)
                .rev()
                .find(|index| chunk.get(&self.geometry, *index) != 0),
        };
        found.map(|found| self.join(refblock, found))
    }

    /// The refblocks that cover a cluster with a count, in ascending order.
    #[must_use]
    pub fn used_refblocks(&self) -> impl DoubleEndedIterator<Item = RefblockIndex> + '_ {
        self.chunks_from(0)
            .filter(|(_, chunk)| chunk.find(&self.geometry, 0, false).is_some())
            .map(|(number, _)| RefblockIndex(number))
    }

    /// How many refblocks cover a cluster with a count.
    #[must_use]
    pub fn used_refblock_count(&self) -> u64 {
        self.used_refblocks().count() as u64
    }

    /// Whether any cluster that a refblock covers has a count.
    #[must_use]
    pub fn is_used(&self, refblock: RefblockIndex) -> bool {
        let chunk = self.chunk(refblock.0);
        chunk.is_some_and(|chunk| chunk.find(&self.geometry, 0, false).is_some())
    }

    /// Fills `bytes` with the counts as the refblock has them on disk, each at most the largest that
    /// its width has; what is longer than the refblock becomes 0.
    pub fn encode(&self, refblock: RefblockIndex, bytes: &mut [u8]) {
        match self.chunk(refblock.0) {
            Some(chunk) => chunk.encode(&self.geometry, bytes),
            None => bytes.fill(0),
        }
    }

    /// Bytes of memory that the counts take up.
    #[must_use]
    pub fn memory(&self) -> usize {
        let chunks: usize = self.chunks_from(0).map(|(_, chunk)| chunk.memory()).sum();
        let directory = self.near.capacity() * size_of::<Chunk>();
        chunks + directory + self.far.len() * size_of::<(u64, Chunk)>()
    }

    /// Whether the refblock that begins with `bytes` is what [`Self::encode`] writes.
    pub(crate) fn equals(&self, refblock: RefblockIndex, bytes: &[u8]) -> bool {
        match self.chunk(refblock.0) {
            Some(chunk) => chunk.equals(&self.geometry, bytes),
            None => width::is_zero(bytes),
        }
    }

    /// Fills `counts` with the true ones that a refblock covers, from the index `first` on; 0 past its
    /// end.
    pub(crate) fn decode(&self, refblock: RefblockIndex, first: usize, counts: &mut [u64]) {
        match self.chunk(refblock.0) {
            Some(chunk) => chunk.decode(&self.geometry, first, counts),
            None => counts.fill(0),
        }
    }

    /// The chunk of a refblock, if anything was counted in it.
    fn chunk(&self, refblock: u64) -> Option<&Chunk> {
        if refblock < NEAR_REFBLOCKS {
            let chunk = self.near.get(refblock as usize)?;
            return (!chunk.is_empty()).then_some(chunk);
        }
        self.far.get(&refblock)
    }

    fn chunk_mut(&mut self, refblock: u64) -> Result<&mut Chunk, OutOfMemory> {
        if refblock >= NEAR_REFBLOCKS {
            return Ok(self.far.entry(refblock).or_insert_with(Chunk::new));
        }
        let position = refblock as usize;
        if position >= self.near.len() {
            let more = position + 1 - self.near.len();
            self.near.try_reserve(more).map_err(|_| OutOfMemory)?;
            self.near.resize(position + 1, Chunk::new());
        }
        Ok(&mut self.near[position])
    }

    /// The chunks in which anything was counted, from that of `refblock` on, in ascending order.
    fn chunks_from(&self, refblock: u64) -> impl DoubleEndedIterator<Item = (u64, &Chunk)> {
        let first = (refblock as usize).min(self.near.len());
        let near = self.near[first..].iter().enumerate();
        let near = near.map(move |(position, chunk)| ((first + position) as u64, chunk));
        let far = self
            .far
            .range(refblock..)
            .map(|(number, chunk)| (*number, chunk));
        near.filter(|(_, chunk)| !chunk.is_empty()).chain(far)
    }

    const fn split(&self, cluster: Cluster) -> (u64, usize) {
        let mask = self.geometry.refcounts_per_refblock() - 1;
        (
            self.geometry.refblock_of(cluster).0,
            (cluster.0 & mask) as usize,
        )
    }

    const fn join(&self, refblock: u64, index: usize) -> Cluster {
        Cluster((refblock << self.geometry.refblock_bits()) + index as u64)
    }
}

#[cfg(test)]
mod tests;
