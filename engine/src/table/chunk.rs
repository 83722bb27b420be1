//! The counts that one refblock covers.

use std::ops::Range;

use super::narrow;
use super::width::{self, Added, Piece};
use crate::geometry::{Geometry, RefcountOrder};
use crate::table::OutOfMemory;

/// Bytes that one entry of the sparse form takes up.
const SPARSE_ENTRY_BYTES: usize = size_of::<(u32, u64)>();

/// How many times as much memory the bytes may take up. Adding to a long list in no order moves half
/// of it each time; adding to the bytes moves nothing.
const SPARSE_FACTOR: usize = 8;

/// The largest count that fits a byte.
const MAX_NARROW: u64 = narrow::ORDER.max_refcount();

/// The counts of one refblock's range: few of them as a sorted list, many as the refblock's bytes,
/// or in a byte each while that is less and they fit.
///
/// A refblock of 2 MiB covers up to 16 million clusters, and an image can refer to a single one in
/// each of a great many ranges. The list keeps memory in proportion to the references; it gives
/// way to the bytes once those of the refblock are at most [`SPARSE_FACTOR`] times as long as the
/// list.
#[derive(Clone, Debug)]
pub enum Chunk {
    Sparse(Vec<(u32, u64)>),
    Narrow(Box<[u8]>),
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
            Self::Narrow(counts) => width::get(narrow::ORDER, counts, index),
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
                Err(_) => self.make_bytes(geometry)?,
            }
        }
        if let Self::Narrow(counts) = self {
            if value <= MAX_NARROW {
                width::set(narrow::ORDER, counts, index, value);
                return Ok(());
            }
            self.make_dense(geometry)?;
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
            self.make_bytes(geometry)?;
        }
        if let Self::Narrow(counts) = self {
            let run = counts.get_mut(first..first + count).unwrap_or_default();
            if let Some(added) = narrow::add_run(run, times) {
                return Ok(added);
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
                self.make_bytes(geometry)?;
            }
        }
        let mut added = Added::default();
        let mut pieces = pieces;
        if let Self::Narrow(counts) = self {
            let (done, narrow) = narrow::add_pieces(geometry, counts, pieces, times);
            added = narrow;
            pieces = &pieces[done..];
            if pieces.is_empty() {
                return Ok(added);
            }
            self.make_dense(geometry)?;
        }
        if let Self::Dense(bytes) = self {
            added.join(width::add_pieces(geometry, bytes, pieces, times));
            return Ok(added);
        }
        for piece in pieces {
            let range = piece.range(geometry.refblock_bits());
            added.join(self.add_run(geometry, range.start, range.len(), times)?);
        }
        Ok(added)
    }

    /// Adds `times` to the count at each of many indices.
    pub fn add_hits(
        &mut self,
        geometry: &Geometry,
        hits: &[u32],
        times: u64,
    ) -> Result<Added, OutOfMemory> {
        if let Self::Sparse(list) = self
            && !fits_sparse(geometry, list.len().saturating_add(hits.len()))
        {
            self.make_bytes(geometry)?;
        }
        let mut added = Added::default();
        let mut hits = hits;
        if let Self::Narrow(counts) = self {
            let (done, narrow) = narrow::add_hits(counts, hits, times);
            added = narrow;
            hits = &hits[done..];
        }
        for index in hits {
            added.join(self.add_run(geometry, *index as usize, 1, times)?);
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
            Self::Narrow(counts) => width::find(narrow::ORDER, counts, from, zero),
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
            Self::Narrow(counts) => width::count_ones(narrow::ORDER, counts, first, count),
            Self::Dense(bytes) => width::count_ones(order, bytes, first, count),
        }
    }

    /// The last index whose count is not 0.
    pub fn last_used(&self, geometry: &Geometry) -> Option<usize> {
        match self {
            Self::Sparse(list) => list.last().map(|entry| entry.0 as usize),
            Self::Narrow(counts) => counts.iter().rposition(|count| *count != 0),
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
        match self {
            Self::Sparse(list) => {
                refblock.fill(0);
                for (index, value) in list {
                    width::set(geometry.order(), refblock, *index as usize, *value);
                }
            }
            Self::Narrow(counts) => {
                let (refcounts, rest) = split(geometry, refblock.len());
                narrow::widen(geometry.order(), counts, &mut refblock[refcounts]);
                refblock[rest].fill(0);
            }
            Self::Dense(bytes) => {
                let (refcounts, rest) = split(geometry, refblock.len());
                refblock[refcounts.clone()].copy_from_slice(&bytes[refcounts]);
                refblock[rest].fill(0);
            }
        }
    }

    /// Fills `counts` from the index `first` on; 0 past the end.
    pub fn decode(&self, order: RefcountOrder, first: usize, counts: &mut [u64]) {
        match self {
            Self::Sparse(list) => {
                counts.fill(0);
                let start = list.partition_point(|entry| (entry.0 as usize) < first);
                for (index, value) in &list[start..] {
                    match counts.get_mut(*index as usize - first) {
                        Some(count) => *count = *value,
                        None => break,
                    }
                }
            }
            Self::Narrow(narrow) => width::decode(narrow::ORDER, narrow, first, counts),
            Self::Dense(bytes) => width::decode(order, bytes, first, counts),
        }
    }

    /// Whether the refblock that begins with `refblock` has these counts and nothing else.
    pub fn equals(&self, geometry: &Geometry, refblock: &[u8]) -> bool {
        let (refcounts, rest) = split(geometry, refblock.len());
        let (counts, rest) = (&refblock[refcounts], &refblock[rest]);
        let order = geometry.order();
        let same = match self {
            Self::Narrow(narrow) => narrow::equals(order, narrow, counts),
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
            Self::Narrow(bytes) | Self::Dense(bytes) => bytes.len(),
        }
    }

    /// Turns a list to the smaller sort of bytes that holds it.
    fn make_bytes(&mut self, geometry: &Geometry) -> Result<(), OutOfMemory> {
        let Self::Sparse(list) = self else {
            return Ok(());
        };
        if !narrow::holds(geometry.order()) || list.iter().any(|entry| entry.1 > MAX_NARROW) {
            return self.make_dense(geometry);
        }
        let mut counts = zeros(geometry.refcounts_per_refblock() as usize)?;
        for (index, value) in list {
            width::set(narrow::ORDER, &mut counts, *index as usize, *value);
        }
        *self = Self::Narrow(counts);
        Ok(())
    }

    fn make_dense(&mut self, geometry: &Geometry) -> Result<(), OutOfMemory> {
        let mut bytes = zeros(geometry.refblock_bytes())?;
        self.encode(geometry, &mut bytes);
        *self = Self::Dense(bytes);
        Ok(())
    }
}

fn zeros(length: usize) -> Result<Box<[u8]>, OutOfMemory> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|_| OutOfMemory)?;
    bytes.resize(length, 0);
    Ok(bytes.into_boxed_slice())
}

/// Where in a refblock of `length` bytes the refcounts are, and where what is left of it.
fn split(geometry: &Geometry, length: usize) -> (Range<usize>, Range<usize>) {
    let refcounts = geometry.refblock_bytes().min(length);
    (0..refcounts, refcounts..length)
}

fn fits_sparse(geometry: &Geometry, entries: usize) -> bool {
    entries.saturating_mul(SPARSE_ENTRY_BYTES * SPARSE_FACTOR) < geometry.refblock_bytes()
}
