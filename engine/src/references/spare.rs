//! Leaving alone what may not be an L2 table.

use std::collections::{BTreeMap, BTreeSet};

use super::{Reftable, UnalignedEmpty, WalkError, Walker, looks_like_l2_table};
use crate::finding::{Finding, Referrer};
use crate::units::Offset;

impl Walker<'_> {
    /// Takes back the replacing of entries in tables that are not L2 tables alone, or not even look
    /// like one: an L1 entry gone astray can lead to guest data.
    pub(super) fn spare_doubtful_tables(&mut self) -> Result<(), WalkError> {
        if self.references.unaligned_empty.is_empty() {
            return Ok(());
        }
        let geometry = *self.image.geometry();
        let covered = self.references.covered();
        let structures = Reftable::read(self.image, self.storage)?.clusters(self.image);
        let entries = std::mem::take(&mut self.references.unaligned_empty);
        let sound = self.sound_tables(entries.values().map(|entry| entry.table))?;
        let (alone, shared): (BTreeMap<_, _>, BTreeMap<_, _>) =
            entries.into_iter().partition(|(_, entry)| {
                let cluster = geometry.cluster_of(entry.table);
                let references = self.references.table.get(cluster);
                sound.contains(&entry.table)
                    && geometry.is_aligned(entry.table)
                    && references <= entry.uses.all
                    && !self.references.overflowed.contains(cluster)
                    && !structures.contains(cluster)
                    && !covered.contains(cluster)
            });
        self.references.unaligned_empty = alone;
        self.references.spared_in_structures = shared
            .values()
            .any(|entry| structures.contains(geometry.cluster_of(entry.table)));
        for entry in shared.into_values() {
            let UnalignedEmpty {
                table,
                uses,
                index,
                offset,
            } = entry;
            self.corruption(
                Finding::EmptyUnaligned {
                    table,
                    index,
                    offset,
                },
                uses.all,
            );
            let data_file = self.image.header.has_data_file();
            let length = if data_file {
                0
            } else {
                geometry.cluster_size()
            };
            self.count_region(Referrer::Data, offset, length, uses.all)?;
        }
        Ok(())
    }

    /// Those of the tables that look like one.
    fn sound_tables(
        &self,
        tables: impl Iterator<Item = Offset>,
    ) -> Result<BTreeSet<Offset>, WalkError> {
        let geometry = self.image.geometry();
        let mut buffer = vec![0; geometry.cluster_size() as usize];
        let mut sound = BTreeSet::new();
        for table in tables.collect::<BTreeSet<_>>() {
            self.storage.read_at(table, &mut buffer)?;
            if looks_like_l2_table(self.image, &self.extent, &buffer) {
                sound.insert(table);
            }
        }
        Ok(sound)
    }
}
