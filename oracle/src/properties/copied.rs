//! The order of COPIED bits, a part of `crash-atomic`: where a cluster has more than one reference,
//! no entry of the active layer comes to say that it has one, be it for a moment. Else a guest that
//! runs then would write into what a snapshot shares.

use super::Failure;
use crate::audit::{Audit, LayerId};
use crate::case::damage::SparseBytes;
use crate::run::Before;

/// Bits 9 to 55 of an L1 or L2 entry (specification, "Cluster mapping").
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
/// Bit 63, in an entry's first byte.
const COPIED: u8 = 0x80;

/// The entries of the active layer that lead to shared clusters and do not say otherwise.
#[derive(Debug)]
pub(super) struct Shared {
    /// Byte position of the entry, and the cluster.
    entries: Vec<(u64, u64)>,
}

impl Shared {
    pub(super) fn new(before: &Before) -> Self {
        let mut entries = Vec::new();
        if let Some(audit) = before.reading.counted() {
            let mut add = |at: u64, cluster: u64| {
                let shared = before.reading.foreign_references_to(cluster) > 1;
                if shared && before.bytes.bytes(at, 1)[0] & COPIED == 0 {
                    entries.push((at, cluster));
                }
            };
            each_entry(audit, before, &mut add);
        }
        Self { entries }
    }

    pub(super) fn check(&self, bytes: &SparseBytes) -> Result<(), Failure> {
        let mut entries = self.entries.iter();
        let wrong = entries.find(|(at, _)| bytes.bytes(*at, 1)[0] & COPIED != 0);
        wrong.map_or(Ok(()), |(at, cluster)| {
            Err(Failure::new(format!(
                "the entry at byte {at:#x} says that cluster {cluster} has one reference; it has \
                 more, and did not say so before"
            )))
        })
    }
}

/// Calls `add` with the byte position of each entry of the active layer, and the cluster.
fn each_entry(audit: &Audit, before: &Before, add: &mut dyn FnMut(u64, u64)) {
    let size = audit.header.cluster_size();
    let Some(active) = audit.layers.first() else {
        return;
    };
    let entry = if audit.header.extended_l2() { 16 } else { 8 };
    let tables = audit.tables.iter();
    let tables = tables.filter(|table| {
        // Of data in another file nothing is shared.
        table.layer == LayerId::Active && !audit.header.external_data()
    });
    let tables = tables.map(|table| (table.offset, size, entry, COMPRESSED));
    let l1 = (active.l1_offset, active.l1_entries * 8, 8, 0);
    for (start, bytes, entry, not_followed) in std::iter::once(l1).chain(tables) {
        let table = before.bytes.bytes(start, bytes as usize);
        for (at, word) in (start..).step_by(entry).zip(table.chunks_exact(entry)) {
            let word = u64::from_be_bytes(word[..8].try_into().expect("8 bytes"));
            if word & OFFSET != 0 && word & not_followed == 0 {
                add(at, (word & OFFSET) / size);
            }
        }
    }
}
