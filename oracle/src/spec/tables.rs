//! Rules 5, 6 and 9: which tables are written to in place, which entries are replaced, and where
//! COPIED is right.

use std::collections::BTreeSet;

use super::{Repaired, Spec};
use crate::audit::{
    COPIED, CopiedBit, Mismatch, Referrer, TableUse, Wrong, be64, reads_as_l1_table,
};
use crate::case::damage::SparseBytes;

impl Spec<'_> {
    /// Rule 6: "An L2 entry that reads as zeros and has an impossible offset is replaced". Those that
    /// stay may lead to tables, which then are not written to either.
    pub(super) fn replace_entries(&mut self) {
        let mut left = self.own.empty.clone();
        while left.len() != self.replaced.len() {
            self.replaced = left.iter().map(|entry| entry.referrer).collect();
            left.retain(|entry| self.may_write_l2(entry.table));
        }
    }

    pub(super) fn write_replaced(&self, after: &mut SparseBytes) {
        let entries = self.own.empty.iter();
        let replaced = entries.filter(|entry| self.replaced.contains(&entry.referrer));
        replaced.for_each(|entry| after.put(entry.at, &entry.without_cluster));
    }

    /// Rule 5: "only if, in the final state, every use of it is as the table that is being written".
    /// Refcount structures that are replaced are no use.
    fn used_only(&self, cluster: u64, is_kind: impl Fn(&Referrer) -> bool) -> bool {
        let mut uses = self.final_uses(cluster, self.ask.options.only_leaks);
        // What only the header leads to, taken for a table, is no use.
        cluster != 0
            && !self.covered.contains(&cluster)
            && uses.next().is_some_and(&is_kind)
            && uses.all(is_kind)
    }

    /// The same of an L2 table, "and it reads as such a table".
    fn may_write_l2(&self, offset: u64) -> bool {
        // Another table that lies over this one is not this one.
        let tables = self.own.tables.iter();
        let here = tables.filter(|table| table.offset == offset);
        let by: BTreeSet<Referrer> = here.map(TableUse::referrer).collect();
        let is_l2 = |use_: &Referrer| by.contains(use_);
        self.own.header.is_aligned(offset)
            && offset + self.size <= self.own.length
            && self.used_only(offset / self.size, is_l2)
            && self.l2_table(offset).is_some()
    }

    /// The same of the active L1 table.
    fn may_write_l1(&self) -> bool {
        let header = &self.own.header;
        let (offset, bytes) = (header.l1_offset, header.l1_entries * 8);
        let end = offset.saturating_add(bytes);
        let is_l1 = |referrer: &Referrer| matches!(referrer, Referrer::L1 { .. });
        let mut clusters = offset / self.size..end.div_ceil(self.size);
        end <= self.own.length
            && reads_as_l1_table(header, &self.image.bytes(offset, bytes as usize))
            && clusters.all(|cluster| self.used_only(cluster, is_l1))
    }

    /// Rule 9: "COPIED is right where it is set exactly if the true number of references (not cut to
    /// the width) is 1 and the disk says 1." `None` where the disk says nothing.
    fn is_one(&self, cluster: u64, repaired: &Repaired) -> Option<bool> {
        match self.said(cluster) {
            None if !repaired.rebuilt => None,
            Some(said) if !repaired.rebuilt && cluster >= self.own.clusters => Some(said == 1),
            _ => Some(repaired.counts.get(&cluster) == Some(&1)),
        }
    }

    /// Sets COPIED bits right, where the table may be written to.
    pub(super) fn write_copied(&self, repaired: &mut Repaired) {
        let is_data = |bit: &CopiedBit| matches!(bit.referrer, Referrer::Data { .. });
        let is_wrong = |bit: &&CopiedBit| {
            let external = is_data(bit) && self.own.header.external_data();
            let one = self.is_one(bit.cluster, repaired);
            let one = if external { Some(true) } else { one };
            let table = self.is_one(bit.table / self.size, repaired);
            let is_wrong = table.and(one).is_some_and(|one| one != bit.copied);
            is_wrong && !self.replaced.contains(&bit.referrer)
        };
        let wrong: Vec<&CopiedBit> = self.own.copied_bits.iter().filter(is_wrong).collect();
        let may_write = !self.ask.options.only_leaks || self.is_else_clean();
        let l1 = may_write && self.may_write_l1();
        let mut l2: BTreeSet<u64> = wrong.iter().map(|bit| bit.table).collect();
        l2.retain(|&table| may_write && self.may_write_l2(table));
        for bit in wrong {
            if is_data(bit) && l2.contains(&bit.table) || !is_data(bit) && l1 {
                let word = be64(&self.image.bytes(bit.at, 8)) ^ COPIED;
                repaired.after.put(bit.at, &word.to_be_bytes());
            } else {
                repaired.left_alone += 1;
            }
        }
    }

    /// Rule 12: COPIED bits are set "where nothing else is wrong"; what of the snapshot table a new
    /// one would mend may be.
    fn is_else_clean(&self) -> bool {
        let mut wrong = self.own.corruptions.iter();
        self.kept.is_empty()
            && !self.own.header_is_table
            && self.own.qemu.check_errors == 0
            && self.own.mismatches.iter().all(Mismatch::is_leak)
            && wrong.all(|wrong| matches!(wrong.wrong, Wrong::ShortExtraData(_)))
    }
}
