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
    /// does not fit; the width follows from the length.
    Each(Box<[u8]>),
}

impl Chunk {
    /// Where nothing was counted.
    pub const EMPTY: Self = Self::Same(0);

    /// The count at an index.
    pub fn get(&self, index: usize) -> u64 {
        match self {
            Self::Few { indices, .. } if !indices.contains(&(index as u16)) => 0,
            Self::Same(count) | Self::Few { count, .. } => *count,
            Self::Each(bytes) => width::get(order_of(bytes), bytes, index),
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

    /// Adds `times` to each count of many runs, which stops at the end of 64 bits.
    pub fn add(
        &mut self,
        mut runs: impl Iterator<Item = Range<usize>>,
        times: u64,
    ) -> Result<(), OutOfMemory> {
        let mut next = runs.next();
        while next.is_some() {
            if let Self::Each(bytes) = self {
                // Where clusters are not side by side there are many runs of one, and each fits.
                let order = order_of(bytes);
                while let Some(run) = &next
                    && run.len() == 1
                    && width::add_one(order, bytes, run.start, times)
                {
                    next = runs.next();
                }
            }
            if let Some(run) = next {
                self.add_run(run, times)?;
                next = runs.next();
            }
        }
        if let Self::Each(bytes) = self
            && order_of(bytes) == RefcountOrder::BIT
            && bytes.iter().all(|byte| *byte == 0xff)
        {
            *self = Self::Same(1);
        }
        Ok(())
    }

    fn add_run(&mut self, run: Range<usize>, times: u64) -> Result<(), OutOfMemory> {
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
        Ok(())
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
        let all_if = |count| if test(count) { u64::MAX } else { 0 };
        match (self, self.same(block)) {
            (_, Some(count)) => all_if(count),
            (Self::Each(bytes), _) if order_of(bytes) == RefcountOrder::BIT => {
                let ones = width::word(RefcountOrder::BIT, bytes, block);
                ones & all_if(1) | !ones & all_if(0)
            }
            _ => {
                let counts = self.block(block).into_iter().rev();
                counts.fold(0, |bits, count| bits << 1 | u64::from(test(count)))
            }
        }
    }

    /// A block of counts.
    pub fn block(&self, block: usize) -> Counts {
        match self {
            Self::Same(count) => [*count; BLOCK],
            Self::Few { indices, count } => {
                let mut counts = [0; BLOCK];
                let indices = indices.iter().map(|index| usize::from(*index));
                let here = indices.filter(|index| index / BLOCK == block);
                here.for_each(|index| counts[index % BLOCK] = *count);
                counts
            }
            Self::Each(bytes) => width::decode(order_of(bytes), block_of(bytes, block)),
        }
    }

    /// The count that all of a block have, if that is so.
    pub fn same(&self, block: usize) -> Option<u64> {
        match self {
            Self::Same(count) => Some(*count),
            Self::Few { indices, .. } => {
                let is_here = |index: &u16| usize::from(*index) / BLOCK == block;
                (!indices.iter().any(is_here)).then_some(0)
            }
            Self::Each(bytes) => width::same(order_of(bytes), block_of(bytes, block)),
        }
    }

    /// Whether a count is above 1, or was.
    pub fn has_shared(&self) -> bool {
        match self {
            Self::Same(count) | Self::Few { count, .. } => *count > 1,
            Self::Each(bytes) => order_of(bytes) > RefcountOrder::BIT,
        }
    }

    /// Bytes of memory that it holds.
    pub const fn memory(&self) -> usize {
        match self {
            Self::Same(_) | Self::Few { .. } => 0,
            Self::Each(bytes) => bytes.len(),
        }
    }

    /// Each count on its own, in a width that has `value`.
    fn each(&mut self, value: u64) -> Result<(RefcountOrder, &mut [u8]), OutOfMemory> {
        let too_high = match self {
            Self::Same(count) | Self::Few { count, .. } => Some(value.max(*count)),
            Self::Each(bytes) => (value > order_of(bytes).max_refcount()).then_some(value),
        };
        if let Some(order) = too_high.map(order_for) {
            let mut wide = Vec::new();
            let length = CLUSTERS / BLOCK * width::block_bytes(order);
            wide.try_reserve_exact(length).map_err(|_| OutOfMemory)?;
            wide.resize(length, 0);
            for (number, bytes) in wide.chunks_mut(width::block_bytes(order)).enumerate() {
                width::encode(order, &self.block(number), bytes);
            }
            *self = Self::Each(wide.into_boxed_slice());
        }
        match self {
            Self::Each(bytes) => Ok((order_of(bytes), bytes)),
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

/// The width of so many bytes of counts.
const fn order_of(bytes: &[u8]) -> RefcountOrder {
    match RefcountOrder::new(bytes.len().ilog2() + 3 - BITS) {
        Some(order) => order,
        None => RefcountOrder::MAX,
    }
}

fn block_of(bytes: &[u8], block: usize) -> &[u8] {
    let length = bytes.len() / (CLUSTERS / BLOCK);
    &bytes[block * length..][..length]
}
