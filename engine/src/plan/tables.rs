//! Which entries of L1 and L2 tables a repair writes: COPIED bits, by the final counts, and entries
//! that lead to no cluster.

use std::ops::Range;

use super::RepairError;
use super::uses::{Replaced, Uses};
use crate::check::{DiskCounts, check_l1, check_l2, with_wrong};
use crate::finding::Finding;
use crate::format::entry::{L2Entry, L2Format, L2Kind};
use crate::image::Image;
use crate::observer::{Action, Observer};
use crate::references::{L2Item, for_each_item, holds_no_data};
use crate::storage::{Storage, StorageError};
use crate::table::RunSet;
use crate::units::Offset;

/// Which of the changes to a table are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changes {
    /// Those that have to come before the counts change: COPIED bits that are cleared, and entries
    /// that are replaced.
    First,
    /// COPIED bits that are set, once the counts are right.
    Last,
    /// All.
    All,
}

/// A table that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MendedTable {
    pub offset: Offset,
    /// Whether its COPIED bits are looked at: it is one of the active layer's.
    pub is_active: bool,
    /// Whether entries in it are replaced.
    pub replaces: bool,
    /// How many are.
    pub replaced: u64,
    /// COPIED bits that are cleared in it.
    pub clears: u64,
    /// COPIED bits that are set in it.
    pub sets: u64,
    /// Whether it lies in refcount structures that are in use until the header leads to others.
    pub is_late: bool,
}

/// What is written into tables.
#[derive(Clone, Debug, Default)]
pub(super) struct Mended {
    /// L1 entries whose COPIED bit is cleared, and how many it is set in.
    pub l1: (u64, u64),
    /// Whether the L1 table lies in refcount structures that go.
    pub l1_is_late: bool,
    /// L2 tables, in ascending order.
    pub tables: Vec<MendedTable>,
    /// Wrong COPIED bits that stay, as often as their table is referred to.
    pub left: u64,
}

/// What the search for wrong COPIED bits goes by.
pub(super) struct Search<'a> {
    pub storage: &'a dyn Storage,
    pub uses: Uses<'a>,
    pub replaced: &'a Replaced,
    /// Clusters of refcount structures that go.
    pub going: &'a RunSet,
    /// Whether anything may be written at all.
    pub may_write: bool,
}

impl Search<'_> {
    /// Tables in which entries are replaced, and no COPIED bit is looked at.
    pub fn replaced_only(&self) -> Mended {
        let tables = self.replaced.tables.iter();
        Mended {
            tables: tables.map(|offset| self.table(*offset, false)).collect(),
            ..Mended::default()
        }
    }

    fn table(&self, offset: Offset, is_active: bool) -> MendedTable {
        let cluster = self.uses.image.geometry().cluster_of(offset);
        MendedTable {
            offset,
            is_active,
            replaces: self.replaced.tables.contains(&offset),
            replaced: self.replaced.in_table(offset),
            clears: 0,
            sets: 0,
            is_late: self.going.contains(cluster),
        }
    }

    /// Everything that is wrong with the active layer, `counts` being the final ones.
    pub fn all<'a>(
        &self,
        counts: &(dyn Fn() -> DiskCounts<'a> + Sync),
        observer: &mut dyn Observer,
    ) -> Result<Mended, RepairError> {
        let image = self.uses.image;
        let mut mended = self.replaced_only();
        if image.header.l1_table_offset.0 < image.geometry().cluster_size() {
            // The header is no table, and what it seems to lead to is none either.
            return Ok(mended);
        }
        let l1 = check_l1(&mut counts())?;
        if !l1.wrong.is_empty() {
            let is_writable = self.may_write && self.uses.l1_is_writable(self.storage)?;
            for wrong in &l1.wrong {
                observer.finding(&wrong.finding(None), action_in(is_writable));
            }
            let sets = l1.wrong.iter().filter(|wrong| wrong.is_to_set()).count() as u64;
            if is_writable {
                mended.l1 = (l1.wrong.len() as u64 - sets, sets);
                let first = image.geometry().cluster_of(image.header.l1_table_offset);
                mended.l1_is_late = self.going.contains(first);
            } else {
                self.not_written(image.header.l1_table_offset, observer);
                mended.left += l1.wrong.len() as u64;
            }
        }
        let tables: Vec<_> = l1.tables.into_iter().collect();
        let mut buffer = vec![0; image.geometry().cluster_size() as usize];
        for (offset, times) in with_wrong(&tables, counts, observer)? {
            self.storage.read_at(offset, &mut buffer)?;
            let found = self.l2(offset, &mut buffer, &mut counts(), observer)?;
            match found {
                Ok(table) => mended.add(table)?,
                Err(wrong) => mended.left += times * wrong,
            }
        }
        Ok(mended)
    }

    /// What is wrong in an L2 table; how many bits, where it is not written to.
    fn l2(
        &self,
        offset: Offset,
        bytes: &mut [u8],
        counts: &mut DiskCounts<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Result<MendedTable, u64>, RepairError> {
        let image = self.uses.image;
        let mut table = self.table(offset, true);
        let is_writable = self.may_write && self.uses.l2_is_writable(offset, bytes);
        if table.replaces {
            replace(image, bytes);
        }
        check_l2(bytes, counts, &mut |wrong| {
            observer.finding(&wrong.finding(Some(offset)), action_in(is_writable));
            if wrong.is_to_set() {
                table.sets += 1;
            } else {
                table.clears += 1;
            }
        })?;
        if is_writable {
            return Ok(Ok(table));
        }
        self.not_written(offset, observer);
        Ok(Err(table.clears + table.sets))
    }

    fn not_written(&self, table: Offset, observer: &mut dyn Observer) {
        if self.may_write {
            observer.finding(&Finding::TableNotWritten { table }, Action::Reported);
        }
    }
}

impl Mended {
    fn add(&mut self, table: MendedTable) -> Result<(), RepairError> {
        let position = self
            .tables
            .partition_point(|other| other.offset < table.offset);
        match self.tables.get_mut(position) {
            Some(other) if other.offset == table.offset => *other = table,
            _ if table.clears + table.sets == 0 && !table.replaces => {}
            _ => {
                self.tables.try_reserve(1)?;
                self.tables.insert(position, table);
            }
        }
        Ok(())
    }

    /// COPIED bits that are cleared, and those that are set.
    pub fn copied(&self) -> (u64, u64) {
        let sum = |of: fn(&MendedTable) -> u64| self.tables.iter().map(of).sum::<u64>();
        (
            self.l1.0 + sum(|table| table.clears),
            self.l1.1 + sum(|table| table.sets),
        )
    }
}

/// What becomes of a finding in a table that may be written to or not.
const fn action_in(writable: bool) -> Action {
    if writable {
        Action::Repaired
    } else {
        Action::Reported
    }
}

/// Makes the changes of a kind to an L2 table; the bytes that changed, from the first to the last.
pub(super) fn mend_l2(
    image: &Image,
    table: &MendedTable,
    changes: Changes,
    counts: &mut DiskCounts<'_>,
    bytes: &mut [u8],
) -> Result<Option<Range<usize>>, StorageError> {
    let mut range = None;
    // A table that is written again has its entries replaced by then.
    if table.replaces {
        let replaced = replace(image, bytes);
        if changes != Changes::Last {
            range = replaced;
        }
    }
    if !table.is_active {
        return Ok(range);
    }
    let mut mended = Vec::new();
    check_l2(bytes, counts, &mut |wrong| {
        mended.push(wrong);
    })?;
    let entry_bytes = L2Format::of(&image.header).entry_bytes();
    for wrong in mended {
        let is_meant = changes != Changes::First || !wrong.is_to_set();
        let start = (wrong.index * entry_bytes) as usize;
        if is_meant {
            bytes[start..start + 8].copy_from_slice(&wrong.mended().to_be_bytes());
            // What is cleared has been cleared before.
            if changes == Changes::All || wrong.is_to_set() == (changes == Changes::Last) {
                widen(&mut range, start..start + 8);
            }
        }
    }
    Ok(range)
}

/// Replaces the entries that read as zeros and lead to no cluster by ones that read the same.
fn replace(image: &Image, bytes: &mut [u8]) -> Option<Range<usize>> {
    let (geometry, format) = (image.geometry(), L2Format::of(&image.header));
    let entry_bytes = format.entry_bytes() as usize;
    let mut replaced: Vec<(usize, L2Entry)> = Vec::new();
    let Ok(()) = for_each_item(geometry, format, bytes, |item| {
        if let L2Item::Entry { index, entry } = item
            && let L2Kind::Normal(offset) | L2Kind::PreallocatedZero(offset) = entry.kind(format)
            && !geometry.is_aligned(offset)
            && holds_no_data(entry, format)
            && !entry.has_reserved_bits()
        {
            replaced.push((index as usize * entry_bytes, entry.without_cluster(format)));
        }
        Ok::<_, std::convert::Infallible>(())
    });
    let mut range = None;
    for (start, entry) in replaced {
        let words = [entry.raw.to_be_bytes(), entry.subclusters.to_be_bytes()];
        bytes[start..start + entry_bytes].copy_from_slice(&words.as_flattened()[..entry_bytes]);
        widen(&mut range, start..start + entry_bytes);
    }
    range
}

/// Makes a range reach over another.
fn widen(range: &mut Option<Range<usize>>, other: Range<usize>) {
    *range = Some(range.take().map_or(other.clone(), |range| {
        range.start.min(other.start)..range.end.max(other.end)
    }));
}

/// Makes the changes of a kind to words of the active L1 table, of which `bytes` are a part that
/// begins with entry `first`; the bytes that changed, from the first to the last.
pub(super) fn mend_l1(
    image: &Image,
    storage: &dyn Storage,
    changes: Changes,
    counts: &mut DiskCounts<'_>,
) -> Result<Option<(Offset, Vec<u8>)>, RepairError> {
    let wrong = check_l1(counts)?.wrong;
    let is_meant = |copied: bool| match changes {
        Changes::First => !copied,
        Changes::Last => copied,
        Changes::All => true,
    };
    let mut meant = wrong.iter().filter(|wrong| is_meant(wrong.is_to_set()));
    let Some(first) = meant.next() else {
        return Ok(None);
    };
    let last = meant.next_back().unwrap_or(first).index;
    let position = |index: u64| Offset(image.header.l1_table_offset.0 + index * 8);
    let length = (last - first.index + 1) * 8;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length as usize)?;
    bytes.resize(length as usize, 0);
    storage.read_at(position(first.index), &mut bytes)?;
    for wrong in &wrong {
        let is_due = changes != Changes::First || !wrong.is_to_set();
        let Some(at) = wrong.index.checked_sub(first.index).filter(|_| is_due) else {
            continue;
        };
        if let Some(word) = bytes.get_mut(at as usize * 8..at as usize * 8 + 8) {
            word.copy_from_slice(&wrong.mended().to_be_bytes());
        }
    }
    Ok(Some((position(first.index), bytes)))
}
