//! L1 tables, of the active layer and of the snapshots.

use std::collections::BTreeMap;

use super::{CheckError, L2Uses, Result, Walker, for_each_entry};
use crate::finding::{Finding, L1Place, Layer, Referrer};
use crate::format::entry::L1Entry;
use crate::format::snapshot::MAX_L1_ENTRIES;
use crate::image::is_addressable;
use crate::table::push;
use crate::units::{Offset, Region};

/// An L1 table, which several layers may share: hostile ones share the same one tens of thousands of
/// times over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L1Table {
    /// Where it is.
    pub offset: Offset,
    /// How many entries it has.
    pub entries: u32,
    /// The first layer that it belongs to: the active one, if that is among them.
    pub layer: Layer,
    /// How many layers it belongs to.
    pub layers: u64,
}

impl L1Table {
    /// Its bytes.
    pub const fn region(&self) -> Region {
        Region {
            offset: self.offset,
            length: self.entries as u64 * 8,
        }
    }
}

impl Walker<'_> {
    /// Counts all L1 tables; returns the L2 tables that they lead to, with how often each is referred
    /// to.
    pub(super) fn walk_l1_tables(&mut self) -> Result<BTreeMap<Offset, L2Uses>> {
        let (tables, mut l2_tables) = (self.l1_tables(), BTreeMap::new());
        for table in &tables {
            let region = table.region();
            if region.length == 0 {
                continue;
            }
            let (referrer, offset) = (Referrer::L1Table(table.layer), table.offset);
            let skips = self.skips(referrer, offset);
            self.count_region(referrer, region, table.layers)?;
            if skips {
                continue;
            }
            if !is_addressable(region) {
                // qemu cannot read it either, and gives up.
                return Err(CheckError::Unaddressable { referrer, offset });
            }
            let (storage, mut named) = (self.storage, Vec::new());
            for_each_entry(storage, offset, u64::from(table.entries), |index, entry| {
                push(&mut named, L1Entry(entry).l2_table())?;
                let uses = l2_tables.entry(L1Entry(entry).l2_table()).or_default();
                self.visit_l1_entry(table, index, L1Entry(entry), uses);
                Ok::<_, CheckError>(())
            })?;
            // Nearly always they are in order already.
            named.sort_unstable();
            for pair in named.windows(2).filter(|pair| pair[0] == pair[1]) {
                let finding = Finding::DoubledTable { table: pair[0] };
                self.references.dead_ends.push(finding);
            }
        }
        self.references.l1_tables = tables;
        Ok(l2_tables)
    }

    /// The distinct L1 tables that can be followed; those that cannot are reported.
    fn l1_tables(&mut self) -> Vec<L1Table> {
        let header = &self.image.header;
        let mut tables = BTreeMap::new();
        let mut add = |offset, entries, layer| {
            let table = tables.entry((offset, entries)).or_insert(L1Table {
                offset,
                entries,
                layer,
                layers: 0,
            });
            table.layers += 1;
        };
        add(header.l1_table_offset, header.l1_size, Layer::Active);
        let count = self.references.snapshots.entries.len() as u32;
        if header.has_data_file() && count > 0 {
            self.corruption(Finding::SnapshotsInDataFile { count }, 1);
        }
        for snapshot in 0..count {
            let entry = self.references.snapshots.entries[snapshot as usize];
            let (offset, entries) = (entry.l1_table_offset, entry.l1_size);
            if !self.geometry.is_aligned(offset) {
                self.corruption(Finding::SnapshotL1Unaligned { snapshot, offset }, 1);
            } else if entries > MAX_L1_ENTRIES {
                self.corruption(Finding::SnapshotL1TooLarge { snapshot, entries }, 1);
            } else {
                add(offset, entries, Layer::Snapshot(snapshot));
            }
        }
        tables.into_values().collect()
    }

    fn visit_l1_entry(&mut self, table: &L1Table, index: u64, entry: L1Entry, uses: &mut L2Uses) {
        let (place, times, offset) = (L1Place(table.layer, index), table.layers, entry.l2_table());
        if entry.has_reserved_bits() {
            self.corruption(Finding::L1Reserved(place, entry.0), times);
        }
        if !self.geometry.is_aligned(offset) {
            self.corruption(Finding::L1Unaligned(place, offset), times);
        }
        let is_active = table.layer == Layer::Active;
        self.references.all_copied &= !is_active || entry.copied();
        uses.active += u64::from(is_active);
        uses.all += times;
    }
}
