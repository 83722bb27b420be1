//! Which entries of L1 and L2 tables a repair writes: COPIED bits, by the final counts, and entries
//! that lead to no cluster.

use super::RepairError;
use super::damage::Ground;
use super::phase::Stage;
use crate::check::{DiskCounts, check_l1, check_l2, with_wrong};
use crate::finding::Finding;
use crate::format::entry::{L2Entry, L2Format, L2Kind};
use crate::image::Image;
use crate::observer::{Action, Observer};
use crate::references::{L2Item, for_each_item, holds_no_data};
use crate::storage::Storage;
use crate::table::{RefcountTable, RunSet};
use crate::units::Offset;

/// What a table that is written is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TableKind {
    /// The active L1 table.
    L1,
    /// An L2 table of the active layer.
    ActiveL2,
    /// An L2 table in which entries are replaced, and no COPIED bit is looked at.
    L2,
}

/// A table that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MendedTable {
    pub offset: Offset,
    pub kind: TableKind,
    /// Entries that are replaced in it.
    pub replaced: u32,
    /// COPIED bits that are cleared in it.
    pub clears: u32,
    /// COPIED bits that are set in it.
    pub sets: u32,
    /// Whether it lies in refcount structures that are in use until the header leads to others.
    pub is_late: bool,
}

/// What is written into tables.
#[derive(Clone, Debug, Default)]
pub(super) struct Mended {
    /// The L1 table, if it is one of them, then L2 tables in ascending order.
    pub tables: Vec<MendedTable>,
    /// Wrong COPIED bits that stay, as often as their table is referred to.
    pub left: u64,
}

/// What the search for wrong COPIED bits goes by.
pub(super) struct Search<'a> {
    pub ground: Ground<'a>,
    /// The references that stay to clusters whose count is larger, as it is kept.
    pub kept: &'a RefcountTable,
    /// Clusters of refcount structures that go.
    pub going: &'a RunSet,
    /// Whether anything may be written at all.
    pub may_write: bool,
}

impl Search<'_> {
    fn table(&self, offset: Offset, kind: TableKind) -> MendedTable {
        let cluster = self.ground.image.geometry().cluster_of(offset);
        let replaced = self.ground.replaced.get(&offset);
        let replaced = replaced.filter(|_| kind != TableKind::L1);
        MendedTable {
            offset,
            kind,
            replaced: replaced.copied().unwrap_or(0),
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
        let (image, storage) = (self.ground.image, self.ground.storage);
        let l1_offset = image.header.l1_table_offset;
        let replaced = self.ground.replaced.keys();
        let replaced = replaced.map(|offset| self.table(*offset, TableKind::L2));
        let mut mended = Mended {
            tables: replaced.collect(),
            left: 0,
        };
        if l1_offset.0 < image.geometry().cluster_size() {
            // The header is no table, and what it seems to lead to is none either.
            return Ok(mended);
        }
        let references = |cluster| match self.kept.get(cluster) {
            0 => self.ground.counts.get(cluster),
            references => references,
        };
        let l1 = check_l1(image, storage, &mut counts())?;
        let mut written_l1 = None;
        if !l1.wrong.is_empty() {
            let is_writable = self.may_write && self.ground.l1_is_writable(&references)?;
            let mut table = self.table(l1_offset, TableKind::L1);
            for wrong in &l1.wrong {
                observer.finding(&wrong.finding(), action_in(is_writable));
                table.note(wrong.mended().copied());
            }
            if is_writable {
                written_l1 = Some(table);
            } else {
                mended.left += self.not_written(&table, observer);
            }
        }
        let tables: Vec<_> = l1.tables.into_iter().collect();
        let mut bytes = vec![0; image.geometry().cluster_size() as usize];
        for (offset, times) in with_wrong(image, storage, &tables, counts, observer)? {
            storage.read_at(offset, &mut bytes)?;
            let is_writable =
                self.may_write && self.ground.l2_is_writable(offset, &bytes, &references);
            let mut table = self.table(offset, TableKind::ActiveL2);
            if table.replaced > 0 {
                replace(image, &mut bytes);
            }
            check_l2(image, &bytes, &mut counts(), &mut |wrong| {
                observer.finding(&wrong.finding(offset), action_in(is_writable));
                table.note(wrong.mended().copied());
            })?;
            if is_writable {
                mended.add(table)?;
            } else {
                mended.left += times * self.not_written(&table, observer);
            }
        }
        mended.tables.splice(0..0, written_l1);
        Ok(mended)
    }

    /// Tells of a table that is left alone; how many wrong bits stay in it.
    fn not_written(&self, table: &MendedTable, observer: &mut dyn Observer) -> u64 {
        if self.may_write {
            let table = table.offset;
            observer.finding(&Finding::TableNotWritten { table }, Action::Reported);
        }
        u64::from(table.clears + table.sets)
    }
}

impl MendedTable {
    /// Takes note of a COPIED bit that becomes as given.
    const fn note(&mut self, copied: bool) {
        if copied {
            self.sets += 1;
        } else {
            self.clears += 1;
        }
    }

    /// Whether something changes in it before the counts do.
    pub const fn changes_first(&self) -> bool {
        self.clears > 0 || self.replaced > 0
    }

    /// Its length in bytes.
    pub fn length(&self, image: &Image) -> u64 {
        match self.kind {
            TableKind::L1 => u64::from(image.header.l1_size) * 8,
            TableKind::ActiveL2 | TableKind::L2 => image.geometry().cluster_size(),
        }
    }
}

impl Mended {
    fn add(&mut self, table: MendedTable) -> Result<(), RepairError> {
        let tables = &mut self.tables;
        match tables.binary_search_by_key(&table.offset, |other| other.offset) {
            Ok(position) => tables[position] = table,
            Err(_) if table.clears + table.sets + table.replaced == 0 => {}
            Err(position) => {
                tables.try_reserve(1)?;
                tables.insert(position, table);
            }
        }
        Ok(())
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

/// Makes the changes to a table, of which `bytes` are all, up to a stage.
pub(super) fn mend(
    table: &MendedTable,
    stage: Stage,
    image: &Image,
    storage: &dyn Storage,
    counts: &mut DiskCounts<'_>,
    bytes: &mut [u8],
) -> Result<(), RepairError> {
    if stage == Stage::Safe && !table.changes_first() {
        return Ok(());
    }
    if table.replaced > 0 {
        replace(image, bytes);
    }
    let mut words = Vec::new();
    let mut note = |position: u64, word: u64, copied: bool| {
        if stage == Stage::Final || !copied {
            words.push((position as usize, word));
        }
    };
    match table.kind {
        TableKind::L1 => {
            for wrong in check_l1(image, storage, counts)?.wrong {
                let entry = wrong.mended();
                note(wrong.index * 8, entry.0, entry.copied());
            }
        }
        TableKind::ActiveL2 => {
            let entry_bytes = L2Format::of(&image.header).entry_bytes();
            check_l2(image, bytes, counts, &mut |wrong| {
                let entry = wrong.mended();
                note(wrong.index * entry_bytes, entry.raw, entry.copied());
            })?;
        }
        TableKind::L2 => {}
    }
    for (position, word) in words {
        if let Some(place) = bytes.get_mut(position..position + 8) {
            place.copy_from_slice(&word.to_be_bytes());
        }
    }
    Ok(())
}

/// Replaces the entries that read as zeros and lead to no cluster by ones that read the same.
fn replace(image: &Image, bytes: &mut [u8]) {
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
    for (start, entry) in replaced {
        let words = [entry.raw.to_be_bytes(), entry.subclusters.to_be_bytes()];
        bytes[start..start + entry_bytes].copy_from_slice(&words.as_flattened()[..entry_bytes]);
    }
}
