//! Following everything that refers to a cluster, and counting.
//!
//! qemu walks layer by layer and visits a shared L2 table once for each layer. Here the L1 tables
//! come first and every distinct L2 table is then read once, in ascending order, and counted as
//! often as it is referred to. The counts are the same, and so are the counters.

mod batches;
mod bitmaps;
mod compressed;
mod copied;
mod dead_ends;
mod error;
mod l1;
mod l2;
mod l2_tables;
mod refcounts;
mod region;
mod scan;
mod snapshots;
mod spare;
mod usual;

use std::collections::BTreeMap;

pub(crate) use batches::{Worker, for_each_table};
pub use dead_ends::DeadEnds;
pub use error::WalkError;
pub(crate) use l1::table_uses;
pub(crate) use l2::{L2Item, for_each_item, looks_like_l2_table};
use l2_tables::L2Tables;
pub use refcounts::{OldStructures, Reftable};
pub use region::Region;
pub use snapshots::{Snapshot, SnapshotTable};

use crate::finding::{Finding, Referrer};
use crate::format::entry::L2Format;
use crate::geometry::Geometry;
use crate::image::{Extent, Image, is_addressable};
use crate::observer::{Action, Observer};
use crate::storage::{Storage, StorageError};
use crate::table::{RefcountTable, Run, RunSet};
use crate::units::{ClusterCount, Offset};

/// How often an L2 table is referred to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct L2Uses {
    active: u64,
    all: u64,
}

/// An L2 entry without data whose offset is not cluster aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnalignedEmpty {
    /// The table that it is in.
    table: Offset,
    uses: L2Uses,
    index: u64,
    /// Where it points.
    offset: Offset,
}

/// What the walk has counted.
#[derive(Clone, Debug)]
pub struct References {
    /// How often each cluster is referred to, by everything but reftable and refblocks.
    pub table: RefcountTable,
    /// Where clusters have more references than a refcount can hold: their count is too small.
    pub overflowed: RunSet,
    /// Corruptions met on the way.
    pub corruptions: u64,
    /// Clusters that the active layer maps.
    pub allocated: u64,
    /// Those of them that do not follow their predecessor.
    pub fragmented: u64,
    /// Those of them that are compressed.
    pub compressed: u64,
    /// Whether the COPIED bit is known to be set wherever the active layer refers to a cluster
    /// that can have it.
    pub all_copied: bool,
    /// Whether the active layer has no cluster that can have the COPIED bit: no data, or all of it
    /// compressed.
    pub no_plain_data: bool,
    /// The L2 tables of the active layer.
    pub active_l2_tables: Vec<Offset>,
    /// Entries and tables that lead nowhere.
    pub dead_ends: DeadEnds,
    /// Entries without data and with an unaligned offset that a repair replaces by ones without a
    /// cluster, by position in the file and by table, since tables that are not cluster aligned lie
    /// over others; empty unless it was asked for.
    pub unaligned_empty: BTreeMap<(Offset, Offset), UnalignedEmpty>,
    /// Whether one was left alone because its table lies in the present refcount structures.
    pub spared_in_structures: bool,
    /// Regions past the end of the file, with how often they are referred to. Should a rebuild let
    /// the file grow over one, it is inside the file then, and counts.
    pub dangling: Vec<Region>,
    /// The snapshot table.
    pub snapshots: SnapshotTable,
}

impl References {
    /// Nothing counted.
    pub(crate) fn new(geometry: Geometry) -> Self {
        Self {
            table: RefcountTable::new(geometry),
            overflowed: RunSet::new(),
            corruptions: 0,
            allocated: 0,
            fragmented: 0,
            compressed: 0,
            all_copied: true,
            no_plain_data: true,
            active_l2_tables: Vec::new(),
            dead_ends: DeadEnds::default(),
            unaligned_empty: BTreeMap::new(),
            spared_in_structures: false,
            dangling: Vec::new(),
            snapshots: SnapshotTable::default(),
        }
    }

    /// The clusters that regions past the end of the file touch. Nobody counts them, but what leads
    /// there reads them.
    pub(crate) fn covered(&self) -> RunSet {
        let geometry = self.table.geometry();
        let regions = self.dangling.iter();
        regions.map(|region| region.clusters(geometry)).collect()
    }

    /// Takes the counts out; those left behind are all 0.
    pub(crate) fn take_table(&mut self) -> RefcountTable {
        let empty = RefcountTable::new(*self.table.geometry());
        std::mem::replace(&mut self.table, empty)
    }
}

/// Counts references. One for each walk.
pub struct Walker<'a> {
    image: &'a Image,
    storage: &'a dyn Storage,
    observer: &'a mut dyn Observer,
    extent: Extent,
    /// Whether a repair follows: what it will replace or leave out is not counted.
    repairs: bool,
    l2_tables: L2Tables,
    references: References,
}

impl<'a> Walker<'a> {
    /// Counts everything that `image` refers to but its refcount structures.
    pub fn walk(
        image: &'a Image,
        storage: &'a dyn Storage,
        snapshots: SnapshotTable,
        repairs: bool,
        observer: &'a mut dyn Observer,
    ) -> Result<References, WalkError> {
        let mut walker = Walker {
            image,
            storage,
            observer,
            extent: Extent::of(storage, image.geometry()),
            repairs,
            l2_tables: L2Tables::default(),
            references: References {
                snapshots,
                ..References::new(*image.geometry())
            },
        };
        walker.run()?;
        Ok(walker.references)
    }

    fn run(&mut self) -> Result<(), WalkError> {
        let cluster_size = self.image.geometry().cluster_size();
        self.count_region(Referrer::Header, Offset(0), cluster_size, 1)?;
        self.walk_l1_tables()?;
        self.walk_l2_tables()?;
        self.count_snapshot_table()?;
        if let Some(luks) = self.image.extensions.luks {
            self.count_region(Referrer::LuksHeader, luks.offset, luks.length, 1)?;
        }
        self.walk_bitmaps()?;
        self.spare_doubtful_tables()
    }

    fn count_snapshot_table(&mut self) -> Result<(), WalkError> {
        let (referrer, table) = (Referrer::SnapshotTable, &self.references.snapshots);
        let (offset, length) = (table.offset, table.length);
        if table.at_header {
            return self.count_behind_header(referrer, offset, length, 1);
        }
        self.count_region(referrer, offset, length, 1)
    }

    /// Counts what a table that leads to the header takes up behind it, so that it stays untouched.
    fn count_behind_header(
        &mut self,
        referrer: Referrer,
        offset: Offset,
        length: u64,
        times: u64,
    ) -> Result<(), WalkError> {
        let finding = Finding::AtHeader { referrer, offset };
        self.references.dead_ends.push(finding);
        self.observer.finding(&finding, Action::Reported);
        let cluster_size = self.image.geometry().cluster_size();
        let length = length.saturating_sub(cluster_size - offset.0);
        self.count_region(referrer, Offset(cluster_size), length, times)
    }

    /// Counts `times` references to each cluster that a region touches, unless it lies past the
    /// end of the file.
    fn count_region(
        &mut self,
        referrer: Referrer,
        offset: Offset,
        length: u64,
        times: u64,
    ) -> Result<(), WalkError> {
        let geometry = self.image.geometry();
        if length == 0 {
            return Ok(());
        }
        if !self.extent.holds(geometry, offset, length) {
            let finding = Finding::PastEnd {
                referrer,
                offset,
                length,
            };
            self.dead_end(finding, times);
            self.references.dangling.push(Region {
                offset,
                length,
                times,
            });
            return Ok(());
        }
        let first = geometry.cluster_of(offset);
        // The end is below 2^64: the extent holds it.
        let last = geometry.cluster_of(Offset(offset.0 + (length - 1)));
        if referrer.is_table() && last.0 >= self.extent.clusters.0 {
            // No corruption for qemu, which reads zeros, but what the table held is not known.
            self.references.dead_ends.push(Finding::PastEnd {
                referrer,
                offset,
                length,
            });
        }
        self.count_run(Run::new(first, ClusterCount(last.0 - first.0 + 1)), times)
    }

    /// An error where qemu cannot read a table either, and gives up.
    fn require_addressable(
        referrer: Referrer,
        offset: Offset,
        length: u64,
    ) -> Result<(), WalkError> {
        if is_addressable(offset, length) {
            return Ok(());
        }
        Err(WalkError::Unaddressable { referrer, offset })
    }

    /// Counts `times` references to each cluster of a run that lies within the file.
    fn count_run(&mut self, run: Run, times: u64) -> Result<(), WalkError> {
        let left_over = self.references.table.add(run, times)?;
        if left_over > 0 {
            self.references.overflowed.insert(run);
            let finding = Finding::Overflow {
                first: run.first,
                references: left_over,
            };
            self.corruption(finding, left_over);
        }
        Ok(())
    }

    /// A corruption that nothing can be followed beyond.
    fn dead_end(&mut self, finding: Finding, times: u64) {
        self.corruption(finding, times);
        self.references.dead_ends.push(finding);
    }

    /// One finding that counts as `times` corruptions.
    fn corruption(&mut self, finding: Finding, times: u64) {
        self.references.corruptions += times;
        self.observer.finding(&finding, Action::Reported);
    }

    const fn l2_format(&self) -> L2Format {
        L2Format::of(&self.image.header)
    }
}

/// Reads a table of 8-byte entries in pieces and hands over each entry that is not 0 with its
/// index. What lies past the end of the file is 0, and so are holes.
pub fn for_each_entry<E: From<StorageError>>(
    storage: &dyn Storage,
    offset: Offset,
    entries: u64,
    mut visit: impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<(), E> {
    const PIECE_BYTES: u64 = 64 << 10;
    let mut buffer = Vec::new();
    let mut index = 0;
    while index < entries {
        let position = Offset(offset.0.saturating_add(index * 8));
        let Some(data) = storage.next_data(position) else {
            break;
        };
        // Back to the entry that the data begins in.
        index += (data.0 - position.0) / 8;
        let left = entries.saturating_sub(index).saturating_mul(8);
        let position = Offset(offset.0.saturating_add(index * 8));
        let length = left
            .min(PIECE_BYTES)
            .min(storage.len().saturating_sub(position.0).next_multiple_of(8));
        buffer.resize(length as usize, 0);
        storage.read_at(position, &mut buffer)?;
        for bytes in buffer.as_chunks::<8>().0 {
            let entry = u64::from_be_bytes(*bytes);
            if entry != 0 {
                visit(index, entry)?;
            }
            index += 1;
        }
        if length == 0 {
            break;
        }
    }
    Ok(())
}
