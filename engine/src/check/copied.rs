//! The COPIED bits of the active layer: set exactly where the refcount on disk is 1.

use std::collections::BTreeMap;

use super::{CheckError, DiskCounts, Look};
use crate::finding::Finding;
use crate::format::entry::{COPIED, L1Entry, L2Format, L2Kind, with_copied};
use crate::image::Image;
use crate::observer::{Action, Observer, Stage};
use crate::references::{L2Item, find_in_tables, for_each_entry, for_each_item};
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
    let counts_of_thread = || look.disk_counts(image, storage);
    let counts = &mut counts_of_thread();
    let l1 = check_l1(counts)?;
    for wrong in &l1.wrong {
        observer.finding(&wrong.finding(None), Action::Reported);
    }
    let mut sum = l1.wrong.len() as u64;
    let mut buffer = vec![0; image.geometry().cluster_size() as usize];
    let tables: Vec<_> = l1.tables.into_iter().collect();
    for (table, times) in with_wrong(&tables, counts_of_thread, observer)? {
        storage.read_at(table, &mut buffer)?;
        check_l2(&buffer, counts, &mut |wrong| {
            observer.finding(&wrong.finding(Some(table)), Action::Reported);
            sum += times;
        })?;
    }
    Ok(sum)
}

/// Those of the L2 tables that have wrong bits, found on all cores.
pub fn with_wrong<'a>(
    tables: &[(Offset, u64)],
    counts: impl Fn() -> DiskCounts<'a>,
    observer: &mut dyn Observer,
) -> Result<Vec<(Offset, u64)>, StorageError> {
    let find = || {
        let mut counts = counts();
        move |table: &(Offset, u64), bytes: &[u8]| {
            let mut is_wrong = false;
            check_l2(bytes, &mut counts, &mut |_| is_wrong = true)?;
            Ok::<_, StorageError>(is_wrong.then_some(*table))
        }
    };
    let DiskCounts { image, storage, .. } = counts();
    let (size, stage) = (image.geometry().cluster_size(), Stage::Copied);
    let mut found = find_in_tables(storage, size, tables, find, (stage, observer))?;
    found.sort_unstable();
    Ok(found)
}

/// An entry of the active L1 table, or of an L2 table, whose COPIED bit is wrong.
#[derive(Clone, Copy, Debug)]
pub struct Wrong {
    /// Its number in the table.
    pub index: u64,
    entry: u64,
    /// The refcount of what it leads to.
    refcount: u64,
}

impl Wrong {
    /// What is told of it, in an L2 table or in the active L1 table.
    pub const fn finding(&self, l2_table: Option<Offset>) -> Finding {
        let Self {
            index,
            entry,
            refcount,
        } = *self;
        match l2_table {
            None => Finding::L1Copied {
                index,
                entry,
                refcount,
            },
            Some(table) => Finding::L2Copied {
                table,
                index,
                entry,
                refcount,
            },
        }
    }

    /// Whether the bit has to be set.
    pub const fn is_to_set(&self) -> bool {
        self.refcount == 1
    }

    /// The entry as it should be.
    pub const fn mended(&self) -> u64 {
        with_copied(self.entry, self.is_to_set())
    }
}

/// What is wrong with an entry's bit where what it leads to has a refcount.
fn wrong(index: u64, entry: u64, refcount: u64) -> Option<Wrong> {
    let is_wrong = (entry & COPIED != 0) != (refcount == 1);
    is_wrong.then_some(Wrong {
        index,
        entry,
        refcount,
    })
}

/// The active L1 table's wrong entries, and the L2 tables that are looked at, with how often it
/// refers to each.
#[derive(Default)]
pub struct L1Check {
    pub wrong: Vec<Wrong>,
    pub tables: BTreeMap<Offset, u64>,
}

/// Looks at the active L1 table.
pub fn check_l1(counts: &mut DiskCounts<'_>) -> Result<L1Check, CheckError> {
    let DiskCounts { image, storage, .. } = *counts;
    let (l1, entries) = (image.header.l1_table_offset, image.header.l1_size);
    let mut check = L1Check::default();
    for_each_entry(storage, l1, entries.into(), |index, entry| {
        let table = L1Entry(entry).l2_table();
        if table == Offset(0) {
            return Ok(());
        }
        // Where the refcount cannot be read, the whole table is passed over (observed).
        let Some(refcount) = counts.get(image.geometry().cluster_of(table))? else {
            return Ok(());
        };
        if let Some(wrong) = wrong(index, entry, refcount) {
            check.wrong.try_reserve(1).map_err(|_| OutOfMemory)?;
            check.wrong.push(wrong);
        }
        *check.tables.entry(table).or_default() += 1;
        Ok::<_, CheckError>(())
    })?;
    Ok(check)
}

/// Hands over the wrong entries of an L2 table.
pub fn check_l2(
    bytes: &[u8],
    counts: &mut DiskCounts<'_>,
    visit: &mut dyn FnMut(Wrong),
) -> Result<(), StorageError> {
    let image = counts.image;
    let (geometry, format) = (image.geometry(), L2Format::of(&image.header));
    let mut check_one = |counts: &mut DiskCounts<'_>, index: u64, raw: u64, offset: Offset| {
        let mut on_disk = Some(1);
        if !format.data_file {
            on_disk = counts.get(geometry.cluster_of(offset))?;
        }
        let wrong = on_disk.and_then(|refcount| wrong(index, raw, refcount));
        wrong.into_iter().for_each(&mut *visit);
        Ok::<_, StorageError>(())
    };
    for_each_item(geometry, format, bytes, |item| match item {
        L2Item::Entry { index, entry } => match entry.kind(format) {
            L2Kind::Normal(offset) | L2Kind::PreallocatedZero(offset) => {
                check_one(counts, index, entry.raw, offset)
            }
            _ => Ok(()),
        },
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
                    let index = index + cluster.since(run.first).0;
                    let offset = Offset(cluster.0 << geometry.cluster_bits());
                    check_one(counts, index, with_copied(offset.0, copied), offset)?;
                }
            }
            Ok(())
        }
    })
}
