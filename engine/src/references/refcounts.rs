//! The present refcount structures: the reftable and the refblocks, which are referred to as well.

use super::{References, WalkError, for_each_entry};
use crate::finding::{Finding, Referrer};
use crate::format::entry::ReftableEntry;
use crate::image::{Extent, Image};
use crate::observer::{Action, Observer};
use crate::storage::{Storage, StorageError};
use crate::table::{Run, RunSet};
use crate::units::{Cluster, ClusterCount, Offset, RefblockIndex};

/// The entries of the reftable that are not 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reftable {
    /// Each with its refblock's number, in ascending order.
    pub entries: Vec<(RefblockIndex, ReftableEntry)>,
}

impl Reftable {
    /// Reads the reftable; at most 8 MiB, and not past the end of the file.
    pub fn read(image: &Image, storage: &dyn Storage) -> Result<Self, StorageError> {
        let header = &image.header;
        let per_cluster = header.geometry.entries_per_reftable_cluster();
        let claimed = u64::from(header.reftable_clusters) * per_cluster;
        let mut entries = Vec::new();
        for_each_entry(storage, header.reftable_offset, claimed, |index, entry| {
            entries.push((RefblockIndex(index), ReftableEntry(entry)));
            Ok::<_, StorageError>(())
        })?;
        Ok(Self { entries })
    }

    /// The clusters of the reftable of `image`, which this is, and of its refblocks.
    #[must_use]
    pub fn clusters(&self, image: &Image) -> RunSet {
        let geometry = image.geometry();
        let count = ClusterCount(u64::from(image.header.reftable_clusters));
        let own = Run::new(geometry.cluster_of(image.header.reftable_offset), count);
        let refblocks = self.entries.iter().map(|(_, entry)| entry.refblock());
        let refblocks = refblocks.map(|offset| Run::single(geometry.cluster_of(offset)));
        refblocks.chain([own]).collect()
    }

    /// The entry of a refblock; an entry of zeros when there is none.
    #[must_use]
    pub fn entry(&self, refblock: RefblockIndex) -> ReftableEntry {
        self.entries
            .binary_search_by_key(&refblock, |entry| entry.0)
            .map_or(ReftableEntry(0), |position| self.entries[position].1)
    }
}

/// The present refcount structures, counted, with what is wrong with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OldStructures {
    /// The reftable.
    pub reftable: Reftable,
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
    /// Whether a repair has to build them anew: also when an entry leads past the end of the file.
    /// qemu would grow the file to where it leads, exabytes if a hostile entry says so.
    pub repair_rebuilds: bool,
    /// Refblocks whose contents cannot be trusted: unaligned, outside, shared, reserved bits.
    pub untrusted: Vec<RefblockIndex>,
}

impl OldStructures {
    /// Adds the reftable's and the refblocks' own references to the counts.
    pub fn count(
        image: &Image,
        storage: &dyn Storage,
        references: &mut References,
        observer: &mut dyn Observer,
    ) -> Result<Self, WalkError> {
        let reftable = Reftable::read(image, storage)?;
        let mut counter = Counter {
            image,
            extent: Extent::of(storage, image.geometry()),
            references,
            observer,
            old: Self::default(),
        };
        let header = &image.header;
        let reftable_bytes = u64::from(header.reftable_clusters) << header.geometry.cluster_bits();
        counter.region(Referrer::Reftable, header.reftable_offset, reftable_bytes)?;
        for (refblock, entry) in &reftable.entries {
            counter.entry(*refblock, *entry)?;
        }
        Ok(Self {
            reftable,
            ..counter.old
        })
    }

    /// Takes the references that were added for them out again.
    pub fn uncount(&self, references: &mut References) -> Result<(), WalkError> {
        for cluster in self.counted.iter().flat_map(Run::iter) {
            let count = references.table.get(cluster);
            references.table.set(cluster, count.saturating_sub(1))?;
        }
        Ok(())
    }
}

struct Counter<'a> {
    image: &'a Image,
    extent: Extent,
    references: &'a mut References,
    observer: &'a mut dyn Observer,
    old: OldStructures,
}

impl Counter<'_> {
    fn corruption(&mut self, finding: Finding, times: u64) {
        self.old.corruptions += times;
        self.observer.finding(&finding, Action::Reported);
    }

    fn region(&mut self, referrer: Referrer, offset: Offset, length: u64) -> Result<(), WalkError> {
        let geometry = self.image.geometry();
        if length == 0 {
            return Ok(());
        }
        if !self.extent.holds(geometry, offset, length) {
            // What is left of it is in use until there is another, not leaked.
            self.old.needs_rebuild = true;
            self.old.repair_rebuilds = true;
            let first = geometry.cluster_of(offset);
            let present = Cluster(self.extent.clusters.0).since(first);
            if present > ClusterCount(0) {
                self.old.claimed.insert(Run::new(first, present));
            }
            self.corruption(
                Finding::PastEnd {
                    referrer,
                    offset,
                    length,
                },
                1,
            );
            return Ok(());
        }
        let first = geometry.cluster_of(offset);
        let last = geometry.cluster_of(Offset(offset.0 + (length - 1)));
        let run = Run::new(first, ClusterCount(last.0 - first.0 + 1));
        self.old.clusters.insert(run);
        for cluster in run.iter() {
            let one = Run::single(cluster);
            if self.references.table.add(one, 1)? == 0 {
                self.old.counted.push(one);
            } else {
                // Shared with something else, which a narrow refcount cannot show.
                self.old.repair_rebuilds = true;
                self.corruption(
                    Finding::Overflow {
                        first: cluster,
                        references: 1,
                    },
                    1,
                );
            }
        }
        Ok(())
    }

    fn entry(&mut self, refblock: RefblockIndex, entry: ReftableEntry) -> Result<(), WalkError> {
        let geometry = *self.image.geometry();
        let offset = entry.refblock();
        let cluster = geometry.cluster_of(offset);
        if entry.has_reserved_bits() {
            self.rebuild(
                refblock,
                Finding::ReftableReserved {
                    refblock,
                    entry: entry.0,
                },
            );
        } else if !geometry.is_aligned(offset) {
            self.rebuild(refblock, Finding::RefblockUnaligned { refblock, offset });
        } else if self.is_outside(cluster) {
            self.corruption(Finding::RefblockOutside { refblock, offset }, 1);
            self.old.untrusted.push(refblock);
            self.old.repair_rebuilds = true;
        } else if offset != Offset(0) {
            self.region(Referrer::Refblock, offset, geometry.cluster_size())?;
            let references = self.references.table.get(cluster);
            if references != 1 {
                self.rebuild(
                    refblock,
                    Finding::RefblockShared {
                        refblock,
                        references,
                    },
                );
            }
        }
        Ok(())
    }

    fn rebuild(&mut self, refblock: RefblockIndex, finding: Finding) {
        self.corruption(finding, 1);
        self.old.untrusted.push(refblock);
        self.old.needs_rebuild = true;
        self.old.repair_rebuilds = true;
    }

    /// Whether a cluster lies after the file, and after a table that reaches into its last
    /// cluster's rest.
    fn is_outside(&self, cluster: Cluster) -> bool {
        // Looking for the last one takes a while, and nearly no image makes that necessary.
        cluster.0 >= self.extent.clusters.0
            && self
                .references
                .table
                .last_used()
                .is_none_or(|last| cluster > last)
    }
}
