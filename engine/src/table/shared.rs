//! Counting by several threads at once: each collects what it finds to be referred to, and adds it
//! to one table, batch by batch.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::chunk::{self, Chunk};
use super::{NEAR_CHUNKS, OutOfMemory, RefcountTable, reach, split};
use crate::geometry::Geometry;

/// Clusters of one chunk, side by side: the number of the first, and below it that of the clusters
/// but one. Entries of L2 tables have no room for numbers so large that it would not fit.
#[derive(Clone, Copy, Debug)]
struct Piece(u64);

impl Piece {
    const fn new(first: u64, count: usize) -> Self {
        Self(first << chunk::BITS | (count as u64 - 1))
    }

    const fn chunk(self) -> usize {
        (self.0 >> (2 * chunk::BITS)) as usize
    }

    const fn range(self) -> Range<usize> {
        let (_, index) = split(self.0 >> chunk::BITS);
        let (_, more) = split(self.0);
        index..index + more + 1
    }
}

/// What a thread has found to be referred to and is yet to count.
///
/// Where memory runs out, it is counting what was collected that says so: adding here happens too
/// often to look at a result each time.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    pieces: Vec<Piece>,
    /// Whether something was left out for want of memory.
    pub(super) is_incomplete: bool,
}

impl Collected {
    pub const fn new() -> Self {
        Self {
            pieces: Vec::new(),
            is_incomplete: false,
        }
    }

    /// Whether there is nothing to count.
    pub const fn is_empty(&self) -> bool {
        self.pieces.is_empty() && !self.is_incomplete
    }

    /// Adds a run.
    #[inline]
    pub fn push(&mut self, first: u64, count: u64) {
        let (mut from, end) = (first, first + count);
        while from < end {
            let (_, index) = split(from);
            let count = (end - from).min((chunk::CLUSTERS - index) as u64);
            if self.pieces.try_reserve(1).is_err() {
                self.is_incomplete = true;
                return;
            }
            self.pieces.push(Piece::new(from, count as usize));
            from += count;
        }
    }

    /// Adds clusters one by one.
    pub fn push_each(&mut self, clusters: &[u64]) {
        if self.pieces.try_reserve(clusters.len()).is_err() {
            self.is_incomplete = true;
            return;
        }
        let pieces = clusters.iter().map(|cluster| Piece::new(*cluster, 1));
        self.pieces.extend(pieces);
    }

    /// How much there is.
    pub const fn mark(&self) -> usize {
        self.pieces.len()
    }

    /// Forgets what came after a mark, but not that something was left out.
    pub fn rewind(&mut self, mark: usize) {
        self.pieces.truncate(mark);
    }

    /// Forgets everything, keeping the memory.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.is_incomplete = false;
    }
}

/// Chunks side by side that have one lock.
const REGION: usize = 64;

/// A table with a lock for each region. Counting is commutative, so the result is that of counting
/// one after the other.
pub struct SharedTable {
    geometry: Geometry,
    near: Vec<Mutex<Vec<Chunk>>>,
    far: Mutex<BTreeMap<usize, Chunk>>,
}

impl SharedTable {
    /// Lets several threads count into `table`.
    pub fn new(table: RefcountTable) -> Self {
        let mut chunks = table.near.into_iter();
        let regions = (0..NEAR_CHUNKS / REGION).map(|_| chunks.by_ref().take(REGION).collect());
        Self {
            geometry: table.geometry,
            near: regions.map(Mutex::new).collect(),
            far: Mutex::new(table.far),
        }
    }

    /// The table with all that was counted.
    pub fn into_table(self) -> RefcountTable {
        let mut table = RefcountTable::new(self.geometry);
        for (number, region) in self.near.into_iter().enumerate() {
            let region = region.into_inner().unwrap_or_else(PoisonError::into_inner);
            if !region.is_empty() {
                table.near.resize(number * REGION, Chunk::EMPTY);
                table.near.extend(region);
            }
        }
        table.far = self
            .far
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        table
    }

    /// Adds `times` to the count of each cluster that was collected, as often as it was, and forgets
    /// it.
    pub fn add(&self, collected: &mut Collected, times: u64) -> Result<(), OutOfMemory> {
        if collected.is_incomplete {
            return Err(OutOfMemory);
        }
        if times == 0 {
            collected.clear();
        }
        let pieces = &mut collected.pieces;
        let is_same = |one: &Piece, next: &Piece| one.chunk() == next.chunk();
        // A look at every eighth says whether they are in order. Locking a region costs about as much
        // as adding a few pieces to it.
        let pairs = pieces.windows(2).step_by(8);
        if pairs.filter(|pair| !is_same(&pair[0], &pair[1])).count() * 64 > pieces.len() {
            pieces.sort_unstable_by_key(|piece| piece.chunk());
        }
        for pieces in pieces.chunk_by(is_same) {
            let number = pieces[0].chunk();
            let runs = pieces.iter().map(|piece| piece.range());
            if let Some(region) = self.near.get(number / REGION) {
                reach(&mut locked(region), number % REGION)?.add(runs, times)?;
            } else {
                let mut far = locked(&self.far);
                far.entry(number).or_insert(Chunk::EMPTY).add(runs, times)?;
            }
        }
        collected.clear();
        Ok(())
    }
}

/// No code panics while it holds a lock, and what it guards is whole at any time.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
