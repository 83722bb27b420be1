//! References against the refcounts on disk, refblock by refblock.

use std::collections::BTreeMap;

use crate::finding::Finding;
use crate::format::entry::ReftableEntry;
use crate::geometry::Geometry;
use crate::image::{Extent, Image, is_addressable};
use crate::observer::{Action, Observer, Stage};
use crate::references::{OldStructures, References, Reftable};
use crate::storage::{Storage, StorageError};
use crate::table::{RefcountTable, Run, width};
use crate::units::{Cluster, ClusterCount, Offset, RefblockIndex};

use super::Survey;

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
    /// The refblocks that are not as the references say, with their bytes on disk.
    pub differing: BTreeMap<RefblockIndex, Box<[u8]>>,
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
        references: &References,
        old: &OldStructures,
        observer: &mut dyn Observer,
    ) -> Result<Self, StorageError> {
        let geometry = image.geometry();
        let file = Extent::of(storage, geometry).clusters;
        let counted = references.table.last_used().map_or(0, |last| last.0 + 1);
        let mut comparer = Comparer {
            geometry,
            table: &references.table,
            observer,
            result: Self {
                compared: file.max(ClusterCount(counted)),
                ..Self::default()
            },
        };
        let refblocks = comparer.refblocks(&old.reftable);
        let total = refblocks.len() as u64;
        let cluster_size = geometry.cluster_size() as usize;
        let (mut expected, mut found) = (vec![0; cluster_size], vec![0; cluster_size]);
        for (done, (refblock, entry)) in refblocks.into_iter().enumerate() {
            comparer
                .observer
                .progress(Stage::Refcounts, done as u64, total);
            let offset = entry.refblock();
            if !is_readable(geometry, offset) {
                comparer.unreadable(refblock, offset);
                continue;
            }
            read_refblock(storage, offset, &mut found)?;
            comparer.table.encode(refblock, &mut expected);
            if expected == found {
                comparer.equal(refblock);
            } else {
                comparer.differing(refblock, &found);
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
        self.differences(table)
            .filter(|(_, refcount, references)| refcount > references)
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

    fn differing(&mut self, refblock: RefblockIndex, found: &[u8]) {
        let range = self.range(refblock);
        let order = self.geometry.order();
        let used_on_disk = (0..range.count.0 as usize)
            .rev()
            .find(|index| width::get(order, found, *index) != 0)
            .map(|index| range.first.saturating_add(ClusterCount(index as u64)));
        let used = self
            .table
            .last_used_before(range.end())
            .filter(|last| range.contains(*last));
        self.result.last_used = used.max(used_on_disk).or(self.result.last_used);
        let differences = differences_in(self.table, refblock, found, self.result.compared);
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
        self.result.differing.insert(refblock, found.into());
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
) -> impl Iterator<Item = (Cluster, u64, u64)> + 'a {
    let order = table.geometry().order();
    let range = range_of(table.geometry(), refblock, compared);
    range.iter().zip(0..).filter_map(move |(cluster, index)| {
        let refcount = width::get(order, found, index);
        let references = table.get(cluster);
        (refcount != references).then_some((cluster, refcount, references))
    })
}

/// Whether the refcounts in a refblock at `offset` can be read.
const fn is_readable(geometry: &Geometry, offset: Offset) -> bool {
    geometry.is_aligned(offset) && is_addressable(offset, geometry.cluster_size())
}

/// Reads a refblock; zeros where there is none.
fn read_refblock(
    storage: &dyn Storage,
    offset: Offset,
    bytes: &mut [u8],
) -> Result<(), StorageError> {
    if offset == Offset(0) {
        bytes.fill(0);
        return Ok(());
    }
    storage.read_at(offset, bytes)
}

/// The refcounts on disk, of any cluster: what was found equal is looked up in the references.
pub struct DiskCounts<'a> {
    image: &'a Image,
    storage: &'a dyn Storage,
    table: &'a RefcountTable,
    reftable: &'a Reftable,
    /// The clusters that `table` speaks of; the disk is asked about those beyond.
    compared: ClusterCount,
    /// Where the disk differs from `table`; `None` when it does not, as after a repair.
    comparison: Option<&'a Comparison>,
    /// The last refblock read beyond what was compared.
    beyond: Option<(RefblockIndex, Box<[u8]>)>,
}

impl<'a> DiskCounts<'a> {
    pub(super) const fn of_survey(
        survey: &'a Survey,
        image: &'a Image,
        storage: &'a dyn Storage,
    ) -> Self {
        Self {
            image,
            storage,
            table: &survey.references.table,
            reftable: &survey.old.reftable,
            compared: survey.comparison.compared,
            comparison: Some(&survey.comparison),
            beyond: None,
        }
    }

    /// Refcounts that the disk has, up to `compared`, exactly as in `table`.
    pub(crate) const fn of_table(
        table: &'a RefcountTable,
        compared: ClusterCount,
        reftable: &'a Reftable,
        image: &'a Image,
        storage: &'a dyn Storage,
    ) -> Self {
        Self {
            image,
            storage,
            table,
            reftable,
            compared,
            comparison: None,
            beyond: None,
        }
    }

    /// The refcount of a cluster; `None` when it cannot be read.
    pub fn get(&mut self, cluster: Cluster) -> Result<Option<u64>, StorageError> {
        let geometry = *self.image.geometry();
        let refblock = geometry.refblock_of(cluster);
        let index = cluster.since(geometry.first_covered(refblock)).0 as usize;
        if let Some(comparison) = self.comparison {
            if comparison.unreadable.binary_search(&refblock).is_ok() {
                return Ok(None);
            }
            if let Some(bytes) = comparison.differing.get(&refblock) {
                return Ok(Some(width::get(geometry.order(), bytes, index)));
            }
        }
        if cluster.0 < self.compared.0 {
            return Ok(Some(self.table.get(cluster)));
        }
        self.get_beyond(refblock, index)
    }

    /// How many clusters of a run have the refcount 1, if all of it was found equal and lies in
    /// the range of one refblock.
    #[must_use]
    pub fn ones_if_equal(&self, run: Run) -> Option<u64> {
        if let Some(comparison) = self.comparison {
            let refblock = self.image.geometry().refblock_of(run.first);
            if comparison.differing.contains_key(&refblock)
                || comparison.unreadable.binary_search(&refblock).is_ok()
            {
                return None;
            }
        }
        (run.end().0 <= self.compared.0).then(|| self.table.count_ones(run))
    }

    fn get_beyond(
        &mut self,
        refblock: RefblockIndex,
        index: usize,
    ) -> Result<Option<u64>, StorageError> {
        let geometry = *self.image.geometry();
        let offset = self.reftable.entry(refblock).refblock();
        if !is_readable(&geometry, offset) {
            return Ok(None);
        }
        if self
            .beyond
            .as_ref()
            .is_none_or(|(number, _)| *number != refblock)
        {
            let mut bytes = vec![0; geometry.cluster_size() as usize];
            read_refblock(self.storage, offset, &mut bytes)?;
            self.beyond = Some((refblock, bytes.into_boxed_slice()));
        }
        let bytes = self.beyond.as_ref().map(|(_, bytes)| bytes);
        Ok(bytes.map(|bytes| width::get(geometry.order(), bytes, index)))
    }
}
