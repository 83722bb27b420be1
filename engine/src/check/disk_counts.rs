//! The refcount on disk of any cluster, without reading what was found equal again.

use super::{Comparison, Look};
use crate::geometry::Geometry;
use crate::image::{Image, is_addressable};
use crate::references::OldStructures;
use crate::storage::{Storage, StorageError};
use crate::table::{RefcountTable, Run, width};
use crate::units::{Cluster, ClusterCount, Offset, RefblockIndex, Region};

/// The refcounts on disk, or the numbers that they are cut from, of any cluster: what was found equal
/// is looked up in the references.
pub struct DiskCounts<'a> {
    pub(crate) image: &'a Image,
    pub(super) storage: &'a dyn Storage,
    table: &'a RefcountTable,
    old: &'a OldStructures,
    /// The clusters that `table` speaks of; the disk is asked about those beyond.
    compared: ClusterCount,
    /// Where the disk differs from `table`; `None` where `table` has the true numbers.
    comparison: Option<&'a Comparison>,
    /// Refblocks that cannot be read, in ascending order: their clusters have no refcount.
    unreadable: &'a [RefblockIndex],
    /// The last refblock read beyond what was compared.
    beyond: Option<(RefblockIndex, Vec<u8>)>,
}

impl Look {
    /// The refcounts on disk.
    pub const fn disk_counts<'a>(
        &'a self,
        image: &'a Image,
        storage: &'a dyn Storage,
    ) -> DiskCounts<'a> {
        DiskCounts {
            image,
            storage,
            table: &self.references.table,
            old: &self.old,
            compared: self.comparison.compared,
            comparison: Some(&self.comparison),
            unreadable: self.comparison.unreadable.as_slice(),
            beyond: None,
        }
    }

    /// What the disk will say once `counts` are the refcounts, in structures that are built anew or in
    /// those that there are: the true numbers, not cut to the width.
    pub(crate) const fn counts_after<'a>(
        &'a self,
        counts: &'a RefcountTable,
        is_rebuilt: bool,
        image: &'a Image,
        storage: &'a dyn Storage,
    ) -> DiskCounts<'a> {
        let mut after = self.disk_counts(image, storage);
        (after.table, after.comparison) = (counts, None);
        if is_rebuilt {
            (after.compared, after.unreadable) = (ClusterCount(u64::MAX), &[]);
        }
        after
    }
}

impl<'a> DiskCounts<'a> {
    /// The refcount of a cluster; `None` when it cannot be read.
    pub fn get(&mut self, cluster: Cluster) -> Result<Option<u64>, StorageError> {
        let geometry = *self.image.geometry();
        let refblock = geometry.refblock_of(cluster);
        let index = cluster.since(geometry.first_covered(refblock)).0 as usize;
        if self.unreadable.binary_search(&refblock).is_ok() {
            return Ok(None);
        }
        let differing = |comparison: &'a Comparison| comparison.differing.get(&refblock);
        if let Some(bytes) = self.comparison.and_then(differing) {
            return Ok(Some(width::get(geometry.order(), bytes, index)));
        }
        if cluster.0 < self.compared.0 {
            return Ok(Some(self.table.get(cluster).min(self.most())));
        }
        self.get_beyond(refblock, index)
    }

    /// How many clusters of a run have the refcount 1, if all of it was found equal and lies in
    /// the range of one refblock.
    pub fn ones_if_equal(&self, run: Run) -> Option<u64> {
        let geometry = self.image.geometry();
        let refblock = geometry.refblock_of(run.first);
        let differs = |other: &Comparison| other.differing.contains_key(&refblock);
        let is_equal = self.unreadable.binary_search(&refblock).is_err()
            && !self.comparison.is_some_and(differs)
            && run.end().0 <= self.compared.0;
        is_equal.then(|| self.table.count_ones(run, self.most()))
    }

    /// The largest count that `table` is asked for: the disk has refcounts, not true numbers.
    fn most(&self) -> u64 {
        let max = self.image.geometry().max_refcount();
        self.comparison.map_or(u64::MAX, |_| max)
    }

    fn get_beyond(
        &mut self,
        refblock: RefblockIndex,
        index: usize,
    ) -> Result<Option<u64>, StorageError> {
        let geometry = *self.image.geometry();
        let offset = self.old.place_of(refblock);
        if offset == Offset(0) {
            return Ok(Some(0));
        }
        if !is_readable(&geometry, offset) {
            return Ok(None);
        }
        if self.beyond.as_ref().is_none_or(|held| held.0 != refblock) {
            let mut bytes = vec![0; geometry.cluster_size() as usize];
            self.storage.read_at(offset, &mut bytes)?;
            self.beyond = Some((refblock, bytes));
        }
        let refcount = |(_, bytes): &(_, Vec<u8>)| width::get(geometry.order(), bytes, index);
        Ok(self.beyond.as_ref().map(refcount))
    }
}

/// Whether the refcounts in a refblock at `offset` can be read.
pub(super) const fn is_readable(geometry: &Geometry, offset: Offset) -> bool {
    let length = geometry.cluster_size();
    geometry.is_aligned(offset) && is_addressable(Region { offset, length })
}
