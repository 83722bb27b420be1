//! Following everything that refers to a cluster, and counting.
//!
//! qemu walks layer by layer and visits a shared L2 table once for each layer. Here the L1 tables
//! come first and every distinct L2 table is then read once, in ascending order, and counted as
//! often as it is referred to. The counts are the same, and so are the counters.

mod batches;
mod bitmaps;
mod copied;
mod dead_ends;
mod l1;
mod l2;
mod refcounts;
mod region;
mod scan;
mod snapshots;
mod usual;

use std::collections::BTreeMap;

pub(crate) use batches::{Worker, for_each_table};
pub use dead_ends::DeadEnds;
pub(crate) use l1::table_uses;
pub(crate) use l2::{L2Item, for_each_item};
pub use refcounts::{OldStructures, Reftable};
pub use region::Region;
pub use snapshots::{Snapshot, SnapshotTable};

use crate::finding::{Finding, Referrer};
use crate::format::entry::L2Format;
use crate::geometry::Geometry;
use crate::image::{Extent, Image, is_addressable};
use crate::observer::{Action, Observer};
use crate::storage::{Storage, StorageError};
use crate::table::{OutOfMemory, RefcountTable, Run};
use crate::units::{ClusterCount, Offset};

/// Why the references could not all be counted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalkError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Memory ran out.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// The snapshot table's place or size makes no sense.
    #[error(
        "the snapshot table of {snapshots} entries at offset {offset} (header bytes 60 to 71) is \
         not cluster aligned, too large, or not within the file"
    )]
    SnapshotTable {
        /// Entries that the header claims.
        snapshots: u32,
        /// Where it is said to be.
        offset: Offset,
    },
    /// A snapshot table entry has more extra data than anyone reads.
    #[error(
        "snapshot table entry {snapshot} has {bytes} bytes of extra data, over the limit of 1024; \
         `-r all` drops what is over, if the table lies within the file"
    )]
    SnapshotExtraData {
        /// Its number.
        snapshot: u32,
        /// Bytes of its extra data.
        bytes: u32,
    },
    /// The snapshot table is over 64 MiB.
    #[error(
        "snapshot table entry {snapshot} makes the table longer than 64 MiB: one of its sizes is wrong"
    )]
    SnapshotTableTooLarge {
        /// The first entry beyond.
        snapshot: u32,
    },
    /// A table lies where nothing can be read.
    #[error("the {referrer} at offset {offset} lies past the largest offset that can be read")]
    Unaddressable {
        /// Which table.
        referrer: Referrer,
        /// Where it is said to be.
        offset: Offset,
    },
    /// The bitmap directory cannot be read.
    #[error("the bitmap directory at offset {offset} is broken at byte {position}")]
    BitmapDirectory {
        /// Where the directory is.
        offset: Offset,
        /// Where in it the first wrong entry is.
        position: u64,
    },
    /// A bitmap's table cannot be read.
    #[error("entry {index}, {entry:#x}, of the bitmap table at offset {table} is malformed")]
    BitmapTable {
        /// Where the table is.
        table: Offset,
        /// The entry's number.
        index: u64,
        /// The entry.
        entry: u64,
    },
}

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
    /// Entries without data and with an unaligned offset, by position in the file, that a repair
    /// replaces by ones without a cluster; empty unless it was asked for.
    pub unaligned_empty: BTreeMap<Offset, UnalignedEmpty>,
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
            corruptions: 0,
            allocated: 0,
            fragmented: 0,
            compressed: 0,
            all_copied: true,
            no_plain_data: true,
            active_l2_tables: Vec::new(),
            dead_ends: DeadEnds::default(),
            unaligned_empty: BTreeMap::new(),
            dangling: Vec::new(),
            snapshots: SnapshotTable::default(),
        }
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
    l2_tables: BTreeMap<Offset, L2Uses>,
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
            l2_tables: BTreeMap::new(),
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
        let table = &self.references.snapshots;
        let (offset, length) = (table.offset, table.length);
        self.count_region(Referrer::SnapshotTable, offset, length, 1)?;
        if let Some(luks) = self.image.extensions.luks {
            self.count_region(Referrer::LuksHeader, luks.offset, luks.length, 1)?;
        }
        self.walk_bitmaps()?;
        self.spare_shared_tables()
    }

    /// Takes back the replacing of entries in tables that are not L2 tables alone: an L1 entry
    /// gone astray can lead to guest data, which only looks like a table.
    fn spare_shared_tables(&mut self) -> Result<(), WalkError> {
        let geometry = *self.image.geometry();
        let entries = std::mem::take(&mut self.references.unaligned_empty);
        let (alone, shared): (BTreeMap<_, _>, BTreeMap<_, _>) =
            entries.into_iter().partition(|(_, entry)| {
                let references = self.references.table.get(geometry.cluster_of(entry.table));
                geometry.is_aligned(entry.table) && references <= entry.uses.all
            });
        self.references.unaligned_empty = alone;
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
            self.corruption(finding, times);
            self.references.dead_ends.push(finding);
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
            let finding = Finding::Overflow {
                first: run.first,
                references: left_over,
            };
            self.corruption(finding, left_over);
        }
        Ok(())
    }

    /// One finding that counts as `times` corruptions.
    fn corruption(&mut self, finding: Finding, times: u64) {
        self.references.corruptions += times;
        self.observer.finding(&finding, Action::Reported);
    }

    const fn l2_format(&self) -> L2Format {
        L2Format {
            cluster_bits: self.image.header.geometry.cluster_bits(),
            extended: self.image.header.has_extended_l2(),
            data_file: self.image.header.has_data_file(),
        }
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
