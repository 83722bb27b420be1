//! The COPIED bits of the active layer: set exactly where the refcount on disk is 1.

use std::collections::BTreeMap;

use super::{DiskCounts, Survey};
use crate::finding::Finding;
use crate::format::entry::{L1Entry, L2Entry, L2Format, L2Kind};
use crate::image::{Extent, Image};
use crate::observer::{Action, Observer, Stage};
use crate::references::{
    L2Item, Reftable, Worker, for_each_entry, for_each_item, for_each_table, looks_like_l2_table,
};
use crate::storage::{Storage, StorageError};
use crate::table::{RefcountTable, Run};
use crate::units::{ClusterCount, Offset};

/// What became of the COPIED bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopiedCheck {
    /// Bits that are wrong and stay so.
    pub wrong: u64,
    /// Bits that were set right.
    pub repaired: u64,
}

/// Counts the wrong bits.
pub fn check_copied(
    image: &Image,
    storage: &dyn Storage,
    survey: &Survey,
    observer: &mut dyn Observer,
) -> Result<CopiedCheck, StorageError> {
    let mut result = CopiedCheck::default();
    if survey.copied_is_right() {
        return Ok(result);
    }
    let counts = &mut survey.disk_counts(image, storage);
    let l1 = check_l1(image, storage, counts, observer, Action::Reported)?;
    result.wrong += l1.wrong.iter().map(|(_, _, times)| times).sum::<u64>();
    let mut buffer = vec![0; image.geometry().cluster_size() as usize];
    let tables: Vec<_> = l1.tables.into_iter().collect();
    let counts_of_thread = || survey.disk_counts(image, storage);
    for (table, times) in with_wrong(image, storage, &tables, counts_of_thread, observer)? {
        storage.read_at(table, &mut buffer)?;
        let wrong = check_l2(image, table, &buffer, counts, observer, Action::Reported)?;
        result.wrong += times * wrong.len() as u64;
    }
    Ok(result)
}

/// Those of the L2 tables that have wrong bits, found on all cores.
fn with_wrong<'a>(
    image: &Image,
    storage: &dyn Storage,
    tables: &[(Offset, u64)],
    counts: impl Fn() -> DiskCounts<'a>,
    observer: &mut dyn Observer,
) -> Result<Vec<(Offset, u64)>, StorageError> {
    let finders = for_each_table(
        storage,
        image.geometry().cluster_size() as usize,
        tables.len(),
        |number| tables[number].0,
        || Finder {
            image,
            tables,
            counts: counts(),
            found: Vec::new(),
        },
        &mut |done| observer.progress(Stage::Copied, done as u64, tables.len() as u64),
    )?;
    let mut found: Vec<_> = finders
        .iter()
        .flat_map(|finder| &finder.found)
        .copied()
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// Looks for tables with wrong bits.
struct Finder<'a, 'b> {
    image: &'a Image,
    tables: &'a [(Offset, u64)],
    counts: DiskCounts<'b>,
    found: Vec<(Offset, u64)>,
}

impl Worker for Finder<'_, '_> {
    type Error = StorageError;

    fn table(&mut self, number: usize, bytes: &[u8]) -> Result<(), StorageError> {
        let table = self.tables[number];
        let action = Action::Reported;
        let wrong = check_l2(
            self.image,
            table.0,
            bytes,
            &mut self.counts,
            &mut (),
            action,
        )?;
        if !wrong.is_empty() {
            self.found.push(table);
        }
        Ok(())
    }
}

/// The refcounts as they are on disk by now, and which L2 tables may be written to.
pub struct AfterRepair<'a> {
    /// The refcounts.
    pub table: &'a RefcountTable,
    /// How far `table` speaks of clusters.
    pub compared: ClusterCount,
    /// The reftable, for the clusters beyond.
    pub reftable: &'a Reftable,
    /// Whether the cluster of an L2 table is nothing else as well.
    pub is_alone: &'a dyn Fn(Offset) -> bool,
    /// Whether the clusters of the active L1 table are nothing else as well.
    pub l1_is_alone: bool,
}

impl AfterRepair<'_> {
    fn counts<'b>(&'b self, image: &'b Image, storage: &'b dyn Storage) -> DiskCounts<'b> {
        DiskCounts::of_table(self.table, self.compared, self.reftable, image, storage)
    }
}

/// Sets the wrong bits right; not in tables that may be something else.
pub fn repair_copied(
    image: &Image,
    storage: &mut dyn Storage,
    after: &AfterRepair<'_>,
    observer: &mut dyn Observer,
) -> Result<CopiedCheck, StorageError> {
    let mut result = CopiedCheck::default();
    let action = action_in(after.l1_is_alone);
    let counts = &mut after.counts(image, storage);
    let l1 = check_l1(image, storage, counts, observer, action)?;
    if after.l1_is_alone {
        for (position, entry, _) in &l1.wrong {
            storage.write_at(*position, &entry.0.to_be_bytes())?;
            result.repaired += 1;
        }
    } else if !l1.wrong.is_empty() {
        let table = image.header.l1_table_offset;
        observer.finding(&Finding::TableNotWritten { table }, Action::Reported);
        result.wrong += l1.wrong.len() as u64;
    }
    let mut buffer = vec![0; image.geometry().cluster_size() as usize];
    let extent = Extent::of(storage, image.geometry());
    let tables: Vec<_> = l1.tables.into_iter().collect();
    let now: &dyn Storage = storage;
    let counts_of_thread = || after.counts(image, now);
    for (offset, times) in with_wrong(image, now, &tables, counts_of_thread, observer)? {
        storage.read_at(offset, &mut buffer)?;
        let counts = &mut after.counts(image, storage);
        let wrong = check_l2(image, offset, &buffer, counts, &mut (), Action::Repaired)?;
        if wrong.is_empty() {
            continue;
        }
        let writable = (after.is_alone)(offset) && looks_like_l2_table(image, &extent, &buffer);
        let action = action_in(writable);
        let counts = &mut after.counts(image, storage);
        check_l2(image, offset, &buffer, counts, observer, action)?;
        if writable {
            write_entries(image, storage, offset, &mut buffer, &wrong)?;
            result.repaired += wrong.len() as u64;
        } else {
            let finding = Finding::TableNotWritten { table: offset };
            observer.finding(&finding, Action::Reported);
            result.wrong += times * wrong.len() as u64;
        }
    }
    Ok(result)
}

/// What becomes of a finding in a table that may be written to or not.
const fn action_in(writable: bool) -> Action {
    if writable {
        Action::Repaired
    } else {
        Action::Reported
    }
}

/// Writes entries of an L2 table, from the first to the last in one write.
fn write_entries(
    image: &Image,
    storage: &mut dyn Storage,
    table: Offset,
    bytes: &mut [u8],
    entries: &[(u64, L2Entry)],
) -> Result<(), StorageError> {
    let entry_bytes = L2Format::of(&image.header).entry_bytes();
    let Some((first, last)) = entries.first().zip(entries.last()) else {
        return Ok(());
    };
    for (index, entry) in entries {
        let position = (index * entry_bytes) as usize;
        bytes[position..position + 8].copy_from_slice(&entry.raw.to_be_bytes());
    }
    let start = (first.0 * entry_bytes) as usize;
    let end = (last.0 * entry_bytes) as usize + 8;
    storage.write_at(Offset(table.0 + start as u64), &bytes[start..end])
}

/// The active L1 table's wrong entries, set right, and the L2 tables with how often it refers to
/// each.
struct L1Check {
    wrong: Vec<(Offset, L1Entry, u64)>,
    tables: BTreeMap<Offset, u64>,
}

fn check_l1(
    image: &Image,
    storage: &dyn Storage,
    counts: &mut DiskCounts<'_>,
    observer: &mut dyn Observer,
    action: Action,
) -> Result<L1Check, StorageError> {
    let (l1, entries) = (
        image.header.l1_table_offset,
        u64::from(image.header.l1_size),
    );
    let mut check = L1Check {
        wrong: Vec::new(),
        tables: BTreeMap::new(),
    };
    for_each_entry(storage, l1, entries, |index, entry| {
        let entry = L1Entry(entry);
        let table = entry.l2_table();
        if table == Offset(0) {
            return Ok(());
        }
        // Where the refcount cannot be read, the whole table is passed over (observed).
        let Some(refcount) = counts.get(image.geometry().cluster_of(table))? else {
            return Ok(());
        };
        if entry.copied() != (refcount == 1) {
            let finding = Finding::L1Copied {
                index,
                entry: entry.0,
                refcount,
            };
            observer.finding(&finding, action);
            let position = Offset(l1.0 + index * 8);
            check
                .wrong
                .push((position, entry.with_copied(refcount == 1), 1));
        }
        *check.tables.entry(table).or_default() += 1;
        Ok::<_, StorageError>(())
    })?;
    Ok(check)
}

/// The wrong entries of an L2 table, set right.
fn check_l2(
    image: &Image,
    table: Offset,
    bytes: &[u8],
    counts: &mut DiskCounts<'_>,
    observer: &mut dyn Observer,
    action: Action,
) -> Result<Vec<(u64, L2Entry)>, StorageError> {
    let geometry = image.geometry();
    let format = L2Format::of(&image.header);
    let mut wrong = Vec::new();
    let mut check_one = |counts: &mut DiskCounts<'_>, index: u64, entry: L2Entry| {
        let (L2Kind::Normal(offset) | L2Kind::PreallocatedZero(offset)) = entry.kind(format) else {
            return Ok(());
        };
        let refcount = if format.data_file {
            Some(1)
        } else {
            counts.get(geometry.cluster_of(offset))?
        };
        if let Some(refcount) = refcount
            && entry.copied() != (refcount == 1)
        {
            let finding = Finding::L2Copied {
                table,
                index,
                entry: entry.raw,
                refcount,
            };
            observer.finding(&finding, action);
            wrong.push((index, entry.with_copied(refcount == 1)));
        }
        Ok::<_, StorageError>(())
    };
    for_each_item(geometry, format, bytes, |item| match item {
        L2Item::Entry { index, entry } => check_one(counts, index, entry),
        L2Item::Run {
            index,
            offset,
            count,
            copied,
        } => {
            if format.data_file && copied {
                return Ok(());
            }
            let run = Run::new(geometry.cluster_of(offset), ClusterCount(count));
            for part in run.split_at(|cluster| geometry.refblock_of(cluster)) {
                let expected = if copied { part.count.0 } else { 0 };
                if !format.data_file && counts.ones_if_equal(part) == Some(expected) {
                    continue;
                }
                for cluster in part.iter() {
                    let within = cluster.since(run.first).0;
                    let offset = Offset(cluster.0 << geometry.cluster_bits());
                    let entry = L2Entry {
                        raw: offset.0,
                        subclusters: 0,
                    };
                    let entry = entry.with_copied(copied);
                    check_one(counts, index + within, entry)?;
                }
            }
            Ok(())
        }
    })?;
    Ok(wrong)
}
