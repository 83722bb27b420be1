//! L2 entries that read as zeros and lead to no cluster: they are replaced by ones that read the same.

use std::collections::{BTreeMap, BTreeSet};

use super::RepairError;
use super::make::Draft;
use crate::check::{Comparison, report_overflow};
use crate::image::Image;
use crate::references::UnalignedEmpty;
use crate::table::Run;
use crate::units::Offset;

/// The tables in which entries are replaced, and how many.
pub(super) type Replaced = BTreeMap<Offset, u32>;

impl Draft<'_> {
    /// Decides in which tables they are replaced, and counts what these entries lead to no more.
    pub(super) fn replace_entries(&mut self) -> Result<(), RepairError> {
        let entries = self.look.references.unaligned_empty.clone();
        if entries.is_empty() {
            return Ok(());
        }
        for entry in &entries {
            *self.replaced.entry(entry.table).or_default() += 1;
            if let Some(run) = entry.counted(&self.image) {
                self.counts.remove(run, entry.uses.all)?;
            }
        }
        let mut bytes = vec![0; self.image.geometry().cluster_size() as usize];
        loop {
            let mut staying = BTreeSet::new();
            let (counts, going) = (&self.counts, &self.going);
            let references = |cluster| counts.get(cluster).saturating_sub(going.get(cluster));
            for table in self.replaced.keys() {
                self.storage.read_at(*table, &mut bytes)?;
                if !self.l2_is_writable(*table, &bytes, &references) {
                    staying.insert(*table);
                }
            }
            if staying.is_empty() {
                break;
            }
            // What they refer to may be a table, which then stays as it is as well.
            let stays = |entry: &&UnalignedEmpty| staying.contains(&entry.table);
            for entry in entries.iter().filter(stays) {
                if let Some(run) = entry.counted(&self.image) {
                    self.counts.add(run, entry.uses.all)?;
                }
            }
            self.replaced.retain(|table, _| !staying.contains(table));
        }
        for entry in &entries {
            let is_past_end = !self.image.holds(entry.region) && !self.image.header.has_data_file();
            if self.replaced.contains_key(&entry.table) {
                let corruptions = entry.uses.all * if is_past_end { 2 } else { 1 };
                let left = &mut self.after.corruptions;
                *left = left.saturating_sub(corruptions);
                self.fixed.corruptions += 1;
            } else if is_past_end {
                self.beyond.dangling(&self.image, entry.region);
            }
        }
        let before = std::mem::take(&mut self.look.comparison);
        let (clusters, old) = (before.compared, &self.look.old);
        self.look.comparison =
            Comparison::compare(clusters, self.storage, &self.counts, old, &mut ())?;
        let left = &mut self.after.corruptions;
        let before = before.corruptions + self.look.overflow;
        self.look.overflow = report_overflow(&self.counts, &mut ());
        let now = self.look.comparison.corruptions + self.look.overflow;
        *left = left.saturating_sub(before) + now;
        Ok(())
    }
}

impl UnalignedEmpty {
    /// The clusters that the entry leads to, if they are counted.
    pub(super) fn counted(&self, image: &Image) -> Option<Run> {
        let is_counted = !image.header.has_data_file() && image.holds(self.region);
        is_counted.then(|| self.region.clusters(image.geometry()))
    }
}
