//! The counts that one refblock covers.

use super::width::{self, Added, Piece};
use crate::geometry::{Geometry, RefcountOrder};
use crate::table::OutOfMemory;

/// Bytes that one entry of the sparse form takes up.
const SPARSE_ENTRY_BYTES: usize = size_of::<(u32, u64)>();

/// How many times as much memory the bytes may take up. Adding to a long list in no order moves half
/// of it each time; adding to the bytes moves nothing.
const SPARSE_FACTOR: usize = 8;

/// The counts of one refblock's range: few of them as a sorted list, many as the refblock's bytes.
///
/// A refblock of 2 MiB covers up to 16 million clusters, and an image can refer to a single one in
/// each of a great many ranges. The list keeps memory in proportion to the references; it gives
/// way to the bytes once these are at most [`SPARSE_FACTOR`] times as long as the list.
#[derive(Clone, Debug)]
pub enum Chunk {
    Sparse(Vec<(u32, u64)>),
    Dense(Box<[u8]>),
}

impl Chunk {
    pub const fn new() -> Self {
        Self::Sparse(Vec::new())
    }

    /// Whether it is the list without an entry; one of bytes always has a count that is not 0.
    pub const fn is_empty(&self) -> bool {
        matches!(self, Self::Sparse(list) if list.is_empty())
    }

    pub fn get(&self, order: RefcountOrder, index: usize) -> u64 {
        match self {
            Self::Sparse(list) => list
                .binary_search_by_key(&(index as u32), |entry| entry.0)
                .map_or(0, |position| list[position].1),
            Self::Dense(bytes) => width::get(order, bytes, index),
        }
    }

    pub fn set(
        &mut self,
        geometry: &Geometry,
        index: usize,
        value: u64,
    ) -> Result<(), OutOfMemory> {
        if let Self::Sparse(list) = self {
            match list.binary_search_by_key(&(index as u32), |entry| entry.0) {
                Ok(position) if value == 0 => {
                    list.remove(position);
                    return Ok(());
                }
                Ok(position) => {
                    list[position].1 = value;
                    return Ok(());
                }
                Err(_) if value == 0 => return Ok(()),
                Err(position) if fits_sparse(geometry, list.len() + 1) => {
                    list.try_reserve(1).map_err(|_| OutOfMemory)?;
                    list.insert(position, (index as u32, value));
                    return Ok(());
                }
                Err(_) => self.make_dense(geometry)?,
            }
        }
        if let Self::Dense(bytes) = self {
            width::set(geometry.order(), bytes, index, value);
        }
        Ok(())
    }

    /// Adds `times` to a run of counts, each stopping at the maximum.
    pub fn add_run(
        &mut self,
        geometry: &Geometry,
        first: usize,
        count: usize,
        times: u64,
    ) -> Result<Added, OutOfMemory> {
        if let Self::Sparse(list) = self {
            if fits_sparse(geometry, list.len() + count) {
                return self.add_to_list(geometry, first, count, times);
            }
            self.make_dense(geometry)?;
        }
        let Self::Dense(bytes) = self else {
            return Ok(Added::default());
        };
        Ok(width::add_run(geometry.order(), bytes, first, count, times))
    }

    /// The same for each of many runs. They may turn the list to bytes before it is as long, but
    /// never before there are as many references as would make it so.
    pub fn add_pieces(
        &mut self,
        geometry: &Geometry,
        pieces: &[Piece],
        times: u64,
    ) -> Result<Added, OutOfMemory> {
        if let Self::Sparse(list) = self {
            let more: usize = pieces.iter().map(|piece| piece.count as usize).sum();
            if !fits_sparse(geometry, list.len().saturating_add(more)) {
                self.make_dense(geometry)?;
            }
        }
        if let Self::Dense(bytes) = self {
            return Ok(width::add_pieces(geometry, bytes, pieces, times));
        }
        let mut added = Added::default();
        for piece in pieces {
            let range = piece.range(geometry.refblock_bits());
            let times = times.saturating_mul(u64::from(piece.times));
            added.join(self.add_run(geometry, range.start, range.len(), times)?);
        }
        Ok(added)
    }

    fn add_to_list(
        &mut self,
        geometry: &Geometry,
        first: usize,
        count: usize,
        times: u64,
    ) -> Result<Added, OutOfMemory> {
        let mut added = Added::default();
        for index in first..first + count {
            let before = self.get(geometry.order(), index);
            let after = before.saturating_add(times).min(geometry.max_refcount());
            self.set(geometry, index, after)?;
            added.note(before, after, times);
        }
        Ok(added)
    }

    /// The first index from `from` on whose count is 0 (`zero`) or is not.
    pub fn find(&self, geometry: &Geometry, from: usize, zero: bool) -> Option<usize> {
        match self {
            Self::Dense(bytes) => width::find(geometry.order(), bytes, from, zero),
            Self::Sparse(list) => {
                let mut position = list.partition_point(|entry| (entry.0 as usize) < from);
                if !zero {
                    return list.get(position).map(|entry| entry.0 as usize);
                }
                let mut index = from;
                while list
                    .get(position)
                    .is_some_and(|entry| entry.0 as usize == index)
                {
                    index += 1;
                    position += 1;
                }
                (index < geometry.refcounts_per_refblock() as usize).then_some(index)
            }
        }
    }

    /// How many of a run of counts are 1.
    pub fn count_ones(&self, order: RefcountOrder, first: usize, count: usize) -> u64 {
        match self {
            Self::Sparse(list) => {
                let start = list.partition_point(|entry| (entry.0 as usize) < first);
                let run = list[start..]
                    .iter()
                    .take_while(|entry| (entry.0 as usize) < first + count);
                run.filter(|entry| entry.1 == 1).count() as u64
            }
            Self::Dense(bytes) => width::count_ones(order, bytes, first, count),
        }
    }

    /// The last index whose count is not 0.
    pub fn last_used(&self, geometry: &Geometry) -> Option<usize> {
        match self {
            Self::Sparse(list) => list.last().map(|entry| entry.0 as usize),
            Self::Dense(bytes) => {
                let last_byte = bytes.iter().rposition(|byte| *byte != 0)?;
                let order = geometry.order().get();
                let first = if order < 3 {
                    last_byte << (3 - order)
                } else {
                    last_byte >> (order - 3)
                };
                let past = if order < 3 {
                    first + (1 << (3 - order))
                } else {
                    first + 1
                };
                (first..past)
                    .rev()
                    .find(|index| width::get(geometry.order(), bytes, *index) != 0)
            }
        }
    }

    /// Writes the counts into `refblock` as a refblock has them; the rest of it becomes 0.
    pub fn encode(&self, geometry: &Geometry, refblock: &mut [u8]) {
        refblock.fill(0);
        match self {
            Self::Sparse(list) => {
                for (index, value) in list {
                    width::set(geometry.order(), refblock, *index as usize, *value);
                }
            }
            Self::Dense(bytes) => {
                let length = bytes.len().min(refblock.len());
                refblock[..length].copy_from_slice(&bytes[..length]);
            }
        }
    }

    /// Whether the refblock that begins with `refblock` has these counts and nothing else.
    pub fn equals(&self, geometry: &Geometry, refblock: &[u8]) -> bool {
        let (counts, rest) = refblock.split_at(geometry.refblock_bytes().min(refblock.len()));
        let order = geometry.order();
        let same = match self {
            Self::Dense(bytes) => **bytes == *counts,
            Self::Sparse(list) => {
                let mut from = 0;
                let listed = list.iter().all(|(index, value)| {
                    let index = *index as usize;
                    let next = width::find(
                        order,
                        counts,
                        std::mem::replace(&mut from, index + 1),
                        false,
                    );
                    next == Some(index) && width::get(order, counts, index) == *value
                });
                listed && width::find(order, counts, from, false).is_none()
            }
        };
        same && width::is_zero(rest)
    }

    /// Bytes of memory that it holds.
    pub fn memory(&self) -> usize {
        match self {
            Self::Sparse(list) => list.capacity() * SPARSE_ENTRY_BYTES,
            Self::Dense(bytes) => bytes.len(),
        }
    }

    fn make_dense(&mut self, geometry: &Geometry) -> Result<(), OutOfMemory> {
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(geometry.refblock_bytes())
            .map_err(|_| OutOfMemory)?;
        bytes.resize(geometry.refblock_bytes(), 0);
        self.encode(geometry, &mut bytes);
        *self = Self::Dense(bytes.into_boxed_slice());
        Ok(())
    }
}

fn fits_sparse(geometry: &Geometry, entries: usize) -> bool {
    entries.saturating_mul(SPARSE_ENTRY_BYTES * SPARSE_FACTOR) < geometry.refblock_bytes()
}
