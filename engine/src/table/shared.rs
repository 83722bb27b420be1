//! Counting by several threads at once: each collects what it finds to be referred to, and adds it
//! to one table, batch by batch.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::chunk::{self, Chunk};
use super::{GROUP, NEAR_CHUNKS, OutOfMemory, RefcountTable, reach, split};
use crate::geometry::Geometry;

/// Clusters of one chunk, side by side: the number of the first, and below it that of the clusters
/// but one. Entries of L2 tables have no room for numbers so large that it would not fit.
#[derive(Clone, Copy, Debug)]
struct Piece(u64);

impl Piece {
    const fn new(first: u64, count: u64) -> Self {
        Self(first << chunk::BITS | (count - 1))
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
#[derive(Debug)]
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

    /// Adds a run.
    #[inline]
    pub fn push(&mut self, first: u64, count: u64) {
        let (mut from, end) = (first, first + count);
        while from < end {
            let (_, index) = split(from);
            let count = (end - from).min((chunk::CLUSTERS - index) as u64);
            self.extend([Piece::new(from, count)].into_iter());
            from += count;
        }
    }

    /// Adds clusters one by one.
    pub fn push_each(&mut self, clusters: &[u64]) {
        self.extend(clusters.iter().map(|cluster| Piece::new(*cluster, 1)));
    }

    #[inline]
    fn extend(&mut self, pieces: impl ExactSizeIterator<Item = Piece>) {
        match self.pieces.try_reserve(pieces.len()) {
            Ok(()) => self.pieces.extend(pieces),
            Err(_) => self.is_incomplete = true,
        }
    }

    /// How much there is.
    pub const fn mark(&self) -> usize {
        self.pieces.len()
    }

    /// Forgets what came after a mark, but not that something was left out.
    pub fn rewind(&mut self, mark: usize) {
        self.pieces.truncate(mark);
    }
}

/// Locks for the near chunks, in turn.
const LOCKS: usize = 64;

/// A table with locks for parts of it. In which order references are counted makes no difference.
pub struct SharedTable {
    geometry: Geometry,
    near: [Mutex<Vec<Chunk>>; LOCKS],
    far: Mutex<BTreeMap<usize, Vec<Chunk>>>,
}

impl SharedTable {
    /// Lets several threads count into `table`.
    pub fn new(table: RefcountTable) -> Self {
        let mut near = [const { Vec::new() }; LOCKS];
        for (number, chunk) in table.near.into_iter().enumerate() {
            near[number % LOCKS].push(chunk);
        }
        Self {
            geometry: table.geometry,
            near: near.map(Mutex::new),
            far: Mutex::new(table.far),
        }
    }

    /// The table with all that was counted.
    pub fn into_table(self) -> RefcountTable {
        let mut parts = self.near.map(|part| unlocked(part).into_iter());
        let longest = parts.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
        let chunk_of = |number: usize| parts[number % LOCKS].next().unwrap_or(Chunk::EMPTY);
        let mut near: Vec<_> = (0..longest * LOCKS).map(chunk_of).collect();
        while near.pop_if(|last| matches!(last, Chunk::Same(0))).is_some() {}
        near.shrink_to_fit();
        RefcountTable {
            geometry: self.geometry,
            near,
            far: unlocked(self.far),
        }
    }

    /// Adds `times` to each count, as often as it was collected, and forgets what was.
    pub fn add(&self, collected: &mut Collected, times: u64) -> Result<(), OutOfMemory> {
        if collected.is_incomplete {
            return Err(OutOfMemory);
        }
        let pieces = &mut collected.pieces;
        let lock = |piece: &Piece| piece.chunk() % LOCKS;
        // Every eighth tells whether they are in order. Locking costs as much as adding a few.
        let is_jump = |pair: &&[Piece]| lock(&pair[0]) != lock(&pair[1]);
        let pairs = pieces.windows(2).step_by(8);
        if pairs.filter(is_jump).count() * 64 > pieces.len() {
            pieces.sort_unstable_by_key(lock);
        }
        for pieces in pieces.chunk_by(|one, next| lock(one) == lock(next)) {
            let mut near = locked(&self.near[lock(&pieces[0])]);
            for pieces in pieces.chunk_by(|one, next| one.chunk() == next.chunk()) {
                let number = pieces[0].chunk();
                let runs = pieces.iter().map(|piece| piece.range());
                if number < NEAR_CHUNKS {
                    reach(&mut near, number / LOCKS)?.add(runs, times)?;
                } else {
                    let mut far = locked(&self.far);
                    let group = far.entry(number / GROUP).or_default();
                    reach(group, number % GROUP)?.add(runs, times)?;
                }
            }
        }
        collected.pieces.clear();
        Ok(())
    }
}

/// No code panics while it holds a lock, and what it guards is whole at any time.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unlocked<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}
