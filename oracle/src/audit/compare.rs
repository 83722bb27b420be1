//! Holds references against refcounts.

use std::collections::BTreeMap;

use itertools::Itertools;
use smallvec::SmallVec;

use super::corruption::{Corruption, Wrong};
use super::header::Header;
use super::layers::CopiedBit;
use super::refcounts::OnDisk;
use super::references::{Referrer, Referrers};

/// A cluster whose refcount is not its number of references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The cluster.
    pub cluster: u64,
    /// Its refcount on disk.
    pub on_disk: u64,
    /// References to it, no more than a refcount can count.
    pub references: u64,
}

impl Mismatch {
    /// Whether it is only counted too high: space is lost, but no data in danger.
    #[must_use]
    pub const fn is_leak(&self) -> bool {
        self.on_disk > self.references
    }

    /// Whether it is in use and counts as free: anything may be written over it.
    #[must_use]
    pub const fn is_free_on_disk(&self) -> bool {
        self.on_disk == 0 && self.references > 0
    }
}

/// What the comparison of all clusters gives.
pub(super) struct Comparison {
    pub(super) mismatches: Vec<Mismatch>,
    /// Clusters whose refcount cannot be read.
    pub(super) unreadable: u64,
    /// One after the last cluster with a reference or a refcount, at least 1.
    pub(super) end: u64,
}

/// Compares the first `clusters` clusters.
pub(super) fn counts(
    header: &Header,
    disk: &OnDisk,
    references: &BTreeMap<u64, Referrers>,
    clusters: u64,
) -> Comparison {
    let entries = header.refblock_entries();
    let mut unreadable = 0;
    for (index, offset) in disk.refblocks() {
        if !disk.is_readable(offset) {
            let first = index.saturating_mul(entries).min(clusters);
            let end = first.saturating_add(entries).min(clusters);
            unreadable += end - first;
        }
    }
    let mut mismatches = Vec::new();
    let mut end = 1;
    let known = references.keys().merge(disk.counts().keys()).dedup();
    for cluster in known.copied().take_while(|&cluster| cluster < clusters) {
        let Some(on_disk) = disk.count(cluster) else {
            continue;
        };
        let referrers = references.get(&cluster).map_or(0, SmallVec::len) as u64;
        let references = referrers.min(header.max_refcount());
        if references != on_disk {
            mismatches.push(Mismatch {
                cluster,
                on_disk,
                references,
            });
        }
        end = cluster + 1;
    }
    Comparison {
        mismatches,
        unreadable,
        end,
    }
}

/// The bits 63 of the active layer that are wrong: they must be set exactly where the refcount on
/// disk is one. Data in an external file counts as having one.
pub(super) fn copied_bits(header: &Header, disk: &OnDisk, bits: &[CopiedBit]) -> Vec<Corruption> {
    let mut wrong = Vec::new();
    for bit in bits {
        let data = matches!(bit.referrer, Referrer::Data { .. });
        let refcount = if data && header.external_data() {
            Some(1)
        } else {
            disk.count(bit.cluster)
        };
        let (Some(refcount), Some(_)) = (refcount, disk.count(bit.table)) else {
            continue;
        };
        if (refcount == 1) != bit.copied {
            wrong.push(Corruption {
                referrer: bit.referrer,
                wrong: Wrong::Copied {
                    cluster: bit.cluster,
                    copied: bit.copied,
                    refcount,
                },
            });
        }
    }
    wrong
}
