//! Which entries of L1 and L2 tables a repair writes: COPIED bits, by the final counts, and entries
//! that lead to no cluster.

use super::make::Draft;
use super::phase::Stage;
use super::{RepairError, Scope};
use crate::check::{DiskCounts, check_l1, check_l2, with_wrong};
use crate::finding::{Finding, WrongCopied};
use crate::format::entry::L2Entry;
use crate::image::Image;
use crate::observer::{Action, Observer};
use crate::references::{L2Run, l2_runs};
use crate::table::push;
use crate::units::Offset;

/// A table that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MendedTable {
    pub offset: Offset,
    /// Whether it is the active L1 table, not an L2 table.
    pub is_l1: bool,
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
    /// Those that can be written before the header leads to other structures first; the L1 table, if
    /// it is one of them, then L2 tables in ascending order.
    pub tables: Vec<MendedTable>,
    /// Wrong COPIED bits that stay, as often as their table is referred to.
    pub left: u64,
}

impl Draft<'_> {
    /// Which COPIED bits of the active layer change, and which entries are replaced.
    pub(super) fn mended(&self, observer: &mut dyn Observer) -> Result<Mended, RepairError> {
        let mut mended = Mended::default();
        if self.is_sound_walk && self.kept_references.last_used().is_none() {
            return Ok(mended);
        }
        let header = &self.image.header;
        // The header is no table, and what it seems to lead to is none either.
        if header.l1_table_offset.0 >= header.geometry.cluster_size() {
            self.mend_copied(&mut mended, observer)?;
        }
        let tables = &mut mended.tables;
        let replaced = self.replaced.keys();
        tables.extend(replaced.map(|offset| self.untouched(*offset, false)));
        tables.sort_by_key(|table| (table.is_late, !table.is_l1, table.offset));
        // With its COPIED bits a table has come first.
        tables.dedup_by_key(|table| (table.is_l1, table.offset));
        Ok(mended)
    }

    /// A table of which nothing is known yet but the entries that are replaced.
    fn untouched(&self, offset: Offset, is_l1: bool) -> MendedTable {
        let replaced = self.replaced.get(&offset).filter(|_| !is_l1);
        let cluster = self.image.geometry().cluster_of(offset);
        MendedTable {
            offset,
            is_l1,
            replaced: replaced.copied().unwrap_or(0),
            clears: 0,
            sets: 0,
            is_late: self.layout.is_some() && self.look.old.clusters.contains(cluster),
        }
    }

    fn mend_copied(
        &self,
        mended: &mut Mended,
        observer: &mut dyn Observer,
    ) -> Result<(), RepairError> {
        let (image, storage, look) = (&self.image, self.storage, &self.look);
        // With `-r leaks` only where nothing else is wrong once refcounts are lowered.
        let is_else_clean = self.after.corruptions == 0
            && look.comparison.unreadable_clusters == 0
            && self.kept.clusters == 0;
        let may_write = self.options.scope == Scope::All || is_else_clean;
        let references = |cluster| match self.kept_references.get(cluster) {
            0 => self.counts.get(cluster),
            references => references,
        };
        let is_rebuilt = self.layout.is_some();
        let counts = || look.counts_after(&self.counts, is_rebuilt, image, storage);
        let (wrong, tables) = check_l1(&mut counts())?;
        if !wrong.is_empty() {
            let is_writable = may_write && self.l1_is_writable(&references)?;
            let table = self.untouched(image.header.l1_table_offset, true);
            mended.settle(table, 1, &wrong, is_writable, may_write, observer)?;
        }
        let mut bytes = vec![0; image.geometry().cluster_size() as usize];
        for (offset, times) in with_wrong(&tables, counts, observer)? {
            storage.read_at(offset, &mut bytes)?;
            let is_writable = may_write && self.l2_is_writable(offset, &bytes, &references);
            let table = self.untouched(offset, false);
            if table.replaced > 0 {
                replace(image, &mut bytes);
            }
            let wrong = check_l2(&bytes, &mut counts())?;
            mended.settle(table, times, &wrong, is_writable, may_write, observer)?;
        }
        Ok(())
    }
}

impl MendedTable {
    /// Whether something changes in it before the counts do.
    pub const fn changes_first(&self) -> bool {
        self.clears > 0 || self.replaced > 0
    }

    /// Its length in bytes.
    pub fn length(&self, image: &Image) -> u64 {
        if self.is_l1 {
            u64::from(image.header.l1_size) * 8
        } else {
            image.geometry().cluster_size()
        }
    }
}

impl Mended {
    /// Writes a table that is referred to so often, and in which this is wrong, or leaves it alone, and
    /// tells of that.
    fn settle(
        &mut self,
        mut table: MendedTable,
        times: u64,
        wrong: &[WrongCopied],
        is_writable: bool,
        tells: bool,
        observer: &mut dyn Observer,
    ) -> Result<(), RepairError> {
        let action = if is_writable {
            Action::Repaired
        } else {
            Action::Reported
        };
        for wrong in wrong {
            let l2_table = (!table.is_l1).then_some(table.offset);
            observer.finding(&wrong.finding(l2_table), action);
            table.sets += u32::from(wrong.is_to_set());
            table.clears += u32::from(!wrong.is_to_set());
        }
        if !is_writable {
            if tells {
                let table = table.offset;
                observer.finding(&Finding::TableNotWritten { table }, Action::Reported);
            }
            self.left += times * u64::from(table.clears + table.sets);
        } else if table.changes_first() || table.sets > 0 {
            push(&mut self.tables, table)?;
        }
        Ok(())
    }
}

/// Makes the changes to a table, of which `bytes` are all, up to a stage.
pub(super) fn mend(
    table: &MendedTable,
    stage: Stage,
    counts: &mut DiskCounts<'_>,
    bytes: &mut [u8],
) -> Result<(), RepairError> {
    let image = counts.image;
    if stage == Stage::Safe && !table.changes_first() {
        return Ok(());
    }
    if table.replaced > 0 {
        replace(image, bytes);
    }
    let (wrong, entry_bytes) = if table.is_l1 {
        (check_l1(counts)?.0, 8)
    } else if table.clears + table.sets > 0 {
        (check_l2(bytes, counts)?, image.format().entry_bytes())
    } else {
        return Ok(());
    };
    let done = |wrong: &WrongCopied| stage == Stage::Final || !wrong.is_to_set();
    for wrong in wrong.into_iter().filter(done) {
        let position = (wrong.index * entry_bytes) as usize;
        if let Some(place) = bytes.get_mut(position..position + 8) {
            place.copy_from_slice(&wrong.mended().to_be_bytes());
        }
    }
    Ok(())
}

/// Replaces the entries that read as zeros and lead to no cluster by ones that read the same.
fn replace(image: &Image, bytes: &mut [u8]) {
    let format = image.format();
    let entry_bytes = format.entry_bytes() as usize;
    let mut replaced: Vec<(usize, L2Entry)> = Vec::new();
    for L2Run { index, entry, .. } in l2_runs(format, bytes) {
        if entry.is_unaligned_empty(format) {
            replaced.push((index as usize * entry_bytes, entry.without_cluster(format)));
        }
    }
    for (start, entry) in replaced {
        let words = [entry.raw.to_be_bytes(), entry.subclusters.to_be_bytes()];
        bytes[start..start + entry_bytes].copy_from_slice(&words.as_flattened()[..entry_bytes]);
    }
}
