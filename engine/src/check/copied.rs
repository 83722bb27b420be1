//! The COPIED bits of the active layer: set exactly where the refcount on disk is 1.

use std::collections::BTreeMap;

use super::{CheckError, DiskCounts, Look};
use crate::finding::Finding;
use crate::format::entry::{L1Entry, L2Entry, L2Format, L2Kind};
use crate::image::Image;
use crate::observer::{Action, Observer, Stage};
use crate::references::{L2Item, Worker, for_each_entry, for_each_item, for_each_table};
use crate::storage::{Storage, StorageError};
use crate::table::{OutOfMemory, Run};
use crate::units::{ClusterCount, Offset};

/// Counts the wrong bits.
pub fn check_copied(
    image: &Image,
    storage: &dyn Storage,
    look: &Look,
    observer: &mut dyn Observer,
) -> Result<u64, CheckError> {
    if look.copied_is_right() {
        return Ok(0);
    }
    let counts = &mut look.disk_counts(image, storage);
    let l1 = check_l1(image, storage, counts)?;
    for wrong in &l1.wrong {
        observer.finding(&wrong.finding(), Action::Reported);
    }
    let mut sum = l1.wrong.len() as u64;
    let mut buffer = vec![0; image.geometry().cluster_size() as usize];
    let tables: Vec<_> = l1.tables.into_iter().collect();
    let counts_of_thread = || look.disk_counts(image, storage);
    for (table, times) in with_wrong(image, storage, &tables, counts_of_thread, observer)? {
        storage.read_at(table, &mut buffer)?;
        check_l2(image, &buffer, counts, &mut |wrong| {
            observer.finding(&wrong.finding(table), Action::Reported);
            sum += times;
        })?;
    }
    Ok(sum)
}

/// Those of the L2 tables that have wrong bits, found on all cores.
pub fn with_wrong<'a>(
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
        let mut is_wrong = false;
        check_l2(self.image, bytes, &mut self.counts, &mut |_| {
            is_wrong = true;
        })?;
        if is_wrong {
            self.found.push(table);
        }
        Ok(())
    }
}

/// An entry of the active L1 table whose COPIED bit is wrong.
#[derive(Clone, Copy, Debug)]
pub struct WrongL1 {
    pub index: u64,
    pub entry: L1Entry,
    /// The refcount of what it leads to.
    pub refcount: u64,
}

impl WrongL1 {
    pub const fn finding(&self) -> Finding {
        Finding::L1Copied {
            index: self.index,
            entry: self.entry.0,
            refcount: self.refcount,
        }
    }

    /// The entry as it should be.
    pub const fn mended(&self) -> L1Entry {
        self.entry.with_copied(self.refcount == 1)
    }
}

/// An entry of an L2 table whose COPIED bit is wrong.
#[derive(Clone, Copy, Debug)]
pub struct WrongL2 {
    pub index: u64,
    pub entry: L2Entry,
    /// The refcount of what it leads to.
    pub refcount: u64,
}

impl WrongL2 {
    pub const fn finding(&self, table: Offset) -> Finding {
        Finding::L2Copied {
            table,
            index: self.index,
            entry: self.entry.raw,
            refcount: self.refcount,
        }
    }

    /// The entry as it should be.
    pub const fn mended(&self) -> L2Entry {
        self.entry.with_copied(self.refcount == 1)
    }
}

/// The active L1 table's wrong entries, and the L2 tables that are looked at, with how often it
/// refers to each.
pub struct L1Check {
    pub wrong: Vec<WrongL1>,
    pub tables: BTreeMap<Offset, u64>,
}

/// Looks at the active L1 table.
pub fn check_l1(
    image: &Image,
    storage: &dyn Storage,
    counts: &mut DiskCounts<'_>,
) -> Result<L1Check, CheckError> {
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
            check.wrong.try_reserve(1).map_err(|_| OutOfMemory)?;
            check.wrong.push(WrongL1 {
                index,
                entry,
                refcount,
            });
        }
        *check.tables.entry(table).or_default() += 1;
        Ok::<_, CheckError>(())
    })?;
    Ok(check)
}

/// Hands over the wrong entries of an L2 table.
pub fn check_l2(
    image: &Image,
    bytes: &[u8],
    counts: &mut DiskCounts<'_>,
    wrong: &mut dyn FnMut(WrongL2),
) -> Result<(), StorageError> {
    let geometry = image.geometry();
    let format = L2Format::of(&image.header);
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
            wrong(WrongL2 {
                index,
                entry,
                refcount,
            });
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
            for part in run.by_refblock(geometry) {
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
    })
}
