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

/// The bits of a piece that say which cluster of the chunk is the first.
const INDEX: u64 = (chunk::CLUSTERS as u64 - 1) << chunk::BITS;

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

/// Locks for the near chunks, in turn.
const LOCKS: usize = 32;

/// What a thread has found to be referred to and is yet to count.
///
/// Where memory runs out, it is counting what was collected that says so: adding here happens too
/// often to look at a result each time.
#[derive(Debug)]
pub struct Collected {
    /// By the lock that is needed to count them.
    pieces: [Vec<Piece>; LOCKS],
    /// Whether something was left out for want of memory.
    pub(super) is_incomplete: bool,
}

impl Collected {
    pub const fn new() -> Self {
        Self {
            pieces: [const { Vec::new() }; LOCKS],
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
            self.extend(from, std::iter::once(Piece::new(from, count)));
            from += count;
        }
    }

    /// Adds clusters one by one.
    pub fn push_each(&mut self, clusters: &[u64]) {
        let Some(first) = clusters.first() else {
            return;
        };
        let differing = clusters
            .iter()
            .fold(0, |bits, other| bits | (first ^ other));
        // Mostly all are in one chunk.
        let together = if split(differing).0 == 0 {
            clusters.len()
        } else {
            1
        };
        for clusters in clusters.chunks(together) {
            let pieces = clusters.iter().map(|cluster| Piece::new(*cluster, 1));
            self.extend(clusters[0], pieces);
        }
    }

    /// Adds pieces of the chunk that a cluster is in.
    #[inline]
    fn extend(&mut self, cluster: u64, pieces: impl ExactSizeIterator<Item = Piece>) {
        let held = &mut self.pieces[split(cluster).0 % LOCKS];
        match held.try_reserve(pieces.len()) {
            Ok(()) => held.extend(pieces),
            Err(_) => self.is_incomplete = true,
        }
    }

    /// How much there is.
    pub fn mark(&self) -> [usize; LOCKS] {
        std::array::from_fn(|lock| self.pieces[lock].len())
    }

    /// Forgets what came after a mark, but not that something was left out.
    pub fn rewind(&mut self, mark: &[usize; LOCKS]) {
        let pieces = self.pieces.iter_mut().zip(mark);
        pieces.for_each(|(pieces, length)| pieces.truncate(*length));
    }
}

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
        for (pieces, near) in collected.pieces.iter_mut().zip(&self.near) {
            if pieces.is_empty() {
                continue;
            }
            let mut near = locked(near);
            let mut rest = &pieces[..];
            while let Some(first) = rest.first() {
                let number = first.chunk();
                let mut far = (number >= NEAR_CHUNKS).then(|| locked(&self.far));
                let chunk = match &mut far {
                    None => reach(&mut near, number / LOCKS)?,
                    Some(far) => reach(far.entry(number / GROUP).or_default(), number % GROUP)?,
                };
                // Where clusters are not side by side there are many of one, and nearly all fit.
                let single = Piece::new((number as u64) << chunk::BITS, 1);
                let index =
                    |piece: &Piece| (piece.0 & !INDEX == single.0).then(|| piece.range().start);
                let mut done = chunk.add_each(rest.iter().map_while(index), times);
                if done == 0 {
                    chunk.add(first.range(), times)?;
                    done = 1;
                }
                rest = &rest[done..];
            }
            pieces.clear();
        }
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
