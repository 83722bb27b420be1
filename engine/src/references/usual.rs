//! Counting L2 tables on all cores, those aside that have something unusual about them.

use super::batches::{Worker, for_each_table};
use super::compressed::Scratch;
use super::scan::{Scanner, Tally};
use super::{L2Uses, WalkError, Walker};
use crate::observer::Stage;
use crate::table::{Collected, SharedTable, width};
use crate::units::Offset;

impl Walker<'_> {
    /// Counts what the tables lead to, but for those with anything to report; returns the numbers
    /// of these, in ascending order, of which nothing is counted yet.
    pub(super) fn count_usual_tables(
        &mut self,
        tables: &[(Offset, L2Uses)],
    ) -> Result<Vec<usize>, WalkError> {
        let scanner = Scanner {
            geometry: *self.image.geometry(),
            format: self.l2_format(),
            extent: self.extent,
        };
        let table = SharedTable::new(self.references.take_table());
        let counters = for_each_table(
            self.storage,
            scanner.geometry.cluster_size() as usize,
            tables.len(),
            |number| tables[number].0,
            || Counter::new(&scanner, &table, tables),
            &mut |done| {
                let total = tables.len() as u64;
                self.observer
                    .progress(Stage::References, done as u64, total);
            },
        )?;
        let mut unusual = Vec::new();
        for counter in &counters {
            self.references.allocated += counter.sum.allocated;
            self.references.fragmented += counter.sum.fragmented;
            self.references.compressed += counter.sum.compressed;
            self.references.all_copied &= counter.sum.not_copied == 0;
            let plain = counter.sum.allocated - counter.sum.compressed;
            self.references.no_plain_data &= plain == 0;
            self.references.has_empty_table |= counter.has_empty;
            unusual.extend_from_slice(&counter.unusual);
        }
        drop(counters);
        self.references.table = table.into_table();
        unusual.sort_unstable();
        self.references.all_copied &= unusual.is_empty();
        Ok(unusual)
    }
}

/// One thread's share.
struct Counter<'a> {
    scanner: &'a Scanner,
    table: &'a SharedTable,
    tables: &'a [(Offset, L2Uses)],
    /// What is yet to be counted, `times` times each.
    collected: Collected,
    times: u64,
    scratch: Scratch,
    /// Of the active layer.
    sum: Tally,
    unusual: Vec<usize>,
    /// Whether a table has not a single entry.
    has_empty: bool,
}

impl<'a> Counter<'a> {
    const fn new(
        scanner: &'a Scanner,
        table: &'a SharedTable,
        tables: &'a [(Offset, L2Uses)],
    ) -> Self {
        Self {
            scanner,
            table,
            tables,
            collected: Collected::new(),
            times: 1,
            scratch: Scratch::new(),
            sum: Tally {
                allocated: 0,
                fragmented: 0,
                compressed: 0,
                not_copied: 0,
            },
            unusual: Vec::new(),
            has_empty: false,
        }
    }
}

impl Worker for Counter<'_> {
    type Error = WalkError;

    fn table(&mut self, number: usize, bytes: &[u8]) -> Result<(), WalkError> {
        let uses = self.tables[number].1;
        if uses.all != self.times {
            self.end_of_batch()?;
            self.times = uses.all;
        }
        let before = self.collected.mark();
        if let Ok(tally) = self
            .scanner
            .scan(bytes, &mut self.collected, &mut self.scratch)
        {
            self.sum.allocated += uses.active * tally.allocated;
            self.sum.fragmented += uses.active * tally.fragmented;
            self.sum.compressed += uses.active * tally.compressed;
            self.sum.not_copied += uses.active * tally.not_copied;
            self.has_empty |= tally.allocated == 0 && width::is_zero(bytes);
        } else {
            self.collected.rewind(before);
            self.unusual.push(number);
        }
        Ok(())
    }

    fn end_of_batch(&mut self) -> Result<(), WalkError> {
        Ok(self.table.add(&mut self.collected, self.times)?)
    }
}
