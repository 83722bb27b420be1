//! The present refcount structures: the reftable and the refblocks, which are referred to as well.

use super::{Result, for_each_entry};
use crate::finding::{Finding, Referrer};
use crate::format::entry::ReftableEntry;
use crate::image::Image;
use crate::observer::{Action, Observer};
use crate::storage::Storage;
use crate::table::{OutOfMemory, RefcountTable, Run, RunSet, push};
use crate::units::{Cluster, Offset, RefblockIndex, Region};

/// The present refcount structures, counted, with what is wrong with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OldStructures {
    /// The entries of the reftable that are not 0, each with its refblock's number, in ascending order.
    pub reftable: Vec<(RefblockIndex, ReftableEntry)>,
    /// Their clusters.
    pub clusters: RunSet,
    /// The clusters within the file of a reftable that reaches past its end: it is said to be longer
    /// than it is.
    pub claimed: RunSet,
    /// References that were added for them, one each, in the order in which they were added.
    pub counted: Vec<Run>,
    /// Corruptions met.
    pub corruptions: u64,
    /// Whether they can only be built anew, as qemu sees it.
    pub needs_rebuild: bool,
    /// Refblocks whose contents cannot be trusted: unaligned, outside, shared, reserved bits.
    pub untrusted: Vec<RefblockIndex>,
    /// Whether a cluster of theirs is used as something else as well, or twice.
    pub is_shared: bool,
}

impl OldStructures {
    /// Adds the reftable's and the refblocks' own references to the counts.
    pub fn count(
        image: &Image,
        storage: &dyn Storage,
        table: &mut RefcountTable,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let header = &image.header;
        let mut counter = Counter {
            image,
            table,
            observer,
            old: Self::default(),
        };
        let (offset, clusters) = (header.reftable_offset, header.reftable_clusters);
        if header.has_usable_reftable {
            let length = u64::from(clusters) << header.geometry.cluster_bits();
            counter.region(Referrer::Reftable, Region { offset, length })?;
            // At most 8 MiB, and not past the end of the file.
            let entries = u64::from(clusters) * header.geometry.entries_per_reftable_cluster();
            for_each_entry(storage, offset, entries, |index, entry| {
                counter.entry(RefblockIndex(index), ReftableEntry(entry))
            })?;
        } else {
            counter.rebuild(&Finding::ReftableUnusable { offset, clusters });
        }
        let mut old = counter.old;
        let mut clusters = old.counted.iter().flat_map(Run::iter);
        old.is_shared = clusters.any(|cluster| table.get(cluster) != 1);
        Ok(old)
    }

    /// Whether a repair has to build them anew: also when an entry leads past the end of the file.
    /// qemu would grow the file to where it leads, exabytes if a hostile entry says so.
    pub const fn repair_rebuilds(&self) -> bool {
        self.corruptions > 0 || self.is_shared
    }

    /// Where the reftable says that a refblock is; 0 where there is none.
    pub fn place_of(&self, refblock: RefblockIndex) -> Offset {
        let found = self
            .reftable
            .binary_search_by_key(&refblock, |entry| entry.0);
        found.map_or(Offset(0), |position| self.reftable[position].1.refblock())
    }

    /// Takes the references that were added for them out of the counts again.
    pub fn uncount(&self, table: &mut RefcountTable) -> Result<(), OutOfMemory> {
        let mut counted = self.counted.iter();
        counted.try_for_each(|run| table.remove(*run, 1))
    }
}

struct Counter<'a> {
    image: &'a Image,
    table: &'a mut RefcountTable,
    observer: &'a mut dyn Observer,
    old: OldStructures,
}

impl Counter<'_> {
    /// Something wrong, for which a repair builds the structures anew.
    fn rebuild(&mut self, finding: &Finding) {
        self.old.corruptions += 1;
        self.old.needs_rebuild |= !matches!(
            finding,
            Finding::RefblockOutside(..) | Finding::PastEnd(Referrer::Refblock, _)
        );
        self.observer.finding(finding, Action::Reported);
    }

    fn region(&mut self, referrer: Referrer, region: Region) -> Result<()> {
        let geometry = self.image.geometry();
        if region.length == 0 {
            return Ok(());
        }
        if !self.image.holds(region) {
            // What is left of it is in use until there is another, not leaked.
            let first = geometry.cluster_of(region.offset);
            let present = Cluster(self.image.extent.clusters.0).since(first);
            self.old.claimed.insert(Run::new(first, present));
            self.rebuild(&Finding::PastEnd(referrer, region));
            return Ok(());
        }
        let run = region.clusters(geometry);
        self.old.clusters.insert(run);
        self.table.add(run, 1)?;
        push(&mut self.old.counted, run)?;
        Ok(())
    }

    fn entry(&mut self, refblock: RefblockIndex, entry: ReftableEntry) -> Result<()> {
        push(&mut self.old.reftable, (refblock, entry))?;
        let geometry = *self.image.geometry();
        let offset = entry.refblock();
        let cluster = geometry.cluster_of(offset);
        let finding = if entry.has_reserved_bits() {
            Finding::ReftableReserved(refblock, entry.0)
        } else if !geometry.is_aligned(offset) {
            Finding::RefblockUnaligned(refblock, offset)
        } else if self.is_outside(cluster) {
            Finding::RefblockOutside(refblock, offset)
        } else if offset == Offset(0) {
            return Ok(());
        } else {
            let length = geometry.cluster_size();
            self.region(Referrer::Refblock, Region { offset, length })?;
            // A narrow refcount cannot show that something else refers to it too (observed).
            let references = self.table.get(cluster).min(geometry.max_refcount());
            if references == 1 {
                return Ok(());
            }
            Finding::RefblockShared(refblock, references)
        };
        self.old.untrusted.push(refblock);
        self.rebuild(&finding);
        Ok(())
    }

    /// Whether a cluster lies after the file, and after a table that reaches into its last
    /// cluster's rest.
    fn is_outside(&self, cluster: Cluster) -> bool {
        // Looking for the last one takes a while, and nearly no image makes that necessary.
        let is_past = cluster.0 >= self.image.extent.clusters.0;
        is_past && self.table.last_used().is_none_or(|last| cluster > last)
    }
}
