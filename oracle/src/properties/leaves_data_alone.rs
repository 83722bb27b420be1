//! `leaves-data-alone`: no byte of a referenced cluster changes but the header fields and table
//! entries that the repair names.

use std::collections::{BTreeMap, BTreeSet};

use super::{Failure, Verdict};
use crate::audit::{Audit, Corruption, LayerId, Referrer};
use crate::case::damage::SparseBytes;
use crate::disk::{Event, Trace};
use crate::run::{Before, Run};

/// Bytes of the pointer at the start of a toy.
const TOY_POINTER: usize = 12;
/// The header's pointer to the reftable (specification, "Header").
const POINTER: std::ops::Range<u64> = 48..60;
/// The header's number and place of snapshots, changed when the snapshot table is written anew.
const SNAPSHOTS: std::ops::Range<u64> = 60..72;
/// The last byte of the incompatible features, where the dirty and the corrupt bit are.
const LOWEST_FEATURES: u64 = 79;
const DIRTY_AND_CORRUPT: u8 = 3;
/// The autoclear features.
const AUTOCLEAR: std::ops::Range<u64> = 88..96;
/// Bit 63 of an L1 or L2 entry, in its first byte.
const COPIED: u8 = 0x80;

/// Of the bytes after a repair, whether it ended well or not.
#[must_use]
pub fn judge(before: &Before, run: &Run) -> Verdict {
    if run.trace.is_read_only() {
        return Verdict::Holds;
    }
    Guard::new(before, &run.trace).check(&run.after).into()
}

/// The bytes that must not change, as far as a trace could have changed them.
#[derive(Debug)]
pub(crate) struct Guard<'a> {
    before: &'a Before,
    /// Cluster by cluster: the bytes before, and the bits that may change.
    guarded: Vec<(u64, Vec<u8>, Option<Vec<u8>>)>,
}

impl<'a> Guard<'a> {
    pub(crate) fn new(before: &'a Before, trace: &Trace) -> Self {
        let reading = &before.reading;
        let touched = touched(before, trace);
        let exceptions = reading.counted().map(Exceptions::of);
        let size = reading.cluster_size() as usize;
        let foreign = reading.references.keys().filter(|&&cluster| {
            let given_up = exceptions
                .as_ref()
                .is_some_and(|e| e.given_up.contains(&cluster));
            reading.foreign_references_to(cluster) > 0 && touched.contains(&cluster) && !given_up
        });
        let guarded = foreign.map(|&cluster| {
            let bytes = before.bytes.bytes(cluster << reading.cluster_bits, size);
            let free = match &exceptions {
                Some(exceptions) => exceptions.of_cluster(cluster, size),
                None => (cluster == 0).then(|| {
                    let mut free = vec![0; size];
                    free[..TOY_POINTER].fill(0xff);
                    free
                }),
            };
            (cluster, bytes, free)
        });
        Self {
            guarded: guarded.collect(),
            before,
        }
    }

    pub(crate) fn check(&self, bytes: &SparseBytes) -> Result<(), Failure> {
        let reading = &self.before.reading;
        for (cluster, old, free) in &self.guarded {
            let new = bytes.bytes(cluster << reading.cluster_bits, old.len());
            if new == *old {
                continue;
            }
            let changed = (0..old.len()).find(|&at| {
                let free = free.as_ref().map_or(0, |free| free[at]);
                (old[at] ^ new[at]) & !free != 0
            });
            if let Some(at) = changed {
                let message = format!(
                    "byte {at} of cluster {cluster} changed from {:#04x} to {:#04x}, and the \
                     cluster is in use: {}",
                    old[at],
                    new[at],
                    reading.referrers(*cluster)
                );
                return Err(Failure { message });
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
    for event in trace.events() {
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

/// What a repair of an image may change.
struct Exceptions {
    /// By byte position: the bits that may change.
    bits: BTreeMap<u64, u8>,
    /// Tables of the active layer, in which any bit 63 may be set right: distance of the entries.
    tables: BTreeMap<u64, usize>,
    /// Clusters whose content is written anew elsewhere, and those that only replaced entries lead
    /// to.
    given_up: BTreeSet<u64>,
}

impl Exceptions {
    fn of(audit: &Audit) -> Self {
        let mut bits: BTreeMap<u64, u8> = POINTER.map(|at| (at, 0xff)).collect();
        if audit.header.version >= 3 {
            bits.insert(LOWEST_FEATURES, DIRTY_AND_CORRUPT);
            bits.extend(AUTOCLEAR.map(|at| (at, 0xff)));
        }
        let mut given_up = BTreeSet::new();
        let replaced: Vec<Referrer> = audit.empty.iter().map(|entry| entry.referrer).collect();
        let blank = audit.snapshots.entries.iter().any(|entry| entry.blank);
        let snapshots_named = blank || audit.corruptions.iter().any(is_about_snapshot_table);
        if snapshots_named {
            bits.extend(SNAPSHOTS.map(|at| (at, 0xff)));
        }
        let length = if audit.header.extended_l2() { 16 } else { 8 };
        for entry in &audit.empty {
            let at = entry.table + entry.l2_index * length;
            bits.extend((at..at + length).map(|at| (at, 0xff)));
        }
        let mut tables = BTreeMap::new();
        for (&cluster, by) in &audit.references {
            let mut foreign = by.iter().filter(|by| !by.is_structure());
            if foreign.all(|referrer| {
                let moves = snapshots_named && *referrer == Referrer::SnapshotTable;
                moves || replaced.contains(referrer)
            }) {
                given_up.insert(cluster);
            }
            for referrer in by {
                match referrer {
                    Referrer::L1 {
                        layer: LayerId::Active,
                    } => {
                        tables.insert(cluster, 8);
                    }
                    Referrer::L2 {
                        layer: LayerId::Active,
                        ..
                    } => {
                        tables.insert(cluster, length as usize);
                    }
                    _ => {}
                }
            }
        }
        Self {
            bits,
            tables,
            given_up,
        }
    }

    /// The bits of a cluster that may change; `None` when none may.
    fn of_cluster(&self, cluster: u64, size: usize) -> Option<Vec<u8>> {
        let start = cluster * size as u64;
        let end = start + size as u64;
        let mut free = vec![0; size];
        if let Some(&entry) = self.tables.get(&cluster) {
            free.iter_mut()
                .step_by(entry)
                .for_each(|byte| *byte = COPIED);
        }
        for (&at, &bits) in self.bits.range(start..end) {
            free[(at - start) as usize] |= bits;
        }
        free.iter().any(|&bits| bits != 0).then_some(free)
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
