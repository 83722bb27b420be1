//! Counting L2 tables on all cores, those aside that have something unusual about them.

use super::batches::{BATCH_BYTES, for_each_table};
use super::scan::{Scan, Tally};
use super::{L2Uses, Result, Walker};
use crate::observer::Stage;
use crate::table::{SharedTable, width};
use crate::units::Offset;

impl Walker<'_> {
    /// Counts what the tables lead to, but for those with anything to report; returns these, in
    /// ascending order, of which nothing is counted yet.
    pub(super) fn count_usual_tables(
        &mut self,
        tables: &[(Offset, L2Uses)],
    ) -> Result<Vec<(Offset, L2Uses)>> {
        let (format, extent) = (self.format, self.image.extent);
        let table = SharedTable::new(self.references.take_table());
        let mut counters = for_each_table(
            self.storage,
            self.geometry.cluster_size(),
            tables,
            || Counter {
                scan: Scan::new(format, extent),
                scanned: 0,
                times: 1,
                table: &table,
                sum: Tally::default(),
                unusual: Vec::new(),
                has_empty: false,
            },
            Counter::scan,
            (Stage::References, self.observer),
        )?;
        let mut unusual = Vec::new();
        for counter in &mut counters {
            counter.hand_over()?;
            self.references.tally.add(1, &counter.sum);
            self.references.has_empty_table |= counter.has_empty;
            unusual.append(&mut counter.unusual);
        }
        drop(counters);
        self.references.table = table.into_table();
        unusual.sort_unstable_by_key(|(offset, _)| *offset);
        self.references.all_copied &= self.references.tally.not_copied == 0 && unusual.is_empty();
        Ok(unusual)
    }
}

/// One thread's share.
struct Counter<'a> {
    /// What it has collected, in so many bytes of tables, is yet to be counted, `times` times each.
    scan: Scan,
    scanned: usize,
    times: u64,
    table: &'a SharedTable,
    /// Of the active layer.
    sum: Tally,
    unusual: Vec<(Offset, L2Uses)>,
    /// Whether a table has not a single entry.
    has_empty: bool,
}

impl Counter<'_> {
    fn scan(&mut self, table: &(Offset, L2Uses), bytes: &[u8]) -> Result<()> {
        let uses = table.1;
        if uses.all != self.times || self.scanned >= BATCH_BYTES {
            self.hand_over()?;
            self.times = uses.all;
        }
        self.scanned += bytes.len();
        if let Some(tally) = self.scan.table(bytes) {
            self.sum.add(uses.active, &tally);
            self.has_empty |= tally.allocated == 0 && width::is_zero(bytes);
        } else {
            self.unusual.push(*table);
        }
        Ok(())
    }

    /// Counts what was collected.
    fn hand_over(&mut self) -> Result<()> {
        self.scanned = 0;
        Ok(self.table.add(&mut self.scan.collected, self.times)?)
    }
}
