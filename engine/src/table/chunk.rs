//! The counts of the clusters that one refblock covers.

use std::ops::Range;

use super::OutOfMemory;
use super::add::{self, Added, Piece};
use super::convert;
use super::list::{self, Entry};
use super::width;
use crate::geometry::{Geometry, RefcountOrder};

/// The counts of one refblock's range: few of them as a list, many packed.
///
/// A refblock of 2 MiB covers up to 16 million clusters, and an image can refer to a single one in
/// each of a great many ranges. The list keeps memory in proportion to the references; it gives way
/// to the packed counts when it is no longer much shorter than the refblock, see [`list::fits`].
///
/// Either form holds the true counts. The packed ones begin as wide as refcounts are on disk, a byte
/// at most, and are widened when one does not fit: to a byte, then to twice the width each time. So
/// an image whose clusters are referred to once takes up a bit for each where the refcounts have
/// one, and one with 64-bit refcounts an eighth of these.
#[derive(Clone, Debug)]
pub enum Chunk {
    /// The counts that are not 0, by index, in ascending order.
    List(Vec<Entry>),
    /// All of them, as [`super::width`] reads them; their width follows from the length. They may
    /// all be 0.
    Packed(Box<[u8]>),
}

impl Chunk {
    pub const fn new() -> Self {
        Self::List(Vec::new())
    }

    /// Whether it is the list without an entry: nothing was ever counted here. Whether all counts
    /// are 0 takes a look at them, [`Self::find`].
    pub const fn is_empty(&self) -> bool {
        matches!(self, Self::List(list) if list.is_empty())
    }

    pub fn get(&self, geometry: &Geometry, index: usize) -> u64 {
        match self {
            Self::List(list) => list::position(list, index).map_or(0, |position| list[position].1),
            Self::Packed(counts) => width::get(order_of(geometry, counts), counts, index),
        }
    }

    pub fn set(
        &mut self,
        geometry: &Geometry,
        index: usize,
        value: u64,
    ) -> Result<(), OutOfMemory> {
        if let Self::List(list) = self {
            match list::position(list, index) {
                Ok(position) if value == 0 => {
                    list.remove(position);
                    return Ok(());
                }
                Ok(position) => {
                    list[position].1 = value;
                    return Ok(());
                }
                Err(_) if value == 0 => return Ok(()),
                Err(position) if list::fits(geometry, list.len() + 1) => {
                    return list::insert(list, position, index, value);
                }
                Err(_) => {}
            }
        }
        loop {
            let (order, counts) = self.packed(geometry)?;
            if value <= order.max_refcount() {
                width::set(order, counts, index, value);
                return Ok(());
            }
            self.widen(geometry, value)?;
        }
    }

    /// Adds `times` to a run of counts, each stopping at the end of 64 bits.
    pub fn add_run(
        &mut self,
        geometry: &Geometry,
        run: Range<usize>,
        times: u64,
    ) -> Result<Added, OutOfMemory> {
        if let Self::List(list) = self
            && list::fits(geometry, list.len().saturating_add(run.len()))
        {
            return list::add_run(list, run, times);
        }
        loop {
            let (order, counts) = self.packed(geometry)?;
            if let Some(added) = add::add_run(order, counts, run.clone(), times) {
                return Ok(added);
            }
            self.widen(geometry, times)?;
        }
    }

    /// The same for each of many runs. They may turn the list to packed counts before it is as long,
    /// but never before there are as many references as would make it so.
    pub fn add_pieces(
        &mut self,
        geometry: &Geometry,
        pieces: &[Piece],
        times: u64,
    ) -> Result<Added, OutOfMemory> {
        let bits = geometry.refblock_bits();
        let mut sum = Added::default();
        if let Self::List(list) = self {
            let more: usize = pieces.iter().map(|piece| piece.count as usize).sum();
            if list::fits(geometry, list.len().saturating_add(more)) {
                for piece in pieces {
                    sum.join(list::add_run(list, piece.range(bits), times)?);
                }
                return Ok(sum);
            }
        }
        let mut pieces = pieces;
        loop {
            let (order, counts) = self.packed(geometry)?;
            let (done, added) = add::add_pieces(order, bits, counts, pieces, times);
            sum.join(added);
            pieces = &pieces[done..];
            if pieces.is_empty() {
                return Ok(sum);
            }
            self.widen(geometry, times)?;
        }
    }

    /// Adds `times` to the count at each of many indices.
    pub fn add_hits(
        &mut self,
        geometry: &Geometry,
        hits: &[u32],
        times: u64,
    ) -> Result<Added, OutOfMemory> {
        let mut sum = Added::default();
        if let Self::List(list) = self
            && list::fits(geometry, list.len().saturating_add(hits.len()))
        {
            for index in hits {
                let index = *index as usize;
                sum.join(list::add_run(list, index..index + 1, times)?);
            }
            return Ok(sum);
        }
        let mut hits = hits;
        loop {
            let (order, counts) = self.packed(geometry)?;
            let (done, added) = add::add_hits(order, counts, hits, times);
            sum.join(added);
            hits = &hits[done..];
            if hits.is_empty() {
                return Ok(sum);
            }
            self.widen(geometry, times)?;
        }
    }

    /// The first index from `from` on whose count is 0 (`zero`) or is not.
    pub fn find(&self, geometry: &Geometry, from: usize, zero: bool) -> Option<usize> {
        match self {
            Self::Packed(counts) => width::find(order_of(geometry, counts), counts, from, zero),
            Self::List(list) => {
                let end = geometry.refcounts_per_refblock() as usize;
                list::find(list, from, zero, end)
            }
        }
    }

    /// The first index from `from` on whose count is above `value`, and that count. It costs nothing
    /// where the counts are held in a width that has no such value.
    pub fn find_above(&self, geometry: &Geometry, from: usize, value: u64) -> Option<(usize, u64)> {
        match self {
            Self::List(list) => list::find_above(list, from, value),
            Self::Packed(counts) => {
                width::find_above(order_of(geometry, counts), counts, from, value)
            }
        }
    }

    /// How many of a run of counts are 1.
    pub fn count_ones(&self, geometry: &Geometry, run: Range<usize>) -> u64 {
        match self {
            Self::List(list) => list::count_ones(list, &run),
            Self::Packed(counts) => {
                width::count_ones(order_of(geometry, counts), counts, run.start, run.len())
            }
        }
    }

    /// The last index whose count is not 0.
    pub fn last_used(&self, geometry: &Geometry) -> Option<usize> {
        match self {
            Self::List(list) => list.last().map(|entry| entry.0 as usize),
            Self::Packed(counts) => width::last_used(order_of(geometry, counts), counts),
        }
    }

    /// Writes the counts into `refblock` as a refblock has them, each cut to what fits; the rest of
    /// it becomes 0.
    pub fn encode(&self, geometry: &Geometry, refblock: &mut [u8]) {
        let order = geometry.order();
        let (refcounts, rest) = split(geometry, refblock.len());
        refblock[rest].fill(0);
        let refcounts = &mut refblock[refcounts];
        match self {
            Self::List(list) => list::encode(list, order, refcounts),
            Self::Packed(counts) => {
                convert::convert(order_of(geometry, counts), counts, order, refcounts);
            }
        }
    }

    /// Fills `counts` from the index `first` on; 0 past the end.
    pub fn decode(&self, geometry: &Geometry, first: usize, counts: &mut [u64]) {
        match self {
            Self::List(list) => list::decode(list, first, counts),
            Self::Packed(packed) => {
                width::decode(order_of(geometry, packed), packed, first, counts);
            }
        }
    }

    /// Whether the refblock that begins with `refblock` is what [`Self::encode`] writes.
    pub fn equals(&self, geometry: &Geometry, refblock: &[u8]) -> bool {
        let (refcounts, rest) = split(geometry, refblock.len());
        let (refcounts, rest) = (&refblock[refcounts], &refblock[rest]);
        let order = geometry.order();
        let same = match self {
            Self::Packed(counts) => {
                convert::equals(order_of(geometry, counts), counts, order, refcounts)
            }
            Self::List(list) => list::equals(list, order, refcounts),
        };
        same && width::is_zero(rest)
    }

    /// Bytes of memory that it holds.
    pub fn memory(&self) -> usize {
        match self {
            Self::List(list) => list.capacity() * size_of::<Entry>(),
            Self::Packed(counts) => counts.len(),
        }
    }

    /// The packed counts and their width; a list is turned to these.
    fn packed(&mut self, geometry: &Geometry) -> Result<(RefcountOrder, &mut [u8]), OutOfMemory> {
        if let Self::List(list) = self {
            let highest = list.iter().map(|entry| entry.1).max().unwrap_or(0);
            let mut order = geometry.order().min(RefcountOrder::BYTE);
            if highest > order.max_refcount() {
                order = wider(order, highest);
            }
            let mut counts = zeros(geometry, order)?;
            for (index, value) in list {
                width::set(order, &mut counts, *index as usize, *value);
            }
            *self = Self::Packed(counts);
        }
        match self {
            Self::Packed(counts) => Ok((order_of(geometry, counts), counts)),
            // It was turned to packed counts.
            Self::List(_) => Ok((RefcountOrder::MAX, &mut [])),
        }
    }

    /// Gives packed counts the next width that has `value`.
    fn widen(&mut self, geometry: &Geometry, value: u64) -> Result<(), OutOfMemory> {
        if let Self::Packed(counts) = self {
            let order = order_of(geometry, counts);
            let wider = wider(order, value);
            let mut wide = zeros(geometry, wider)?;
            convert::convert(order, counts, wider, &mut wide);
            *counts = wide;
        }
        Ok(())
    }
}

/// The width of packed counts.
const fn order_of(geometry: &Geometry, counts: &[u8]) -> RefcountOrder {
    let count_bits = counts.len().ilog2() + 3;
    match RefcountOrder::new(count_bits.saturating_sub(geometry.refblock_bits())) {
        Some(order) => order,
        None => RefcountOrder::MAX,
    }
}

/// The next width, a byte at least, that has `value`.
fn wider(order: RefcountOrder, value: u64) -> RefcountOrder {
    let first = RefcountOrder::BYTE.get().max(order.get() + 1);
    (first..)
        .map_while(RefcountOrder::new)
        .find(|order| value <= order.max_refcount())
        .unwrap_or(RefcountOrder::MAX)
}

fn zeros(geometry: &Geometry, order: RefcountOrder) -> Result<Box<[u8]>, OutOfMemory> {
    let length = 1 << (geometry.refblock_bits() + order.get() - 3);
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
