//! The counts of clusters side by side.

use std::ops::Range;

use super::OutOfMemory;
use super::width::{self, BLOCK, Counts};
use crate::geometry::RefcountOrder;

/// Binary logarithm of the clusters of a chunk: few, so that one of them takes up little.
pub const BITS: u32 = 10;

/// The clusters of a chunk.
pub const CLUSTERS: usize = 1 << BITS;

/// Counted clusters that a chunk holds without memory of its own.
const FEW: usize = 7;

/// In place of the index of a cluster, where there are less.
const NONE: u16 = u16::MAX;

/// The true counts of the clusters of a chunk.
#[derive(Clone, Debug)]
pub enum Chunk {
    /// All the same, as where nothing was counted, or everything once.
    Same(u64),
    /// A few were counted, all as often: their indices, in the order in which they came.
    Few { indices: [u16; FEW], count: u64 },
    /// Each its own, as [`width`] reads them. They begin with a bit each and are widened when one
    /// does not fit.
    Each(RefcountOrder, Box<[u8]>),
}

impl Chunk {
    /// Where nothing was counted.
    pub const EMPTY: Self = Self::Same(0);

    /// The count at an index.
    pub fn get(&self, index: usize) -> u64 {
        match self {
            Self::Few { indices, .. } if !indices.contains(&(index as u16)) => 0,
            Self::Same(count) | Self::Few { count, .. } => *count,
            Self::Each(order, bytes) => width::get(*order, bytes, index),
        }
    }

    /// Sets the count at an index.
    pub fn set(&mut self, index: usize, value: u64) -> Result<(), OutOfMemory> {
        let before = self.get(index);
        if before != value && (before != 0 || !self.add_to_few(index as u16, value)) {
            let (order, bytes) = self.each(value)?;
            width::set(order, bytes, index, value);
        }
        Ok(())
    }

    /// Adds `times` to each count of a run, which stops at the end of 64 bits.
    pub fn add(&mut self, run: Range<usize>, times: u64) -> Result<(), OutOfMemory> {
        if let Self::Same(count) = self
            && run.len() == CLUSTERS
        {
            *count = count.saturating_add(times);
            return Ok(());
        }
        let mut from = run.start;
        if run.len() <= FEW {
            from += run
                .clone()
                .take_while(|index| self.add_to_few(*index as u16, times))
                .count();
        }
        let mut highest = times;
        while from < run.end {
            let (order, bytes) = self.each(highest)?;
            from = width::add(order, bytes, from..run.end, times);
            // If that was not all, one of them needs more than there is.
            highest = times.max(order.max_refcount().saturating_add(1));
        }
        self.unite();
        Ok(())
    }

    /// Adds `times` to the counts at many indices, where each count has its own, up to the first that
    /// does not fit; says how many did.
    pub fn add_each(&mut self, indices: impl Iterator<Item = usize>, times: u64) -> usize {
        let Self::Each(order, bytes) = self else {
            return 0;
        };
        let added = width::add_each(*order, bytes, indices, times);
        self.unite();
        added
    }

    /// Forgets about each where all are 1.
    fn unite(&mut self) {
        if let Self::Each(RefcountOrder::BIT, bytes) = self
            && bytes.iter().all(|byte| *byte == 0xff)
        {
            *self = Self::Same(1);
        }
    }

    /// Adds `times` to a count if few are counted then, all as often, and says whether it did.
    fn add_to_few(&mut self, index: u16, times: u64) -> bool {
        if let Self::Same(count @ 0) = *self {
            let indices = [NONE; FEW];
            *self = Self::Few { indices, count };
        }
        let Self::Few { indices, count } = self else {
            return false;
        };
        if [index, NONE].contains(&indices[0]) && indices[1] == NONE {
            indices[0] = index;
            *count = count.saturating_add(times);
            return true;
        }
        let is_new = *count == times && !indices.contains(&index);
        let mut free = indices.iter_mut().filter(|index| is_new && **index == NONE);
        free.next().map(|free| *free = index).is_some()
    }

    /// Which of a block of counts pass a test, the first in the lowest bit.
    pub fn passing(&self, block: usize, test: impl Fn(u64) -> bool) -> u64 {
        // Those of a count, where all others are 0.
        let (bits, count) = match self {
            Self::Same(count) => (u64::MAX, *count),
            Self::Few { indices, count } => {
                let indices = indices.iter().map(|index| usize::from(*index));
                let here = indices.filter(|index| index / BLOCK == block);
                let bits = here.fold(0, |bits, index| bits | 1 << (index % BLOCK));
                (bits, *count)
            }
            Self::Each(RefcountOrder::BIT, bytes) => {
                (width::word(RefcountOrder::BIT, bytes, block), 1)
            }
            Self::Each(order, bytes) => {
                let bytes = block_of(*order, bytes, block);
                let Some(count) = width::same(*order, bytes) else {
                    let counts = width::decode(*order, bytes).into_iter().rev();
                    return counts.fold(0, |bits, count| bits << 1 | u64::from(test(count)));
                };
                (u64::MAX, count)
            }
        };
        let all_if = |count| if test(count) { u64::MAX } else { 0 };
        bits & all_if(count) | !bits & all_if(0)
    }

    /// The counts from an index on, as many as are in a block from there.
    pub fn block(&self, first: usize) -> Counts {
        let block = first / BLOCK;
        let counts = match self {
            Self::Each(order, bytes) if *order != RefcountOrder::BIT => {
                width::decode(*order, block_of(*order, bytes, block))
            }
            // What is counted is counted alike.
            _ => {
                let (counted, count) = (self.passing(block, |count| count != 0), self.highest());
                std::array::from_fn(|position| (counted >> position & 1) * count)
            }
        };
        from_index(first, counts)
    }

    /// Fills `bytes` with the refcounts from an index on, each at most the maximum of
    /// the width.
    pub fn encode(&self, order: RefcountOrder, first: usize, bytes: &mut [u8]) {
        let length = width::block_bytes(order);
        match self {
            Self::Same(count) => width::fill(order, *count, bytes),
            Self::Few { indices, count } => {
                bytes.fill(0);
                let indices = indices.iter().filter(|index| **index != NONE);
                for index in indices.filter_map(|index| usize::from(*index).checked_sub(first)) {
                    width::set(order, bytes, index, *count);
                }
            }
            Self::Each(RefcountOrder::BYTE, each) => {
                let each = each.as_chunks().0[first / BLOCK..].iter();
                for (counts, bytes) in each.zip(bytes.chunks_mut(length)) {
                    width::encode(order, &from_index(first, *counts), bytes);
                }
            }
            Self::Each(..) => {
                let firsts = (first..).step_by(BLOCK);
                for (first, bytes) in firsts.zip(bytes.chunks_mut(length)) {
                    width::encode(order, &self.block(first), bytes);
                }
            }
        }
    }

    /// What no count is above.
    pub fn highest(&self) -> u64 {
        match self {
            Self::Same(count) | Self::Few { count, .. } => *count,
            Self::Each(order, _) => order.max_refcount(),
        }
    }

    /// Bytes of memory that it holds.
    pub const fn memory(&self) -> usize {
        match self {
            Self::Same(_) | Self::Few { .. } => 0,
            Self::Each(_, bytes) => bytes.len(),
        }
    }

    /// Each count on its own, in a width that has `value`.
    fn each(&mut self, value: u64) -> Result<(RefcountOrder, &mut [u8]), OutOfMemory> {
        if value > self.highest() || !matches!(self, Self::Each(..)) {
            let order = order_for(value.max(self.highest()));
            let mut wide = Vec::new();
            let length = CLUSTERS / BLOCK * width::block_bytes(order);
            wide.try_reserve_exact(length).map_err(|_| OutOfMemory)?;
            wide.resize(length, 0);
            match self {
                // What most images come to, a bit a byte.
                Self::Each(RefcountOrder::BIT, bits) if order == RefcountOrder::BYTE => {
                    for (counts, bits) in wide.as_chunks_mut::<8>().0.iter_mut().zip(&**bits) {
                        *counts = std::array::from_fn(|index| bits >> index & 1);
                    }
                }
                _ => self.encode(order, 0, &mut wide),
            }
            *self = Self::Each(order, wide.into_boxed_slice());
        }
        match self {
            Self::Each(order, bytes) => Ok((*order, bytes)),
            // It was turned to the other just now.
            Self::Same(_) | Self::Few { .. } => Err(OutOfMemory),
        }
    }
}

/// The narrowest width that has `value`: a bit, a byte, or more of them.
fn order_for(value: u64) -> RefcountOrder {
    if value <= 1 {
        return RefcountOrder::BIT;
    }
    (RefcountOrder::BYTE.get()..)
        .map_while(RefcountOrder::new)
        .find(|order| value <= order.max_refcount())
        .unwrap_or(RefcountOrder::MAX)
}

fn block_of(order: RefcountOrder, bytes: &[u8], block: usize) -> &[u8] {
    let length = width::block_bytes(order);
    &bytes[block * length..][..length]
}

/// A block of counts as it is from an index on: only refblocks of models begin where no block does.
fn from_index<T>(first: usize, mut counts: [T; BLOCK]) -> [T; BLOCK] {
    counts.rotate_left(first % BLOCK);
    counts
}
