//! L1 tables, of the active layer and of the snapshots.

use std::collections::BTreeMap;

use super::{L2Uses, Region, SnapshotTable, WalkError, Walker, for_each_entry};
use crate::finding::{Finding, Layer, Referrer};
use crate::format::entry::L1Entry;
use crate::format::snapshot::MAX_L1_ENTRIES;
use crate::image::Image;
use crate::storage::Storage;
use crate::units::{Cluster, Offset};

/// An L1 table that several layers may share: hostile ones share the same one tens of thousands of
/// times over.
#[derive(Clone, Copy)]
struct L1Uses {
    layer: Layer,
    active: u64,
    all: u64,
}

impl Walker<'_> {
    /// Counts all L1 tables and collects the L2 tables that they lead to.
    pub(super) fn walk_l1_tables(&mut self) -> Result<(), WalkError> {
        for ((offset, entries), uses) in self.l1_tables() {
            let length = u64::from(entries) * 8;
            if length == 0 {
                continue;
            }
            if self.image.geometry().cluster_of(offset) == Cluster(0) {
                let referrer = Referrer::L1Table(uses.layer);
                if self.is_header(offset) {
                    self.count_behind_header(referrer, offset, length, uses.all)?;
                    continue;
                }
                let finding = Finding::AtHeader { referrer, offset };
                self.references.dead_ends.push(finding);
            }
            self.count_region(Referrer::L1Table(uses.layer), offset, length, uses.all)?;
            Self::require_addressable(Referrer::L1Table(uses.layer), offset, length)?;
            let storage = self.storage;
            for_each_entry(storage, offset, u64::from(entries), |index, entry| {
                self.visit_l1_entry(uses, index, L1Entry(entry))
            })?;
        }
        Ok(())
    }

    /// The distinct L1 tables that can be followed; those that cannot are reported.
    fn l1_tables(&mut self) -> BTreeMap<(Offset, u32), L1Uses> {
        let header = &self.image.header;
        let mut tables = BTreeMap::new();
        let active = L1Uses {
            layer: Layer::Active,
            active: 1,
            all: 1,
        };
        tables.insert((header.l1_table_offset, header.l1_size), active);
        let count = self.references.snapshots.entries.len() as u32;
        if header.has_data_file() && count > 0 {
            self.corruption(Finding::SnapshotsInDataFile { count }, 1);
        }
        for index in 0..count {
            let entry = self.references.snapshots.entries[index as usize].entry;
            let (offset, entries) = (entry.l1_table_offset, entry.l1_size);
            let finding = if !self.image.geometry().is_aligned(offset) {
                Finding::SnapshotL1Unaligned {
                    snapshot: index,
                    offset,
                }
            } else if entries > MAX_L1_ENTRIES {
                Finding::SnapshotL1TooLarge {
                    snapshot: index,
                    entries,
                }
            } else {
                let layer = Layer::Snapshot(index);
                let uses = tables.entry((offset, entries)).or_insert(L1Uses {
                    layer,
                    active: 0,
                    all: 0,
                });
                uses.all += 1;
                continue;
            };
            self.corruption(finding, 1);
            self.references.dead_ends.push(finding);
        }
        tables
    }

    /// Whether a repair takes what is at `offset` for the header and not for a table. Read as a
    /// table, its reftable pointer is an entry, and each rebuild would change what is counted.
    const fn is_header(&self, offset: Offset) -> bool {
        self.repairs && offset.0 < self.image.header.geometry.cluster_size()
    }

    fn visit_l1_entry(
        &mut self,
        uses: L1Uses,
        index: u64,
        entry: L1Entry,
    ) -> Result<(), WalkError> {
        let (layer, times) = (uses.layer, uses.all);
        if entry.has_reserved_bits() {
            self.corruption(
                Finding::L1Reserved {
                    layer,
                    index,
                    entry: entry.0,
                },
                times,
            );
        }
        let offset = entry.l2_table();
        self.count_region(
            Referrer::L2Table,
            offset,
            self.image.geometry().cluster_size(),
            times,
        )?;
        if !self.image.geometry().is_aligned(offset) {
            let finding = Finding::L1Unaligned {
                layer,
                index,
                offset,
            };
            self.dead_end(finding, times);
        } else if offset == Offset(0) {
            // Only stray bits: the header taken for an L2 table.
            self.references.dead_ends.push(Finding::L1Reserved {
                layer,
                index,
                entry: entry.0,
            });
        }
        self.references.all_copied &= uses.active == 0 || entry.copied();
        if self.is_header(offset) {
            return Ok(());
        }
        let uses = L2Uses {
            active: uses.active,
            all: times,
        };
        self.l2_tables.refer(offset, uses);
        Ok(())
    }
}

/// How often tables are referred to as what they are.
pub struct TableUses {
    /// The active L1 table: by layers, none when it is taken for the header.
    pub active_l1: u64,
    /// L2 tables: by L1 tables of all layers whose L1 table can be followed.
    pub l2: BTreeMap<Offset, u64>,
}

/// How often the active L1 table and each L2 table is referred to as such.
pub fn table_uses(image: &Image, storage: &dyn Storage) -> Result<TableUses, WalkError> {
    let snapshots = SnapshotTable::read(image, storage, true, &mut ())?;
    let (header, geometry) = (&image.header, image.geometry());
    let active = (header.l1_table_offset, header.l1_size);
    let of_snapshots = snapshots
        .entries
        .iter()
        .map(|snapshot| (snapshot.entry.l1_table_offset, snapshot.entry.l1_size));
    let followed = of_snapshots.chain([active]).filter(|(offset, entries)| {
        let is_header = header.geometry.cluster_of(*offset) == Cluster(0);
        header.geometry.is_aligned(*offset) && *entries <= MAX_L1_ENTRIES && !is_header
    });
    let mut tables = BTreeMap::new();
    for table in followed {
        *tables.entry(table).or_default() += 1;
    }
    let active_l1 = tables.get(&active).copied().unwrap_or(0);
    let mut l2 = BTreeMap::new();
    for ((offset, entries), times) in tables {
        for_each_entry(storage, offset, u64::from(entries), |_, entry| {
            let table = Region {
                offset: L1Entry(entry).l2_table(),
                length: geometry.cluster_size(),
                times,
            };
            // An entry that is not aligned leads into two clusters.
            for cluster in table.clusters(geometry).iter() {
                let offset = Offset(cluster.0 << geometry.cluster_bits());
                *l2.entry(offset).or_default() += times;
            }
            Ok::<_, WalkError>(())
        })?;
    }
    Ok(TableUses { active_l1, l2 })
}
