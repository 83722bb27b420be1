//! References against the refcounts on disk, refblock by refblock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::differences::Differences;
use super::disk_counts::is_readable;
use crate::finding::Finding;
use crate::format::entry::ReftableEntry;
use crate::geometry::Geometry;
use crate::image::{Extent, Image};
use crate::observer::{Action, Observer, Stage};
use crate::references::{OldStructures, Reftable, Worker, for_each_table};
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
    /// Compares all refcounts of the file's clusters.
    pub fn compare(
        image: &Image,
        storage: &dyn Storage,
        table: &RefcountTable,
        old: &OldStructures,
        observer: &mut dyn Observer,
    ) -> Result<Self, StorageError> {
        let geometry = image.geometry();
        let file = Extent::of(storage, geometry).clusters;
        let counted = table.last_used().map_or(0, |last| last.0 + 1);
        let mut comparer = Comparer {
            geometry,
            table,
            observer,
            result: Self {
                compared: file.max(ClusterCount(counted)),
                ..Self::default()
            },
        };
        let refblocks = comparer.refblocks(&old.reftable);
        // Sorted by place, neighbours are read at once; told in the order of what they cover.
        let mut places: Vec<_> = refblocks
            .iter()
            .map(|(refblock, entry)| (entry.refblock(), *refblock))
            .filter(|(offset, _)| is_readable(geometry, *offset) && *offset != Offset(0))
            .collect();
        places.sort_unstable();
        let mut differing = differing(storage, table, &places, comparer.observer)?;
        for (refblock, entry) in refblocks {
            let offset = entry.refblock();
            if !is_readable(geometry, offset) {
                comparer.unreadable(refblock, offset);
            } else if let Some(found) = differing.remove(&refblock) {
                comparer.differing(refblock, found);
            } else if offset == Offset(0) && table.is_used(refblock) {
                comparer.differing(refblock, Arc::from([]));
            } else {
                comparer.equal(refblock);
            }
        }
        Ok(comparer.result)
    }

    /// The clusters whose refcount differs: each with the refcount and the references.
    pub fn differences<'a>(
        &'a self,
        table: &'a RefcountTable,
    ) -> impl Iterator<Item = (Cluster, u64, u64)> + 'a {
        self.differing.iter().flat_map(move |(refblock, bytes)| {
            differences_in(table, *refblock, bytes, self.compared)
        })
    }
}

impl Comparison {
    /// Whether all refcounts are the references.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.differing.is_empty() && self.unreadable.is_empty()
    }

    /// Compares again with counts that are other than those compared with in the ranges of some
    /// refblocks.
    pub(crate) fn recount(
        &mut self,
        image: &Image,
        storage: &dyn Storage,
        old: &OldStructures,
        table: &RefcountTable,
        refblocks: &BTreeSet<RefblockIndex>,
    ) -> Result<(), StorageError> {
        let geometry = image.geometry();
        for refblock in refblocks {
            let offset = old.reftable.entry(*refblock).refblock();
            let is_equal = !self.differing.contains_key(refblock);
            if is_equal && offset != Offset(0) && is_readable(geometry, offset) {
                let mut bytes = vec![0; geometry.cluster_size() as usize];
                storage.read_at(offset, &mut bytes)?;
                self.differing.insert(*refblock, bytes.into());
            }
        }
        let differences = self.differences(table);
        let (mut corruptions, mut leaks, mut needs_rebuild) = (0, 0, false);
        for (_, refcount, references) in differences {
            corruptions += u64::from(refcount < references);
            leaks += u64::from(refcount > references);
            needs_rebuild |= refcount == 0;
        }
        (self.corruptions, self.leaks) = (corruptions, leaks);
        self.needs_rebuild = needs_rebuild;
        Ok(())
    }

    /// Those of them that one refblock covers.
    pub(crate) fn differences_of<'a>(
        &'a self,
        table: &'a RefcountTable,
        refblock: RefblockIndex,
    ) -> impl Iterator<Item = (Cluster, u64, u64)> + 'a {
        let bytes = self.differing.get(&refblock);
        bytes
            .into_iter()
            .flat_map(move |bytes| differences_in(table, refblock, bytes, self.compared))
    }

    /// Those of them whose refcount is above the references.
    pub(crate) fn leaks_of<'a>(
        &'a self,
        table: &'a RefcountTable,
    ) -> impl Iterator<Item = (Cluster, u64, u64)> + 'a {
        let differing = self.differing.iter();
        // Refcounts that are all 0 are above nothing.
        let present = differing.filter(|(_, bytes)| !width::is_zero(bytes));
        let differences = present.flat_map(move |(refblock, bytes)| {
            differences_in(table, *refblock, bytes, self.compared)
        });
        differences.filter(|(_, refcount, references)| refcount > references)
    }

    /// The clusters that are allocated and that nobody refers to.
    pub(crate) fn unreferenced<'a>(
        &'a self,
        table: &'a RefcountTable,
    ) -> impl Iterator<Item = Cluster> + 'a {
        let leaks = self.leaks_of(table);
        let unreferenced = leaks.filter(|(_, _, references)| *references == 0);
        unreferenced.map(|(cluster, _, _)| cluster)
    }
}

/// Of the refblocks at `places`, those that are not as the references say, with their bytes.
fn differing(
    storage: &dyn Storage,
    table: &RefcountTable,
    places: &[(Offset, RefblockIndex)],
    observer: &mut dyn Observer,
) -> Result<BTreeMap<RefblockIndex, Arc<[u8]>>, StorageError> {
    let finders = for_each_table(
        storage,
        table.geometry().cluster_size() as usize,
        places.len(),
        |number| places[number].0,
        || Finder {
            table,
            places,
            found: Vec::new(),
            last: None,
        },
        &mut |done| observer.progress(Stage::Refcounts, done as u64, places.len() as u64),
    )?;
    Ok(finders
        .into_iter()
        .flat_map(|finder| finder.found)
        .collect())
}

/// Looks for refblocks that differ.
struct Finder<'a> {
    table: &'a RefcountTable,
    places: &'a [(Offset, RefblockIndex)],
    found: Vec<(RefblockIndex, Arc<[u8]>)>,
    /// The place of the last one that differs: entries that lead to one refblock share its bytes.
    last: Option<Offset>,
}

impl Worker for Finder<'_> {
    type Error = StorageError;

    fn table(&mut self, number: usize, bytes: &[u8]) -> Result<(), StorageError> {
        let (offset, refblock) = self.places[number];
        if self.table.equals(refblock, bytes) {
            return Ok(());
        }
        let bytes = match self.found.last() {
            Some((_, bytes)) if self.last == Some(offset) => Arc::clone(bytes),
            _ => bytes.into(),
        };
        self.last = Some(offset);
        self.found.push((refblock, bytes));
        Ok(())
    }
}

struct Comparer<'a> {
    geometry: &'a Geometry,
    table: &'a RefcountTable,
    observer: &'a mut dyn Observer,
    result: Comparison,
}

impl Comparer<'_> {
    /// The refblocks that are there or should be, up to the end of the file.
    fn refblocks(&self, reftable: &Reftable) -> BTreeMap<RefblockIndex, ReftableEntry> {
        let needed = self
            .table
            .used_refblocks()
            .map(|refblock| (refblock, ReftableEntry(0)));
        let mut refblocks: BTreeMap<_, _> = needed.collect();
        let Some(last) = self.result.compared.0.checked_sub(1) else {
            return refblocks;
        };
        let last = self.geometry.refblock_of(Cluster(last));
        refblocks.extend(
            reftable
                .entries
                .iter()
                .copied()
                .filter(|(refblock, _)| *refblock <= last),
        );
        refblocks
    }

    /// The clusters of a refblock that are compared.
    fn range(&self, refblock: RefblockIndex) -> Run {
        range_of(self.geometry, refblock, self.result.compared)
    }

    fn unreadable(&mut self, refblock: RefblockIndex, offset: Offset) {
        let range = self.range(refblock);
        let (first, clusters) = (range.first, range.count.0);
        let finding = Finding::RefcountsUnreadable {
            first,
            clusters,
            offset,
        };
        self.observer.finding(&finding, Action::Reported);
        self.result.unreadable_clusters += clusters;
        self.result.unreadable.push(refblock);
    }

    fn equal(&mut self, refblock: RefblockIndex) {
        let next = RefblockIndex(refblock.0 + 1);
        let end = self.geometry.first_covered(next);
        if let Some(last) = self.table.last_used_before(end)
            && self.geometry.refblock_of(last) == refblock
        {
            self.result.last_used = Some(last);
        }
    }

    fn differing(&mut self, refblock: RefblockIndex, found: Arc<[u8]>) {
        let range = self.range(refblock);
        let order = self.geometry.order();
        // Where there is no refblock, or a lost one, there is nothing to look for.
        let looked_at = if width::is_zero(&found) {
            0
        } else {
            range.count.0 as usize
        };
        let used_on_disk = (0..looked_at)
            .rev()
            .find(|index| width::get(order, &found, *index) != 0)
            .map(|index| range.first.saturating_add(ClusterCount(index as u64)));
        let used = self
            .table
            .last_used_before(range.end())
            .filter(|last| range.contains(*last));
        self.result.last_used = used.max(used_on_disk).or(self.result.last_used);
        let differences = differences_in(self.table, refblock, &found, self.result.compared);
        for (cluster, refcount, references) in differences {
            let finding = if refcount < references {
                self.result.corruptions += 1;
                self.result.needs_rebuild |= refcount == 0;
                Finding::TooLow {
                    cluster,
                    refcount,
                    references,
                }
            } else {
                self.result.leaks += 1;
                Finding::Leak {
                    cluster,
                    refcount,
                    references,
                }
            };
            self.observer.finding(&finding, Action::Reported);
        }
        self.result.differing.insert(refblock, found);
    }
}

fn range_of(geometry: &Geometry, refblock: RefblockIndex, compared: ClusterCount) -> Run {
    let first = geometry.first_covered(refblock);
    let covered = geometry.refcounts_per_refblock();
    Run::new(
        first,
        ClusterCount(compared.0.saturating_sub(first.0).min(covered)),
    )
}

fn differences_in<'a>(
    table: &'a RefcountTable,
    refblock: RefblockIndex,
    found: &'a [u8],
    compared: ClusterCount,
) -> Differences<'a> {
    let range = range_of(table.geometry(), refblock, compared);
    Differences::new(table, found, range)
}
