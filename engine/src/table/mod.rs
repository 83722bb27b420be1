//! How often each cluster is referred to, or how often the disk says that it is.

mod chunk;
mod collected;
mod narrow;
mod runs;
mod shared;
pub(crate) mod width;

use std::collections::BTreeMap;

use chunk::Chunk;

pub(crate) use collected::Collected;
pub use runs::{Run, RunSet};
pub(crate) use shared::SharedTable;
pub(crate) use width::Piece;

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

/// The refcounts of an image, sparse: memory follows the clusters that have one, never the size
/// of the file or a number in it.
#[derive(Clone, Debug)]
pub struct RefcountTable {
    geometry: Geometry,
    /// One chunk a refblock, by its number, as far as there is any; empty where every count is 0.
    near: Vec<Chunk>,
    /// Those of the refblocks beyond, present only while a count is not 0.
    far: BTreeMap<u64, Chunk>,
    /// Whether a count was ever raised above 1 by adding to it.
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

    /// Whether adding ever raised a count above 1; when not, every count is 0, 1, or was set.
    #[must_use]
    pub const fn has_shared(&self) -> bool {
        self.has_shared
    }

    /// The count of a cluster.
    #[must_use]
    pub fn get(&self, cluster: Cluster) -> u64 {
        let (refblock, index) = self.split(cluster);
        self.chunk(refblock)
            .map_or(0, |chunk| chunk.get(self.geometry.order(), index))
    }

    /// Sets the count of a cluster; a value over the maximum of the width becomes the maximum.
    pub fn set(&mut self, cluster: Cluster, value: u64) -> Result<(), OutOfMemory> {
        let (refblock, index) = self.split(cluster);
        let value = value.min(self.geometry.max_refcount());
        let geometry = self.geometry;
        if value == 0 && self.chunk(refblock).is_none() {
            return Ok(());
        }
        let chunk = self.chunk_mut(refblock)?;
        chunk.set(&geometry, index, value)?;
        if value == 0 && chunk.find(&geometry, 0, false).is_none() {
            *chunk = Chunk::new();
            self.far.remove(&refblock);
        }
        Ok(())
    }

    /// Raises the counts of a run by one each, except those at the maximum of the width; returns
    /// how many of those there were. Clusters past 2^64 do not exist and are not counted.
    pub fn increment(&mut self, run: Run) -> Result<ClusterCount, OutOfMemory> {
        self.add_counted(run, 1).map(ClusterCount)
    }

    /// Adds `times` to the counts of a run, each stopping at the maximum of the width; returns the
    /// sum of what was left over.
    pub fn add(&mut self, run: Run, times: u64) -> Result<(), OutOfMemory> {
        self.add_counted(run, times).map(|_| ())
    }
    fn add_counted(&mut self, run: Run, times: u64) -> Result<u64, OutOfMemory> {
        let mut left_over = 0_u64;
        let mut next = run.first;
        let mut left = run.count.0.min(u64::MAX - run.first.0);
        while left > 0 && times > 0 {
            let (refblock, index) = self.split(next);
            let count = left.min(self.geometry.refcounts_per_refblock() - index as u64);
            let geometry = self.geometry;
            let chunk = self.chunk_mut(refblock)?;
            let added = chunk.add_run(&geometry, index, count as usize, times)?;
            self.has_shared |= added.shared;
            left_over = left_over.saturating_add(added.left_over);
            next = next.saturating_add(ClusterCount(count));
            left -= count;
        }
        Ok(left_over)
    }

    /// How many clusters of a run, which lies within the range of one refblock, have the count 1.
    #[must_use]
    pub fn count_ones(&self, run: Run) -> u64 {
        let (refblock, index) = self.split(run.first);
        let fitting = run
            .count
            .0
            .min(self.geometry.refcounts_per_refblock() - index as u64);
        self.chunk(refblock).map_or(0, |chunk| {
            chunk.count_ones(self.geometry.order(), index, fitting as usize)
        })
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
        let (number, chunk) = self.chunks_from(0).next_back()?;
        chunk
            .last_used(&self.geometry)
            .map(|found| self.join(number, found))
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
                .find(|index| chunk.get(self.geometry.order(), *index) != 0),
        };
        found.map(|found| self.join(refblock, found))
    }

    /// The refblocks that cover a cluster with a count, in ascending order.
    #[must_use]
    pub fn used_refblocks(&self) -> impl DoubleEndedIterator<Item = RefblockIndex> + '_ {
        self.chunks_from(0).map(|(number, _)| RefblockIndex(number))
    }

    /// How many refblocks cover a cluster with a count.
    #[must_use]
    pub fn used_refblock_count(&self) -> u64 {
        self.chunks_from(0).count() as u64
    }

    /// Whether any cluster that a refblock covers has a count.
    #[must_use]
    pub fn is_used(&self, refblock: RefblockIndex) -> bool {
        self.chunk(refblock.0).is_some()
    }

    /// Fills `bytes` with the counts as the refblock has them on disk; what is longer than the
    /// refblock becomes 0.
    pub fn encode(&self, refblock: RefblockIndex, bytes: &mut [u8]) {
        match self.chunk(refblock.0) {
            Some(chunk) => chunk.encode(&self.geometry, bytes),
            None => bytes.fill(0),
        }
    }

    pub fn over_maximum(&self) -> impl Iterator<Item = (Cluster, u64)> + '_ {
        self.above(self.geometry.max_refcount())
    }
    pub fn above(&self, most: u64) -> impl Iterator<Item = (Cluster, u64)> + '_ {
        let mut from = Some(Cluster(0));
        std::iter::from_fn(move || {
            loop {
                let next = self.next_used(from?)?;
                from = Some(Cluster(next.0 + 1));
                let count = self.get(next);
                if count > most {
                    return Some((next, count));
                }
            }
        })
    }

    /// Bytes of memory that the counts take up.
    #[must_use]
    pub fn memory(&self) -> usize {
        let chunks: usize = self.chunks_from(0).map(|(_, chunk)| chunk.memory()).sum();
        let directory = self.near.capacity() * size_of::<Chunk>();
        chunks + directory + self.far.len() * size_of::<(u64, Chunk)>()
    }

    /// Whether the refblock that begins with `bytes` has the counts of this table.
    pub(crate) fn equals(&self, refblock: RefblockIndex, bytes: &[u8]) -> bool {
        match self.chunk(refblock.0) {
            Some(chunk) => chunk.equals(&self.geometry, bytes),
            None => width::is_zero(bytes),
        }
    }

    /// Fills `counts` with those that a refblock covers, from the index `first` on; 0 past its end.
    pub(crate) fn decode(&self, refblock: RefblockIndex, first: usize, counts: &mut [u64]) {
        match self.chunk(refblock.0) {
            Some(chunk) => chunk.decode(self.geometry.order(), first, counts),
            None => counts.fill(0),
        }
    }

    /// The chunk of a refblock, if a count in it is not 0.
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

    /// The chunks with a count that is not 0, from that of `refblock` on, in ascending order.
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
