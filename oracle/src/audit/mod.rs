//! Reads an image on its own terms: who refers to each cluster, what the disk says of it, where the
//! structures are, what the guest sees. Naive and obvious on purpose, from the specification and
//! from what qemu-img check is seen to do; it shares nothing with the engine, constants included.
//!
//! Any bytes give an audit or an [`Unreadable`], in bounded time and memory, without a panic.

mod bytes;
mod compare;
mod corruption;
mod counters;
mod extras;
mod header;
mod layers;
mod reader;
mod refcounts;
mod references;
mod refusal;
mod structure;

use std::collections::BTreeMap;

use smallvec::SmallVec;

pub use bytes::Bytes;
pub use compare::Mismatch;
pub use corruption::{Corruption, Wrong};
pub use counters::{Counters, counters};
pub use extras::{Bitmap, SnapshotEntry, SnapshotTable, SnapshotsEnd};
pub use header::{Header, Region};
pub use layers::{Layer, Mapping, Statistics};
pub use refcounts::OnDisk;
pub(crate) use refcounts::nonzero_counts;
pub use references::{EmptyEntry, LayerId, PastEnd, Referrer, Referrers, TableUse};
pub use refusal::{Refusal, Unreadable};
pub use structure::{ToyGeometry, ToyStructure, structure};

use reader::Reader;
use references::Walk;

/// What a LUKS header begins with.
const LUKS_MAGIC: [u8; 6] = *b"LUKS\xba\xbe";

/// Everything that an audit finds.
#[derive(Clone, Debug)]
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
    /// Bits 63 that do not match the refcounts on disk.
    pub copied: Vec<Corruption>,
    /// Clusters whose refcount is not their number of references.
    pub mismatches: Vec<Mismatch>,
    /// Clusters whose refcount cannot be read.
    pub check_errors: u64,
    /// The first thing for which a check gives up. The audit goes on behind it.
    pub blocked: Option<Refusal>,
    /// The first thing for which only qemu-img gives up, if it opens the image at all.
    pub qemu_gives_up: Option<Refusal>,
    /// Whether a table begins in the header's cluster.
    pub header_is_table: bool,
    /// What ends past the end of the file.
    pub past_end: Vec<PastEnd>,
    /// The L2 tables that are read, as often as an L1 entry leads to them.
    pub tables: Vec<TableUse>,
    /// Entries that read as zeros and have an impossible offset.
    pub empty: Vec<EmptyEntry>,
    /// Whether qemu-img would build the structures anew.
    pub rebuild_needed: bool,
    /// Fragmentation of the active layer.
    pub statistics: Statistics,
    /// One after the last cluster with a reference or a refcount.
    pub end: u64,
}

impl Audit {
    /// Whether nothing at all is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        counters(self).exit_code() == 0
    }

    /// References to a cluster.
    #[must_use]
    pub fn references_to(&self, cluster: u64) -> u64 {
        self.references.get(&cluster).map_or(0, SmallVec::len) as u64
    }

    /// Entries that lead nowhere, so that clusters may be in use without a reference to be found.
    pub fn leads_nowhere(&self) -> impl Iterator<Item = &Corruption> {
        let corruptions = self.corruptions.iter();
        corruptions.filter(|corruption| corruption.hides_references())
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
    let mut walk = Walk::new(&mut reader, &header, follows_header);
    let disk = refcounts::read(&mut walk)?;
    let snapshots = extras::snapshot_table(&mut walk)?;

    walk.refer_cluster(Referrer::Header, 0)?;
    let active = layers::walk(
        &mut walk,
        LayerId::Active,
        header.l1_offset,
        header.l1_entries,
    )?;
    let mut layers = vec![active.layer];
    layers.extend(walk_snapshots(&mut walk, &snapshots.entries)?);
    let table = header.snapshots_offset;
    walk.refer(Referrer::SnapshotTable, table, snapshots.bytes)?;
    let reftable_bytes = header.reftable_clusters * header.cluster_size();
    if header.reftable_usable {
        walk.refer(Referrer::Reftable, header.reftable_offset, reftable_bytes)?;
    }
    if let Some(luks) = header.luks {
        let mut magic = [0; LUKS_MAGIC.len()];
        bytes.read(luks.offset, &mut magic)?;
        if magic != LUKS_MAGIC {
            let offset = luks.offset;
            walk.blocked.get_or_insert(Refusal::Luks { offset });
        }
        walk.refer(Referrer::LuksHeader, luks.offset, luks.bytes)?;
    }
    let bitmaps = match header.bitmaps {
        Some((count, directory)) => extras::bitmaps(&mut walk, count, directory)?,
        None => Vec::new(),
    };
    let bad_reftable = refcounts::judge(&mut walk, &disk)?;

    let comparison = compare::counts(&header, &disk, &walk.references, walk.clusters);
    let free_on_disk = comparison.mismatches.iter().any(Mismatch::is_free_on_disk);
    let copied = compare::copied_bits(&header, &disk, &active.copied_bits);
    Ok(Audit {
        length: walk.reader.length(),
        clusters: walk.clusters,
        references: walk.references,
        corruptions: walk.corruptions,
        blocked: walk.blocked,
        qemu_gives_up: walk.qemu_gives_up,
        header_is_table: walk.header_is_table,
        past_end: walk.past_end,
        tables: walk.tables,
        empty: walk.empty,
        copied,
        mismatches: comparison.mismatches,
        check_errors: comparison.unreadable,
        rebuild_needed: bad_reftable || free_on_disk,
        statistics: active.statistics,
        end: comparison.end,
        layers,
        snapshots,
        bitmaps,
        disk,
        header,
    })
}

fn walk_snapshots(
    walk: &mut Walk<'_, '_>,
    snapshots: &[SnapshotEntry],
) -> Result<Vec<Layer>, Unreadable> {
    let mut layers = Vec::new();
    if walk.header.external_data() && !snapshots.is_empty() {
        walk.corrupt(Referrer::SnapshotTable, Wrong::SnapshotsOfExternalData);
    }
    for (number, entry) in (0..).zip(snapshots) {
        let id = LayerId::Snapshot(number);
        if extras::judge_snapshot(walk, id, entry) {
            layers.push(layers::walk(walk, id, entry.l1_offset, entry.l1_entries)?.layer);
        }
    }
    Ok(layers)
}
