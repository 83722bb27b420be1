//! Following everything that refers to a cluster, and counting.
//!
//! qemu walks layer by layer and visits a shared L2 table once for each layer. Here the L1 tables
//! come first and every distinct L2 table is then read once, in ascending order, and counted as
//! often as it is referred to. The counts are the same, and so are the counters.

mod batches;
mod bitmaps;
mod compressed;
mod dead_ends;
mod error;
mod l1;
mod l2;
mod refcounts;
mod scan;
mod snapshots;
mod usual;

pub(crate) use batches::{BATCH_BYTES, find_in_tables};
pub(crate) use bitmaps::read_directory;
pub use dead_ends::{Beyond, DeadEnds};
pub use error::{CheckError, SnapshotRefusal};
pub use l1::L1Table;
pub(crate) use l2::looks_like_l2_table;
pub use l2::{L2Run, l2_runs};
pub use refcounts::OldStructures;
pub use scan::Tally;
pub use snapshots::SnapshotTable;
pub(crate) use snapshots::has_id;

use crate::finding::{Finding, Referrer};
use crate::format::entry::L2Format;
use crate::geometry::Geometry;
use crate::image::Image;
use crate::observer::{Action, Observer};
use crate::storage::{Storage, StorageError};
use crate::table::RefcountTable;
use crate::units::{Cluster, Offset, Region};

/// What comes of a part of the walk.
type Result<T, E = CheckError> = std::result::Result<T, E>;

/// Whether tables that begin in the header's cluster are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderTables {
    /// As qemu's check does.
    Followed,
    /// A repair changes what they say, so it goes by everything else.
    NotFollowed,
}

/// How often an L2 table is referred to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct L2Uses {
    /// By the active L1 table.
    pub active: u64,
    /// By the L1 tables of all layers.
    pub all: u64,
}

/// An L2 entry without data whose offset is not cluster aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnalignedEmpty {
    /// The table that it is in.
    pub table: Offset,
    /// How often that is referred to.
    pub uses: L2Uses,
    /// The cluster that the entry leads to.
    pub region: Region,
}

/// What the walk has counted.
#[derive(Clone, Debug)]
pub struct References {
    /// How often each cluster is referred to, by everything but reftable and refblocks.
    pub table: RefcountTable,
    /// Corruptions met on the way.
    pub corruptions: u64,
    /// What the entries of the active layer's L2 tables add up to.
    pub tally: Tally,
    /// Whether the COPIED bit is known to be set wherever the active layer refers to a cluster
    /// that can have it.
    pub all_copied: bool,
    /// The distinct L1 tables.
    pub l1_tables: Vec<L1Table>,
    /// The distinct L2 tables that were read, in ascending order.
    pub l2_tables: Vec<(Offset, L2Uses)>,
    /// How often each cluster is used as an L1 table, as an L2 table, and as anything else but guest
    /// data and refcount structures.
    pub as_l1: RefcountTable,
    pub as_l2: RefcountTable,
    pub as_other: RefcountTable,
    /// Whether an L2 table in use has not a single entry.
    pub has_empty_table: bool,
    /// Whether a table begins in the header's cluster.
    pub header_is_table: bool,
    /// What is wrong with what refers to clusters, as far as the walk sees it.
    pub dead_ends: DeadEnds,
    /// Entries without data and with an unaligned offset, which a repair replaces by ones without a
    /// cluster.
    pub unaligned_empty: Vec<UnalignedEmpty>,
    /// What leads past the end of the file.
    pub beyond: Beyond,
    /// The snapshot table.
    pub snapshots: SnapshotTable,
}

impl References {
    /// Whether nothing can be wrong but the refcounts: all could be followed, nothing is to be
    /// replaced, and the COPIED bits are right once the refcounts are.
    pub(crate) fn are_sound(&self) -> bool {
        self.copied_is_right() && self.snapshots.corruptions == 0
    }

    /// Whether all COPIED bits of the active layer are right where each cluster's refcount is the
    /// number of its references: all are set, all could be followed, and no cluster that can have the
    /// bit is referred to twice.
    pub fn copied_is_right(&self) -> bool {
        let is_sound = self.all_copied && self.corruptions == 0 && self.dead_ends.count == 0;
        is_sound && (!self.table.has_shared() || self.only_compressed_is_shared())
    }

    /// Whether no cluster that can have the COPIED bit is referred to twice, because none of the
    /// data can have it, and of the L2 tables each is referred to once.
    fn only_compressed_is_shared(&self) -> bool {
        let geometry = self.table.geometry();
        let mut active = self.l2_tables.iter().filter(|(_, uses)| uses.active > 0);
        self.tally.allocated == self.tally.compressed
            && active.all(|(offset, _)| self.table.get(geometry.cluster_of(*offset)) == 1)
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
    geometry: Geometry,
    format: L2Format,
    header_tables: HeaderTables,
    /// How often the L2 table that is being read is referred to.
    uses: L2Uses,
    /// Where the cluster after the last that it mapped begins; none before its first.
    next_contiguous: Option<Offset>,
    references: References,
}

impl<'a> Walker<'a> {
    /// Counts everything that `image` refers to but its refcount structures.
    pub fn walk(
        image: &'a Image,
        storage: &'a dyn Storage,
        header_tables: HeaderTables,
        observer: &'a mut dyn Observer,
    ) -> Result<References> {
        let snapshots = SnapshotTable::read(image, storage, header_tables, observer)?;
        let geometry = *image.geometry();
        let mut walker = Walker {
            image,
            storage,
            observer,
            geometry,
            format: image.format(),
            header_tables,
            uses: L2Uses::default(),
            next_contiguous: None,
            references: References {
                table: RefcountTable::new(geometry),
                as_l1: RefcountTable::new(geometry),
                as_l2: RefcountTable::new(geometry),
                as_other: RefcountTable::new(geometry),
                corruptions: 0,
                tally: Tally::default(),
                all_copied: true,
                l1_tables: Vec::new(),
                l2_tables: Vec::new(),
                has_empty_table: false,
                header_is_table: false,
                dead_ends: DeadEnds::default(),
                unaligned_empty: Vec::new(),
                beyond: Beyond::default(),
                snapshots,
            },
        };
        walker.run()?;
        Ok(walker.references)
    }

    fn run(&mut self) -> Result<()> {
        let (offset, length) = (Offset(0), self.geometry.cluster_size());
        self.count_region(Referrer::Header, Region { offset, length }, 1)?;
        self.judge_snapshots();
        let l2_tables = self.walk_l1_tables()?;
        self.walk_l2_tables(l2_tables)?;
        let snapshots = self.references.snapshots.region;
        self.count_region(Referrer::SnapshotTable, snapshots, 1)?;
        if let Some(region) = self.image.extensions.luks {
            self.count_region(Referrer::LuksHeader, region, 1)?;
        }
        self.walk_bitmaps()
    }

    /// Whether what begins at `offset` is not read, as it would be the header.
    fn skips(&mut self, referrer: Referrer, offset: Offset) -> bool {
        if self.geometry.cluster_of(offset) != Cluster(0) {
            return false;
        }
        self.references.header_is_table = true;
        let finding = Finding::AtHeader(referrer, offset);
        self.references.dead_ends.push(finding);
        self.header_tables == HeaderTables::NotFollowed
    }

    /// Counts `times` references to each cluster that a region touches, unless it lies past the
    /// end of the file.
    fn count_region(&mut self, referrer: Referrer, region: Region, times: u64) -> Result<()> {
        if region.length == 0 {
            return Ok(());
        }
        let past_end = Finding::PastEnd(referrer, region);
        if !self.image.holds(region) {
            self.corruption(past_end, times);
            self.references.beyond.dangling(self.image, region);
            return Ok(());
        }
        if referrer.is_of_exact_length() && region.end() > self.image.extent.bytes {
            // No corruption for qemu, which reads zeros, but what was there is not known.
            self.references.dead_ends.push(past_end);
            self.references.beyond.in_part(self.image, region.end());
        }
        let run = region.clusters(&self.geometry);
        match referrer {
            Referrer::Data(_) | Referrer::Compressed(_) => {}
            Referrer::L1Table(_) => self.references.as_l1.add(run, times)?,
            Referrer::L2Table => self.references.as_l2.add(run, times)?,
            _ => self.references.as_other.add(run, times)?,
        }
        Ok(self.references.table.add(run, times)?)
    }

    /// Something wrong with what refers to clusters, which counts as `times` corruptions.
    fn corruption(&mut self, finding: Finding, times: u64) {
        self.references.dead_ends.push(finding);
        self.harmless(finding, times);
    }

    /// The same where nothing can be lost behind it.
    fn harmless(&mut self, finding: Finding, times: u64) {
        self.references.corruptions += times;
        self.observer.finding(&finding, Action::Reported);
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
