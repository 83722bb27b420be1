//! A table that several threads count into at once.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use super::chunk::Chunk;
use super::width::{Added, Piece};
use super::{NEAR_REFBLOCKS, OutOfMemory, RefcountTable};
use crate::geometry::Geometry;

/// A table with a lock for each chunk. Counting is commutative, so the result is that of counting
/// one after the other, as long as nothing exceeds the maximum.
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

    /// Adds `times` to the counts of all pieces, as often as they say. They are reordered.
    pub fn add(&self, pieces: &mut [Piece], times: u64) -> Result<Added, OutOfMemory> {
        let bits = self.geometry.refblock_bits();
        let refblock_of = |piece: &Piece| piece.first >> bits;
        let (mut groups, mut previous, mut highest) = (0, None, 0);
        for refblock in pieces.iter().map(refblock_of) {
            groups += usize::from(previous != Some(refblock));
            previous = Some(refblock);
            highest = highest.max(refblock);
        }
        // Locking a chunk costs about as much as adding a few pieces to it.
        if groups * 8 > pieces.len() && groups > 8 {
            pieces.sort_unstable_by_key(refblock_of);
        }
        self.reach(highest.min(NEAR_REFBLOCKS - 1) as usize)?;
        let near = self.near.read().unwrap_or_else(PoisonError::into_inner);
        let mut sum = Added::default();
        for group in pieces.chunk_by(|one, next| refblock_of(one) == refblock_of(next)) {
            let refblock = refblock_of(&group[0]);
            let added = if let Some(chunk) = near.get(refblock as usize) {
                locked(chunk).add_pieces(&self.geometry, group, times)?
            } else {
                let mut far = locked(&self.far);
                let chunk = far.entry(refblock).or_insert_with(Chunk::new);
                chunk.add_pieces(&self.geometry, group, times)?
            };
            sum.join(added);
        }
        Ok(sum)
    }

    /// Makes the directory long enough for a refblock.
    fn reach(&self, refblock: usize) -> Result<(), OutOfMemory> {
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
