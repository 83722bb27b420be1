//! References against the refcounts on disk, refblock by refblock.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::differences::differences;
use super::disk_counts::is_readable;
use crate::finding::{Finding, Miscount};
use crate::geometry::Geometry;
use crate::observer::{Action, Observer, Stage};
use crate::references::{OldStructures, find_in_tables};
use crate::storage::{Storage, StorageError};
use crate::table::{RefcountTable, Run, width};
use crate::units::{Cluster, ClusterCount, Offset, RefblockIndex};

/// How the refcounts on disk differ from the references.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Clusters whose refcount is below their references.
    pub corruptions: u64,
    /// Clusters whose refcount is above their references.
    pub leaks: u64,
    /// Clusters whose refcount cannot be read.
    pub unreadable_clusters: u64,
    /// Whether a cluster that is referred to has the refcount 0: the next write may take it.
    pub needs_rebuild: bool,
    /// The last cluster with a reference or a refcount.
    pub last_used: Option<Cluster>,
    /// The refblocks that are not as the references say, with their bytes on disk, none where
    /// there is no refblock.
    pub differing: BTreeMap<RefblockIndex, Arc<[u8]>>,
    /// The refblocks that cannot be read.
    pub unreadable: Vec<RefblockIndex>,
    /// Clusters that were compared: those of the file, and a table's last that reaches beyond.
    pub compared: ClusterCount,
}

impl Comparison {
    /// Compares all refcounts of so many clusters, and of those beyond that are referred to.
    pub fn compare(
        clusters: ClusterCount,
        storage: &dyn Storage,
        table: &RefcountTable,
        old: &OldStructures,
        observer: &mut dyn Observer,
    ) -> Result<Self, StorageError> {
        let geometry = table.geometry();
        let counted = table.last_used().map_or(0, |last| last.0 + 1);
        let mut result = Self {
            compared: clusters.max(ClusterCount(counted)),
            ..Self::default()
        };
        let refblocks = result.refblocks(table, old);
        // Sorted by place, neighbours are read at once; told in the order of what they cover.
        let mut places: Vec<_> = refblocks
            .iter()
            .map(|(refblock, offset)| (*offset, *refblock))
            .filter(|(offset, _)| is_readable(geometry, *offset) && *offset != Offset(0))
            .collect();
        places.sort_unstable();
        let mut differing = differing(storage, table, &places, observer)?;
        // Neighbours, of one refblock or of several, are told of together.
        let mut alike = None;
        for (refblock, offset) in refblocks {
            let range = result.range(geometry, refblock);
            if !is_readable(geometry, offset) {
                result.tell(alike.take(), observer);
                let finding = Finding::RefcountsUnreadable(range, offset);
                observer.finding(&finding, Action::Reported);
                result.unreadable_clusters += range.count.0;
                result.unreadable.push(refblock);
                continue;
            }
            let used = table.last_used_before(range.end());
            let mut used = used.filter(|last| range.contains(*last));
            let is_missing = offset == Offset(0) && used.is_some();
            let missing = is_missing.then(|| Arc::from([]));
            if let Some(found) = differing.remove(&refblock).or(missing) {
                used = used.max(last_on_disk(geometry, &found, range));
                differences(table, &found, range).for_each(|miscount| match &mut alike {
                    Some((first, count)) if first.after(*count) == miscount => *count += 1,
                    _ => result.tell(alike.replace((miscount, 1)), observer),
                });
                result.differing.insert(refblock, found);
            }
            result.last_used = used.or(result.last_used);
        }
        result.tell(alike, observer);
        Ok(result)
    }

    /// The clusters that a refblock covers whose refcount differs.
    pub(crate) fn differences_of(
        &self,
        table: &RefcountTable,
        refblock: RefblockIndex,
    ) -> impl Iterator<Item = Miscount> {
        let range = self.range(table.geometry(), refblock);
        let found = self.differing.get(&refblock).into_iter();
        found.flat_map(move |found| differences(table, found, range))
    }

    /// Those of all clusters whose refcount is above the references.
    pub(crate) fn leaks_of(&self, table: &RefcountTable) -> impl Iterator<Item = Miscount> {
        // Refcounts that are all 0 are above nothing.
        let differing = self.differing.iter();
        let present = differing.filter(|(_, bytes)| !width::is_zero(bytes));
        let differences =
            present.flat_map(move |(refblock, _)| self.differences_of(table, *refblock));
        differences.filter(|miscount| miscount.refcount > miscount.references)
    }

    /// The clusters that are allocated and that nobody refers to.
    pub(crate) fn unreferenced(&self, table: &RefcountTable) -> impl Iterator<Item = Cluster> {
        let leaks = self.leaks_of(table);
        let unreferenced = leaks.filter(|leak| leak.references == 0);
        unreferenced.map(|leak| leak.cluster)
    }

    /// The last cluster before `end` that a refblock says is allocated, if the references differ there.
    pub(crate) fn last_allocated(
        &self,
        geometry: &Geometry,
        refblock: RefblockIndex,
        end: Cluster,
    ) -> Option<Cluster> {
        let Run { first, count } = Run::covered_by(geometry, refblock);
        let range = Run::new(first, count.min(end.since(first)));
        last_on_disk(geometry, self.differing.get(&refblock)?, range)
    }

    /// The clusters of a refblock that are compared.
    fn range(&self, geometry: &Geometry, refblock: RefblockIndex) -> Run {
        let Run { first, count } = Run::covered_by(geometry, refblock);
        Run::new(first, count.min(Cluster(self.compared.0).since(first)))
    }

    /// The refblocks that are there or should be, up to the end of what is compared.
    fn refblocks(
        &self,
        table: &RefcountTable,
        old: &OldStructures,
    ) -> BTreeMap<RefblockIndex, Offset> {
        let needed = table.used_refblocks();
        let mut refblocks: BTreeMap<_, _> = needed.map(|at| (at, Offset(0))).collect();
        if let Some(last) = self.compared.0.checked_sub(1) {
            let last = table.geometry().refblock_of(Cluster(last));
            let present = old.reftable.iter().take_while(|(at, _)| *at <= last);
            refblocks.extend(present.map(|(at, entry)| (*at, entry.refblock())));
        }
        refblocks
    }

    /// Adds so many clusters side by side, whose refcounts differ alike, and tells of them.
    fn tell(&mut self, alike: Option<(Miscount, u64)>, observer: &mut dyn Observer) {
        let Some((first, count)) = alike else { return };
        let clusters = ClusterCount(count);
        let finding = if first.refcount < first.references {
            self.corruptions += count;
            self.needs_rebuild |= first.refcount == 0;
            Finding::TooLow(first, clusters)
        } else {
            self.leaks += count;
            Finding::Leak(first, clusters)
        };
        observer.finding(&finding, Action::Reported);
    }
}

/// Of the refblocks at `places`, those that are not as the references say, with their bytes.
fn differing(
    storage: &dyn Storage,
    table: &RefcountTable,
    places: &[(Offset, RefblockIndex)],
    observer: &mut dyn Observer,
) -> Result<BTreeMap<RefblockIndex, Arc<[u8]>>, StorageError> {
    let size = table.geometry().cluster_size();
    let find = || {
        let mut expected = vec![0; size as usize];
        // Entries that lead to one refblock share its bytes.
        let mut last: Option<(Offset, Arc<[u8]>)> = None;
        move |(offset, refblock): &(Offset, RefblockIndex), bytes: &[u8]| {
            table.encode(*refblock, &mut expected);
            if expected == bytes {
                return Ok(None);
            }
            let same = last.take().filter(|(place, _)| place == offset);
            let bytes = same.map_or_else(|| bytes.into(), |(_, bytes)| bytes);
            last = Some((*offset, Arc::clone(&bytes)));
            Ok::<_, StorageError>(Some((*refblock, bytes)))
        }
    };
    let found = find_in_tables(storage, size, places, find, (Stage::Refcounts, observer))?;
    Ok(found.into_iter().collect())
}

/// The last cluster of a range that has a refcount, in a refblock that begins with `found`.
fn last_on_disk(geometry: &Geometry, found: &[u8], range: Run) -> Option<Cluster> {
    // Where there is no refblock, or a lost one, there is nothing to look for.
    let present = (!width::is_zero(found)).then_some(range);
    let is_used = |index| width::get(geometry.order(), found, index as usize) != 0;
    let mut clusters = present.into_iter().flat_map(|range| range.iter());
    clusters.rfind(|cluster| is_used(cluster.since(range.first).0))
}
