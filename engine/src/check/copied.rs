//! The COPIED bits of the active layer: set exactly where the refcount on disk is 1.

use std::collections::BTreeMap;

use super::{DiskCounts, Look};
use crate::finding::{Finding, WrongCopied};
use crate::format::entry::{COPIED, L1Entry, L2Kind};
use crate::image::Image;
use crate::observer::{Action, Observer, Stage};
use crate::references::{CheckError, find_in_tables, for_each_entry, l2_runs};
use crate::storage::Storage;
use crate::table::{Run, push};
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
    let (wrong_l1, tables) = check_l1(counts)?;
    for wrong in &wrong_l1 {
        observer.finding(&wrong.finding(None), Action::Reported);
    }
    let mut sum = wrong_l1.len() as u64;
    let mut buffer = vec![0; image.geometry().cluster_size() as usize];
    for (table, times) in with_wrong(&tables, counts_of_thread, observer)? {
        storage.read_at(table, &mut buffer)?;
        for wrong in check_l2(&buffer, counts)? {
            observer.finding(&wrong.finding(Some(table)), Action::Reported);
            sum += times;
        }
    }
    Ok(sum)
}

/// Those of the L2 tables that have wrong bits, found on all cores.
pub fn with_wrong<'a>(
    tables: &[(Offset, u64)],
    counts: impl Fn() -> DiskCounts<'a>,
    observer: &mut dyn Observer,
) -> Result<Vec<(Offset, u64)>, CheckError> {
    let find = || {
        let mut counts = counts();
        move |table: &(Offset, u64), bytes: &[u8]| {
            let wrong = check_l2(bytes, &mut counts)?;
            Ok::<_, CheckError>((!wrong.is_empty()).then_some(*table))
        }
    };
    let DiskCounts { image, storage, .. } = counts();
    let (size, stage) = (image.geometry().cluster_size(), Stage::Copied);
    let mut found = find_in_tables(storage, size, tables, find, (stage, observer))?;
    found.sort_unstable();
    Ok(found)
}

impl WrongCopied {
    /// What is told of it, in an L2 table or in the active L1 table.
    pub(crate) fn finding(self, l2_table: Option<Offset>) -> Finding {
        l2_table.map_or(Finding::L1Copied(self), |table| {
            Finding::L2Copied(table, self)
        })
    }

    /// Whether the bit has to be set.
    pub(crate) const fn is_to_set(self) -> bool {
        self.refcount == 1
    }

    /// The entry as it should be.
    pub(crate) const fn mended(self) -> u64 {
        self.entry ^ COPIED
    }
}

/// What is wrong with an entry's bit where what it leads to has a refcount.
fn wrong(index: u64, entry: u64, refcount: u64) -> Option<WrongCopied> {
    let is_wrong = (entry & COPIED != 0) != (refcount == 1);
    is_wrong.then_some(WrongCopied {
        index,
        entry,
        refcount,
    })
}

/// The active L1 table's wrong entries, and the L2 tables that are looked at, with how often it
/// refers to each.
pub type L1Check = (Vec<WrongCopied>, Vec<(Offset, u64)>);

/// Looks at the active L1 table.
pub fn check_l1(counts: &mut DiskCounts<'_>) -> Result<L1Check, CheckError> {
    let DiskCounts { image, storage, .. } = *counts;
    let (l1, entries) = (image.header.l1_table_offset, image.header.l1_size);
    let (mut all_wrong, mut tables) = (Vec::new(), BTreeMap::new());
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
            push(&mut all_wrong, wrong)?;
        }
        *tables.entry(table).or_default() += 1;
        Ok::<_, CheckError>(())
    })?;
    Ok((all_wrong, tables.into_iter().collect()))
}

/// The wrong entries of an L2 table.
pub fn check_l2(bytes: &[u8], counts: &mut DiskCounts<'_>) -> Result<Vec<WrongCopied>, CheckError> {
    let mut all_wrong = Vec::new();
    let (geometry, format) = (*counts.image.geometry(), counts.image.format());
    for run in l2_runs(format, bytes) {
        let (entry, copied) = (run.entry, run.entry.copied());
        let (L2Kind::Normal(offset) | L2Kind::PreallocatedZero(offset)) = entry.kind(format) else {
            continue;
        };
        let clusters = Run::new(geometry.cluster_of(offset), ClusterCount(run.count));
        for part in clusters.by_refblock(&geometry) {
            let expected = if copied { part.count.0 } else { 0 };
            // In a data file every bit has to be set.
            let ones = if format.data_file {
                Some(part.count.0)
            } else {
                counts.ones_if_equal(part)
            };
            if ones == Some(expected) {
                continue;
            }
            for cluster in part.iter() {
                let at = cluster.since(clusters.first).0;
                let raw = entry.raw + (at << geometry.cluster_bits());
                let refcount = if format.data_file {
                    Some(1)
                } else {
                    counts.get(cluster)?
                };
                if let Some(refcount) = refcount
                    && let Some(wrong) = wrong(run.index + at, raw, refcount)
                {
                    push(&mut all_wrong, wrong)?;
                }
            }
        }
    }
    Ok(all_wrong)
}
