//! A table that several threads count into at once.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use super::add::{Added, Piece};
use super::chunk::Chunk;
use super::collected::Collected;
use super::{NEAR_REFBLOCKS, OutOfMemory, RefcountTable};
use crate::geometry::Geometry;

/// A table with a lock for each chunk. Counting is commutative, so the result is that of counting
/// one after the other.
pub struct SharedTable {
    geometry: Geometry,
    near: RwLock<Vec<Mutex<Chunk>>>,
    far: Mutex<BTreeMap<u64, Chunk>>,
    has_shared: bool,
}

impl SharedTable {
    /// Lets several threads count into `table`.
    pub fn new(table: RefcountTable) -> Self {
        Self {
            geometry: table.geometry,
            near: RwLock::new(table.near.into_iter().map(Mutex::new).collect()),
            far: Mutex::new(table.far),
            has_shared: table.has_shared,
        }
    }

    /// The table, with `has_shared` of what was added.
    pub fn into_table(self, has_shared: bool) -> RefcountTable {
        let near = self
            .near
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let unlocked =
            |chunk: Mutex<Chunk>| chunk.into_inner().unwrap_or_else(PoisonError::into_inner);
        RefcountTable {
            geometry: self.geometry,
            near: near.into_iter().map(unlocked).collect(),
            far: self
                .far
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
            has_shared: self.has_shared || has_shared,
        }
    }

    /// Adds `times` to the count of each cluster that was collected, as often as it was; says whether
    /// any is above 1 now. Runs are reordered.
    pub fn add(&self, collected: &mut Collected, times: u64) -> Result<Added, OutOfMemory> {
        if collected.is_incomplete {
            return Err(OutOfMemory);
        }
        if times == 0 {
            return Ok(Added::default());
        }
        let mut sum = self.add_runs(&mut collected.runs, times)?;
        let highest = collected.groups.iter().map(|group| group.refblock).max();
        self.reach(highest.unwrap_or(0))?;
        let mut start = 0;
        for group in &collected.groups {
            let hits = &collected.hits[start..group.end];
            start = group.end;
            let count = |chunk: &mut Chunk| chunk.add_hits(&self.geometry, hits, times);
            sum.join(self.with_chunk(group.refblock, count)?);
        }
        Ok(sum)
    }

    fn add_runs(&self, runs: &mut [Piece], times: u64) -> Result<Added, OutOfMemory> {
        let bits = self.geometry.refblock_bits();
        let refblock_of = |run: &Piece| run.first >> bits;
        let (mut groups, mut previous, mut highest) = (0, None, 0);
        for refblock in runs.iter().map(refblock_of) {
            groups += usize::from(previous != Some(refblock));
            previous = Some(refblock);
            highest = highest.max(refblock);
        }
        // Locking a chunk costs about as much as adding a few runs to it.
        if groups * 8 > runs.len() && groups > 8 {
            runs.sort_unstable_by_key(refblock_of);
        }
        self.reach(highest)?;
        let mut sum = Added::default();
        for group in runs.chunk_by(|one, next| refblock_of(one) == refblock_of(next)) {
            let count = |chunk: &mut Chunk| chunk.add_pieces(&self.geometry, group, times);
            sum.join(self.with_chunk(refblock_of(&group[0]), count)?);
        }
        Ok(sum)
    }

    /// Does something with the chunk of a refblock, which [`Self::reach`] was told of.
    fn with_chunk<T>(&self, refblock: u64, work: impl FnOnce(&mut Chunk) -> T) -> T {
        let near = self.near.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(chunk) = near.get(refblock as usize) {
            return work(&mut locked(chunk));
        }
        let mut far = locked(&self.far);
        work(far.entry(refblock).or_insert_with(Chunk::new))
    }

    /// Makes the directory long enough for a refblock, unless that is a far one.
    fn reach(&self, refblock: u64) -> Result<(), OutOfMemory> {
        let refblock = refblock.min(NEAR_REFBLOCKS - 1) as usize;
        let length = self
            .near
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len();
        if refblock < length {
            return Ok(());
        }
        let mut near = self.near.write().unwrap_or_else(PoisonError::into_inner);
        let more = (refblock + 1).saturating_sub(near.len());
        near.try_reserve(more).map_err(|_| OutOfMemory)?;
        while near.len() <= refblock {
            near.push(Mutex::new(Chunk::new()));
        }
        Ok(())
    }
}

/// No code panics while it holds a lock, and what it guards is whole at any time.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
