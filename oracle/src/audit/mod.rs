//! Reads an image on its own terms: who refers to each cluster, what the disk says of it, where the
//! structures are, what the guest sees. Naive and obvious on purpose, from the specification; what
//! qemu-img's check makes of it is a part of its own, `qemu_view`. It shares nothing with the engine,
//! constants included.
//!
//! Any bytes give an audit or an [`Unreadable`], in bounded time and memory, without a panic.

mod bytes;
mod compare;
mod corruption;
mod entry;
mod extras;
mod header;
mod layers;
mod qemu_view;
mod reader;
mod refcounts;
mod references;

use std::collections::BTreeMap;

use smallvec::SmallVec;

pub use bytes::Bytes;
pub use compare::Mismatch;
pub use corruption::{Corruption, Wrong};
pub use entry::{
    COMPRESSED, COPIED, Entry, OFFSET, Target, entries, reads_as_l1_table, reads_as_l2_table,
};
pub use extras::{Bitmap, SnapshotEntry, SnapshotFault, SnapshotTable};
pub use header::{Header, Region};
pub use layers::{CopiedBit, Layer, Mapping};
pub use qemu_view::{Counters, QemuView, Statistics, counters};
pub use reader::Unreadable;
pub(crate) use reader::{be32, be64};
pub use refcounts::OnDisk;
pub(crate) use refcounts::nonzero_counts;
pub use references::{EmptyEntry, LayerId, PastEnd, Referrer, Referrers, TableUse};

use reader::Reader;
use references::Walk;

/// What a LUKS header begins with.
const LUKS_MAGIC: [u8; 6] = *b"LUKS\xba\xbe";

/// Everything that an audit finds.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// The header.
    pub header: Header,
    /// The file's length in bytes, rounded up to sectors.
    pub length: u64,
    /// Clusters that are compared: those of the file, and past its end those referred to.
    pub clusters: u64,
    /// Who refers to each cluster.
    pub references: BTreeMap<u64, Referrers>,
    /// The refcount structures, and the refcounts in them.
    pub disk: OnDisk,
    /// The active layer, then the snapshots whose L1 table can be read.
    pub layers: Vec<Layer>,
    /// The snapshot table.
    pub snapshots: SnapshotTable,
    /// The bitmaps.
    pub bitmaps: Vec<Bitmap>,
    /// What is wrong in the tables.
    pub corruptions: Vec<Corruption>,
    /// Clusters whose refcount is not their number of references.
    pub mismatches: Vec<Mismatch>,
    /// The bits 63 of the active layer.
    pub copied_bits: Vec<CopiedBit>,
    /// How many things a check gives up for. The audit goes on behind them.
    pub blocked: usize,
    /// Whether a table begins in the header's cluster.
    pub header_is_table: bool,
    /// What ends past the end of the file.
    pub past_end: Vec<PastEnd>,
    /// The L2 tables that are read, as often as an L1 entry leads to them.
    pub tables: Vec<TableUse>,
    /// Entries that read as zeros and have an impossible offset.
    pub empty: Vec<EmptyEntry>,
    /// What qemu-img's check makes of it.
    pub qemu: QemuView,
}

impl Audit {
    /// Whether nothing at all is wrong.
    pub fn is_clean(&self) -> bool {
        counters(self).exit_code() == 0
    }

    /// The uses of a cluster.
    pub fn uses(&self, cluster: u64) -> impl Iterator<Item = &Referrer> + Clone {
        self.references.get(&cluster).into_iter().flatten()
    }

    /// References to a cluster.
    pub fn references_to(&self, cluster: u64) -> u64 {
        self.references.get(&cluster).map_or(0, SmallVec::len) as u64
    }

    /// Whether an entry reads as zeros and has an impossible offset.
    pub fn reads_as_zeros(&self, referrer: Referrer) -> bool {
        let mut empty = self.empty.iter();
        empty.any(|entry| entry.referrer == referrer)
    }
}

/// Audits an image.
pub fn audit(bytes: &dyn Bytes) -> Result<Audit, Unreadable> {
    view(bytes, true)
}

/// Audits an image without reading tables that begin in the header's cluster: a repair changes what
/// they say.
pub fn audit_beside_the_header(bytes: &dyn Bytes) -> Result<Audit, Unreadable> {
    view(bytes, false)
}

fn view(bytes: &dyn Bytes, follows_header: bool) -> Result<Audit, Unreadable> {
    let mut reader = Reader::new(bytes)?;
    let header = header::read(&mut reader)?;
    let mut walk = Walk {
        header,
        follows_header,
        found: Audit {
            header,
            length: reader.length(),
            clusters: reader.length().div_ceil(header.cluster_size()),
            ..Audit::default()
        },
        reader,
    };
    walk.found.disk = refcounts::read(&mut walk)?;
    let snapshots = extras::snapshot_table(&mut walk)?;

    walk.refer_cluster(Referrer::Header, 0)?;
    let (l1_offset, l1_entries) = (header.l1_offset, header.l1_entries);
    layers::walk(&mut walk, LayerId::Active, l1_offset, l1_entries)?;
    walk_snapshots(&mut walk, &snapshots.entries)?;
    let table = header.snapshots_offset;
    let bytes = snapshots.bytes(snapshots.entries.len(), table);
    walk.refer(Referrer::SnapshotTable, table, bytes)?;
    walk.found.snapshots = snapshots;
    let reftable_bytes = header.reftable_clusters * header.cluster_size();
    if header.reftable_usable {
        walk.refer(Referrer::Reftable, header.reftable_offset, reftable_bytes)?;
    }
    if let Some(luks) = header.luks {
        let offset = luks.offset;
        let magic = walk.reader.bytes(offset, LUKS_MAGIC.len() as u64)?;
        if magic != LUKS_MAGIC || !(1..1 << 63).contains(&luks.bytes) {
            // No program opens the image.
            walk.found.blocked += 1;
        }
        walk.refer(Referrer::LuksHeader, offset, luks.bytes)?;
    }
    if let Some((count, directory)) = header.bitmaps {
        walk.found.bitmaps = extras::bitmaps(&mut walk, count, directory)?;
    }
    refcounts::judge(&mut walk)?;
    let mut found = walk.found;
    found.mismatches = compare::mismatches(&found);
    qemu_view::complete(&mut found);
    Ok(found)
}

/// Walks the snapshots whose L1 table can be read.
fn walk_snapshots(walk: &mut Walk<'_>, snapshots: &[SnapshotEntry]) -> Result<(), Unreadable> {
    if walk.header.external_data() && !snapshots.is_empty() {
        let wrong = "names snapshots in an image whose data lies in another file";
        let count = snapshots.len() as u64;
        walk.corrupt(Referrer::SnapshotTable, Wrong::Impossible(wrong, count));
    }
    for (number, entry) in (0..).zip(snapshots) {
        let id = LayerId::Snapshot(number);
        if extras::judge_snapshot(walk, id, entry) {
            layers::walk(walk, id, entry.l1_offset, entry.l1_entries)?;
        }
    }
    Ok(())
}
