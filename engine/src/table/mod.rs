//! How often each cluster is referred to, or how often the disk says that it is.
//!
//! A count is the true number, whatever the width of the image's refcounts; only where it becomes a
//! refcount, it is cut to that width. Memory follows what was counted, and none of it is allocated
//! without asking whether it is there, a few bytes for each range aside.

mod chunk;
mod runs;
mod shared;
pub(crate) mod width;

use std::collections::BTreeMap;
use std::ops::Range;

use chunk::Chunk;
use width::{BLOCK, Counts};

pub use runs::{Run, RunSet};
pub(crate) use shared::{Collected, SharedTable};

use crate::geometry::Geometry;
use crate::units::{Cluster, RefblockIndex};

/// Memory for a table ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not enough memory for the table of refcounts")]
pub struct OutOfMemory;

/// Adds to a list whose length what an image holds decides.
pub(crate) fn push<T>(list: &mut Vec<T>, item: T) -> Result<(), OutOfMemory> {
    list.try_reserve(1).map_err(|_| OutOfMemory)?;
    list.push(item);
    Ok(())
}

/// Chunks that are found by their number, at the cost of a few bytes for each up to the last one in
/// use: 3 MiB at most, and enough for 8 TiB of 64 KiB clusters. Those beyond are searched for.
const NEAR_CHUNKS: usize = 1 << 17;

/// Chunks that are searched for together.
const GROUP: usize = 8;

/// A count for each cluster of an image, sparse: memory follows the clusters that have one, never the
/// size of the file or a number in it.
///
/// A count has 64 bits and stops at the end of these.
#[derive(Clone, Debug)]
pub struct RefcountTable {
    geometry: Geometry,
    /// The chunks by number, as far as there are any.
    near: Vec<Chunk>,
    /// Those beyond, in groups, where anything was counted.
    far: BTreeMap<usize, Vec<Chunk>>,
}

impl RefcountTable {
    /// A table in which every count is 0.
    pub const fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            near: Vec::new(),
            far: BTreeMap::new(),
        }
    }

    /// The geometry that it is laid out by.
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Whether a count is above 1, or was: when not, each is 0 or 1.
    pub fn has_shared(&self) -> bool {
        self.chunks().any(|chunk| chunk.highest() > 1)
    }

    /// The count of a cluster.
    pub fn get(&self, cluster: Cluster) -> u64 {
        let (number, index) = split(cluster.0);
        self.chunk(number).get(index)
    }

    /// Sets the count of a cluster.
    pub fn set(&mut self, cluster: Cluster, value: u64) -> Result<(), OutOfMemory> {
        let (number, index) = split(cluster.0);
        self.chunk_mut(number)?.set(index, value)
    }

    /// Adds `times` to the counts of a run. Clusters past 2^64 do not exist and are not counted.
    pub fn add(&mut self, run: Run, times: u64) -> Result<(), OutOfMemory> {
        let (mut from, end) = (run.first.0, run.end().0);
        while from < end && times > 0 {
            let (number, index) = split(from);
            let count = (chunk::CLUSTERS - index).min((end - from) as usize);
            self.chunk_mut(number)?.add(index..index + count, times)?;
            from += count as u64;
        }
        Ok(())
    }

    /// Takes `times` from the counts of a run, as far as there is something to take.
    pub(crate) fn remove(&mut self, run: Run, times: u64) -> Result<(), OutOfMemory> {
        run.iter().try_for_each(|cluster| {
            let count = self.get(cluster);
            self.set(cluster, count.saturating_sub(times))
        })
    }

    /// The clusters whose count is above `max`, ascending, each with its count.
    pub fn above(&self, max: u64) -> impl Iterator<Item = (Cluster, u64)> + '_ {
        // Nearly always there are none.
        let are_any = self.chunks().any(|chunk| chunk.highest() > max);
        let clusters = 0..if are_any { u64::MAX } else { 0 };
        let blocks = self.passing(clusters, move |count| count > max);
        let clusters = blocks.flat_map(|(first, bits)| {
            let above = (first..).take(BLOCK).zip(0..);
            above.filter(move |(_, position)| bits >> position & 1 == 1)
        });
        clusters.map(|(cluster, _)| (Cluster(cluster), self.get(Cluster(cluster))))
    }

    /// How many clusters of a run have the refcount 1, where the largest refcount is `max`.
    pub(crate) fn count_ones(&self, run: Run, max: u64) -> u64 {
        let clusters = run.first.0..run.end().0;
        let blocks = self.passing(clusters, |count| count.min(max) == 1);
        blocks.map(|(_, bits)| u64::from(bits.count_ones())).sum()
    }

    /// The first cluster from `from` on whose count is 0. There always is one.
    pub fn next_free(&self, from: Cluster) -> Cluster {
        let mut free = from.0;
        while free < u64::MAX && !matches!(self.chunk(split(free).0), Chunk::Same(0)) {
            let end = (free | (chunk::CLUSTERS as u64 - 1)).saturating_add(1);
            if let Some((first, bits)) = self.passing(free..end, |count| count == 0).next() {
                return Cluster(first + u64::from(bits.trailing_zeros()));
            }
            free = end;
        }
        Cluster(free)
    }

    /// The first cluster from `from` on whose count is not 0.
    pub fn next_used(&self, from: Cluster) -> Option<Cluster> {
        let mut used = self.passing(from.0..u64::MAX, |count| count != 0);
        let (first, bits) = used.next()?;
        Some(Cluster(first + u64::from(bits.trailing_zeros())))
    }

    /// The last cluster whose count is not 0.
    pub fn last_used(&self) -> Option<Cluster> {
        self.last_used_before(Cluster(u64::MAX))
    }

    /// The last cluster before `end` whose count is not 0.
    pub fn last_used_before(&self, end: Cluster) -> Option<Cluster> {
        let (first, bits) = self.passing(0..end.0, |count| count != 0).next_back()?;
        Some(Cluster(first + u64::from(bits.ilog2())))
    }

    /// The refblocks that cover a cluster with a count, in ascending order.
    pub fn used_refblocks(&self) -> impl Iterator<Item = RefblockIndex> + '_ {
        let used_from = |refblock| {
            let used = self.next_used(self.geometry.first_covered(refblock));
            used.map(|used| self.geometry.refblock_of(used))
        };
        std::iter::successors(used_from(RefblockIndex(0)), move |refblock| {
            used_from(RefblockIndex(refblock.0 + 1))
        })
    }

    /// Fills `bytes`, of a refblock at least, with the counts as the refblock has them on disk, each at
    /// most the largest that its width has; what is longer than the refblock becomes 0.
    pub fn encode(&self, refblock: RefblockIndex, bytes: &mut [u8]) {
        let order = self.geometry.order();
        let (bytes, rest) = bytes.split_at_mut(bytes.len().min(self.geometry.refblock_bytes()));
        rest.fill(0);
        let parts = bytes.chunks_mut(chunk::CLUSTERS / BLOCK * width::block_bytes(order));
        let firsts = (self.geometry.first_covered(refblock).0..).step_by(chunk::CLUSTERS);
        for (part, first) in parts.zip(firsts) {
            let (number, index) = split(first);
            self.chunk(number).encode(order, index, part);
        }
    }

    /// The counts of the clusters from `first` on, as many as are in a block of clusters from there.
    pub(crate) fn block(&self, first: u64) -> Counts {
        let (number, index) = split(first);
        self.chunk(number).block(index)
    }

    /// Bytes of memory that the counts take up.
    pub fn memory(&self) -> usize {
        let far = self.far.len() * size_of::<(usize, Vec<Chunk>)>();
        let held = self.far.values().chain([&self.near]).map(Vec::capacity);
        far + held.sum::<usize>() * size_of::<Chunk>()
            + self.chunks().map(Chunk::memory).sum::<usize>()
    }

    /// The blocks in which a count of some clusters passes a test, in ascending order: the first
    /// cluster of each, and a bit for each cluster that passes. Where nothing was ever counted,
    /// nothing passes.
    fn passing(
        &self,
        clusters: Range<u64>,
        test: impl Fn(u64) -> bool + Copy,
    ) -> impl DoubleEndedIterator<Item = (u64, u64)> {
        let (start, _) = split(clusters.start);
        let (last, _) = split(clusters.end.saturating_sub(1));
        let near = self.near.iter().enumerate().take(last + 1).skip(start);
        let far = self.far.range(start / GROUP..=last.max(start) / GROUP);
        let far =
            far.flat_map(|(group, chunks)| (group * GROUP..group * GROUP + GROUP).zip(chunks));
        near.chain(far).flat_map(move |(number, chunk)| {
            let first = (number as u64) << chunk::BITS;
            let clusters = clusters.clone();
            let blocks = match chunk {
                Chunk::Same(count) if !test(*count) => 0,
                _ => chunk::CLUSTERS / BLOCK,
            };
            (0..blocks).filter_map(move |block| {
                let first = first + (block * BLOCK) as u64;
                let inside = below(clusters.end, first) & !below(clusters.start, first);
                let bits = (inside != 0).then(|| chunk.passing(block, test) & inside)?;
                (bits != 0).then_some((first, bits))
            })
        })
    }

    fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.near.iter().chain(self.far.values().flatten())
    }

    fn chunk(&self, number: usize) -> &Chunk {
        static EMPTY: Chunk = Chunk::EMPTY;
        let far = || self.far.get(&(number / GROUP))?.get(number % GROUP);
        self.near.get(number).or_else(far).unwrap_or(&EMPTY)
    }

    fn chunk_mut(&mut self, number: usize) -> Result<&mut Chunk, OutOfMemory> {
        if number < NEAR_CHUNKS {
            reach(&mut self.near, number)
        } else {
            reach(self.far.entry(number / GROUP).or_default(), number % GROUP)
        }
    }
}

/// In which chunk a cluster is, and which of its clusters it is.
const fn split(cluster: u64) -> (usize, usize) {
    let index = cluster & (chunk::CLUSTERS as u64 - 1);
    ((cluster >> chunk::BITS) as usize, index as usize)
}

/// Of the clusters of a block from `first` on, those before `end`.
fn below(end: u64, first: u64) -> u64 {
    let count = end.saturating_sub(first).min(BLOCK as u64) as u32;
    u64::MAX.checked_shr(u64::BITS - count).unwrap_or(0)
}

/// The chunk at a position, behind which there may be none yet.
fn reach(chunks: &mut Vec<Chunk>, position: usize) -> Result<&mut Chunk, OutOfMemory> {
    if position >= chunks.len() {
        let more = position + 1 - chunks.len();
        chunks.try_reserve(more).map_err(|_| OutOfMemory)?;
        chunks.resize(position + 1, Chunk::EMPTY);
    }
    Ok(&mut chunks[position])
}

#[cfg(test)]
mod tests;
