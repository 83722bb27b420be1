//! `leaves-data-alone` and `keeps-header-settings`: no byte of a referenced cluster changes but the
//! header fields and table entries that the repair names.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::reading::Reading;
use super::{Failure, header_parts};
use crate::audit::{COMPRESSED, Corruption, LayerId, OFFSET, Referrer, be64};
use crate::case::damage::SparseBytes;
use crate::disk::{Event, Trace};
use crate::run::{Before, Run};

/// Bytes of the pointer at the start of a toy.
const TOY_POINTER: Range<u64> = 0..12;
/// The header's pointer to the reftable (specification, "Header").
const POINTER: Range<u64> = 48..60;
/// The header's number and place of snapshots, changed when the snapshot table is written anew.
const SNAPSHOTS: Range<u64> = 60..72;
/// The last byte of the incompatible features, where the dirty and the corrupt bit are.
const LOWEST_FEATURES: u64 = 79;
const DIRTY_AND_CORRUPT: u8 = 3;
/// The autoclear features.
const AUTOCLEAR: Range<u64> = 88..96;
/// Bit 63 in the first byte of an L1 or L2 entry.
const COPIED: u8 = 0x80;

/// Of the bytes after a repair, whether it ended well or not; all but the header of an image.
pub(super) fn judge(before: &Before, run: &Run) -> Result<(), Failure> {
    judge_part(before, run, false)
}

/// Of the header, likewise.
pub(super) fn judge_header(before: &Before, run: &Run) -> Result<(), Failure> {
    judge_part(before, run, true)
}

fn judge_part(before: &Before, run: &Run, header: bool) -> Result<(), Failure> {
    let mut guard = Guard::new(before, &run.trace, false);
    guard
        .guarded
        .retain(|(cluster, ..)| before.reading.is_header(*cluster) == header);
    guard.check(&run.after)
}

/// The bytes that must not change, as far as a trace could have changed them.
#[derive(Debug)]
pub(super) struct Guard<'a> {
    before: &'a Before,
    /// Cluster by cluster: the bytes before, and the bits of each that may change; none where no bit
    /// may.
    guarded: Vec<(u64, Vec<u8>, Vec<u8>)>,
}

impl<'a> Guard<'a> {
    /// `at_all_times`: as long as a repair goes on, an entry that leads to a shared cluster and does
    /// not say that it has one reference must not come to say so: a guest that runs then would write
    /// into what a snapshot shares.
    pub fn new(before: &'a Before, trace: &Trace, at_all_times: bool) -> Self {
        let reading = &before.reading;
        let exceptions = Exceptions::of(reading, at_all_times);
        let size = reading.cluster_size() as usize;
        let guarded = touched(before, trace).into_iter().filter(|cluster| {
            reading.foreign_references_to(*cluster) > 0 && !exceptions.given_up.contains(cluster)
        });
        let guarded = guarded.map(|cluster| {
            let bytes = before.bytes.bytes(cluster << reading.cluster_bits, size);
            let free = exceptions.of_cluster(cluster, &bytes);
            (cluster, bytes, free)
        });
        Self {
            guarded: guarded.collect(),
            before,
        }
    }

    pub fn check(&self, bytes: &SparseBytes) -> Result<(), Failure> {
        let reading = &self.before.reading;
        for (cluster, old, free) in &self.guarded {
            let new = bytes.bytes(cluster << reading.cluster_bits, old.len());
            if new == *old {
                continue;
            }
            let free = |at: usize| free.get(at).copied().unwrap_or(0);
            let changed = (0..old.len()).find(|&at| (old[at] ^ new[at]) & !free(at) != 0);
            if let Some(at) = changed {
                let (was, is, by) = (old[at], new[at], reading.referrers(*cluster));
                let change = format!("changed from {was:#04x} to {is:#04x}");
                return Err(Failure::new(if reading.is_header(*cluster) {
                    let part = header_parts::part(&self.before.bytes, at as u64);
                    format!("byte {at} of the header, {part}, {change}")
                } else {
                    format!(
                        "byte {at} of cluster {cluster} {change}, and the cluster is in use: {by}"
                    )
                }));
            }
        }
        Ok(())
    }
}

/// The clusters that something was done to.
fn touched(before: &Before, trace: &Trace) -> BTreeSet<u64> {
    let bits = before.reading.cluster_bits;
    let mut touched = BTreeSet::new();
    let last = before.reading.references.keys().next_back();
    let limit = last.map_or(0, |last| last + 1);
    for event in &trace.events {
        let (offset, end) = match event {
            Event::Write { offset, bytes, .. } | Event::WriteFailed { offset, bytes } => {
                (*offset, offset + bytes.len() as u64)
            }
            Event::Discard { offset, length } => (*offset, offset + length),
            Event::SetLen { length } => (*length, before.bytes.len()),
            Event::Flush | Event::FlushFailed => continue,
        };
        touched.extend(offset >> bits..end.div_ceil(1 << bits).min(limit));
    }
    touched
}

/// What a repair may change.
#[derive(Default)]
struct Exceptions {
    /// By byte position: the bits that may change.
    bits: BTreeMap<u64, u8>,
    /// Tables of the active layer, in which any bit 63 may be set right: distance of the entries, and
    /// the bit of those that lead to no cluster.
    tables: BTreeMap<u64, (usize, u64)>,
    /// Shared clusters, to which no bit 63 may come.
    shared: BTreeSet<u64>,
    /// Clusters whose content is written anew elsewhere, and those that only replaced entries lead
    /// to.
    given_up: BTreeSet<u64>,
}

impl Exceptions {
    fn of(reading: &Reading, at_all_times: bool) -> Self {
        let mut these = Self::default();
        let Some(audit) = reading.counted() else {
            these.free(TOY_POINTER);
            return these;
        };
        these.free(POINTER);
        if audit.header.version >= 3 {
            these.bits.insert(LOWEST_FEATURES, DIRTY_AND_CORRUPT);
            these.free(AUTOCLEAR);
        }
        let blank = audit.snapshots.entries.iter().any(|entry| entry.blank);
        let moves_snapshots = blank || audit.corruptions.iter().any(is_about_snapshot_table);
        if moves_snapshots {
            these.free(SNAPSHOTS);
        }
        let length = if audit.header.extended_l2() { 16 } else { 8 };
        // Of data in another file nothing is shared.
        let external = audit.header.external_data();
        let not_followed = if external { OFFSET } else { COMPRESSED };
        for entry in &audit.empty {
            these.free(entry.at..entry.at + length);
        }
        let goes = |by: &Referrer| {
            moves_snapshots && *by == Referrer::SnapshotTable
                || audit.empty.iter().any(|entry| entry.referrer == *by)
        };
        for (&cluster, by) in &audit.references {
            if by.iter().all(|by| by.is_structure() || goes(by)) {
                these.given_up.insert(cluster);
            }
            if at_all_times && reading.foreign_references_to(cluster) > 1 {
                these.shared.insert(cluster);
            }
            let entry = |by: &Referrer| match by {
                Referrer::L1 {
                    layer: LayerId::Active,
                } => Some((8, 0)),
                Referrer::L2 {
                    layer: LayerId::Active,
                    ..
                } => Some((length as usize, not_followed)),
                _ => None,
            };
            let entry = by.iter().filter_map(entry).next_back();
            these.tables.extend(entry.map(|entry| (cluster, entry)));
        }
        these
    }

    /// Any bit of these bytes may change.
    fn free(&mut self, bytes: Range<u64>) {
        self.bits.extend(bytes.map(|at| (at, 0xff)));
    }

    /// The bits of a cluster with these bytes that may change; nothing when none may.
    fn of_cluster(&self, cluster: u64, bytes: &[u8]) -> Vec<u8> {
        let size = bytes.len() as u64;
        let mut free = Vec::new();
        if let Some(&(length, not_followed)) = self.tables.get(&cluster) {
            free.resize(bytes.len(), 0);
            let entries = bytes.chunks_exact(length);
            for (entry, free) in entries.zip(free.chunks_exact_mut(length)) {
                let word = be64(entry);
                let leads = word & OFFSET != 0 && word & not_followed == 0;
                let shared = leads && self.shared.contains(&((word & OFFSET) / size));
                if !shared || entry[0] & COPIED != 0 {
                    free[0] = COPIED;
                }
            }
        }
        for (&at, &bits) in self.bits.range(cluster * size..(cluster + 1) * size) {
            free.resize(bytes.len(), 0);
            free[(at % size) as usize] |= bits;
        }
        free
    }
}

/// Whether a repair writes the snapshot table anew for it.
const fn is_about_snapshot_table(corruption: &Corruption) -> bool {
    matches!(
        corruption.referrer,
        Referrer::SnapshotTable
            | Referrer::L1 {
                layer: LayerId::Snapshot(_)
            }
    )
}
