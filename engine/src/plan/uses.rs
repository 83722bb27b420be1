//! What else uses the clusters of a table: a table is written to only where nothing does.

use super::RepairError;
use super::make::Draft;
use crate::format::entry::L1Entry;
use crate::references::{for_each_entry, looks_like_l2_table};
use crate::units::{Cluster, Offset, Region};

/// How many references to a cluster stay.
pub(super) type Staying<'a> = dyn Fn(Cluster) -> u64 + 'a;

impl Draft<'_> {
    /// Whether a cluster may be written to that is referred to as a table so often: it is not the
    /// header, nothing that leads past the end reaches over it, and it is nothing else.
    fn is_alone(&self, cluster: Cluster, uses: u64, staying: &Staying<'_>) -> bool {
        cluster != Cluster(0)
            && !self.look.references.beyond.covered.contains(cluster)
            && staying(cluster) == uses
    }

    /// Whether an L2 table may be written to: it is where one can be, all of it is in the file, its
    /// cluster is nothing else, and it looks like one. `bytes` are those of the table.
    pub fn l2_is_writable(&self, offset: Offset, bytes: &[u8], staying: &Staying<'_>) -> bool {
        let geometry = self.image.geometry();
        // Another table that lies over this one is not this one.
        let tables = &self.look.references.l2_tables;
        let found = tables.binary_search_by_key(&offset, |(offset, _)| *offset);
        let uses = found.map_or(0, |position| tables[position].1.all);
        // What only the header leads to, taken for an L1 table, is no use.
        uses > 0
            && geometry.is_aligned(offset)
            && offset.0.saturating_add(geometry.cluster_size()) <= self.image.extent.bytes
            && self.is_alone(geometry.cluster_of(offset), uses, staying)
            && looks_like_l2_table(&self.image, bytes)
    }

    /// Whether the active L1 table may be written to.
    pub fn l1_is_writable(&self, staying: &Staying<'_>) -> Result<bool, RepairError> {
        let (header, geometry) = (&self.image.header, self.image.geometry());
        let (offset, length) = (header.l1_table_offset, u64::from(header.l1_size) * 8);
        let region = Region { offset, length };
        let mut clusters = region.clusters(geometry).iter();
        let as_l1 = &self.look.references.as_l1;
        if region.end() > self.image.extent.bytes
            || !clusters.all(|cluster| self.is_alone(cluster, as_l1.get(cluster), staying))
        {
            return Ok(false);
        }
        let (mut sound, mut unsound) = (0_u64, 0_u64);
        for_each_entry(self.storage, offset, length / 8, |_, entry| {
            let entry = L1Entry(entry);
            if entry.has_reserved_bits() || !geometry.is_aligned(entry.l2_table()) {
                unsound += 1;
            } else {
                sound += 1;
            }
            Ok::<_, RepairError>(())
        })?;
        Ok(unsound <= sound)
    }
}
