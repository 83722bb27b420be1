//! Damage: "anything wrong with what refers to clusters, as against the refcounts": dead ends,
//! overlaps, lost tables, emptied tables. "An entry that reads as zeros is no damage."

use std::collections::BTreeSet;
use std::mem::discriminant;

use itertools::Itertools;

use super::{Counts, Spec};
use crate::audit::{
    Bytes, Referrer, Target, Wrong, be64, entries, nonzero_counts, reads_as_l2_table,
};

/// "At least 16 allocated clusters are referred to by nothing" where a table was emptied.
const EMPTIED: usize = 16;

/// Something that may hide that clusters are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A corruption of what refers to clusters.
    Corruption(Referrer, Wrong),
    /// A table or compressed data of which the end is missing.
    InPart(Referrer),
    /// A table in the header's cluster.
    AtHeader,
    /// A snapshot table entry of zeros.
    BlankSnapshot(usize),
    /// What is used as an L2 table at this offset does not look like one.
    Unlike(u64),
    /// A cluster with uses of two kinds, or two by one layer.
    Overlap(u64),
    /// A cluster without a reference that reads as an L2 table of others.
    LostTable(u64),
    /// An L2 table at this offset has not a single entry.
    EmptiedTable(u64),
}

impl Spec<'_> {
    pub(super) fn damage(&self) -> Vec<Damage> {
        let corruptions = self.seen.corruptions.iter();
        let corruptions = corruptions.filter(|found| self.hides(found.referrer, found.wrong));
        let found = corruptions.map(|found| Damage::Corruption(found.referrer, found.wrong));
        let mut damage: Vec<Damage> = found.collect();
        damage.extend(self.seen.header_is_table.then_some(Damage::AtHeader));
        let past_end = self.own.past_end.iter();
        let in_part = past_end.filter(|region| region.is_in_part());
        damage.extend(in_part.map(|region| Damage::InPart(region.referrer)));
        let blank = self.own.snapshots.entries.iter();
        let blank = blank.positions(|entry| entry.blank);
        damage.extend(blank.map(Damage::BlankSnapshot));
        let overlaps = self.own.references.keys();
        let overlaps = overlaps.filter(|&&cluster| self.overlaps(cluster));
        damage.extend(overlaps.map(|&cluster| Damage::Overlap(cluster)));
        self.tables_in_use(&mut damage);
        self.lost_tables(&mut damage);
        damage
    }

    /// Whether clusters may be in use to which no reference is found because of it. What ends the
    /// reading of the snapshot table is dealt with in rule 7.
    fn hides(&self, referrer: Referrer, wrong: Wrong) -> bool {
        let reads_as_zeros = self.seen.reads_as_zeros(referrer);
        let harmless = match wrong {
            Wrong::TooManyReferences { .. } | Wrong::ShortExtraData { .. } => true,
            Wrong::Unaligned { .. } | Wrong::PastTheEnd { .. } => reads_as_zeros,
            Wrong::Unreadable { .. } => referrer == Referrer::SnapshotTable,
            _ => false,
        };
        !harmless && !referrer.is_structure()
    }

    /// Uses of two kinds, or two "within one layer (compressed clusters share clusters with each
    /// other; snapshots share with the active layer)".
    fn overlaps(&self, cluster: u64) -> bool {
        let uses = self.uses(cluster).filter(|use_| !use_.is_structure());
        let mut by_layer = uses.clone().map(|use_| (discriminant(use_), use_.layer()));
        let compressed = |use_: &Referrer| matches!(use_, Referrer::Compressed { .. });
        !uses.clone().map(discriminant).all_equal()
            || !uses.clone().any(compressed) && !by_layer.all_unique()
    }

    /// L2 tables in use that do not look like one, or have no entry.
    fn tables_in_use(&self, damage: &mut Vec<Damage>) {
        let allocated = self.own.disk.counts().keys();
        let leaked = allocated.filter(|&&cluster| self.is_leaked(cluster));
        let emptied = leaked.count() >= EMPTIED;
        let offsets: BTreeSet<u64> = self.own.tables.iter().map(|table| table.offset).collect();
        for offset in offsets {
            let bytes = self.image.bytes(offset, self.size as usize);
            if !self.reads_as_l2_table(&bytes) {
                damage.push(Damage::Unlike(offset));
            }
            if emptied && bytes.iter().all(|&byte| byte == 0) {
                damage.push(Damage::EmptiedTable(offset));
            }
        }
    }

    pub(super) fn reads_as_l2_table(&self, bytes: &[u8]) -> bool {
        reads_as_l2_table(&self.own.header, self.own.length, bytes)
    }

    fn is_leaked(&self, cluster: u64) -> bool {
        cluster < self.own.clusters && self.said(cluster) > Some(0) && self.references(cluster) == 0
    }

    /// "An allocated cluster that nothing refers to and that reads as an L2 table of which at least
    /// one entry leads to another allocated cluster that nothing refers to."
    fn lost_tables(&self, damage: &mut Vec<Damage>) {
        if self.own.header.external_data() {
            return;
        }
        for &cluster in self.own.disk.counts().keys() {
            let offset = cluster * self.size;
            if !self.is_leaked(cluster) || self.image.is_hole(offset, self.size) {
                continue;
            }
            let bytes = self.image.bytes(offset, self.size as usize);
            if !self.reads_as_l2_table(&bytes) || !self.reads_as_l2_table(&bytes[..512]) {
                continue;
            }
            let leads_to_another = entries(&self.own.header, &bytes).any(|entry| {
                let (Target::Cluster { offset } | Target::Compressed { offset, .. }) = entry.target
                else {
                    return false;
                };
                let target = offset / self.size;
                target != cluster && self.is_leaked(target)
            });
            if leads_to_another && !self.is_new_reftable(cluster, &bytes) {
                damage.push(Damage::LostTable(cluster));
            }
        }
    }
    /// A reftable that a disturbed repair did not come to switch to is no lost table: each entry leads
    /// to a refblock in the file that counts what is referred to, but for present structures, the
    /// reftable and its refblocks, and nothing else more than once.
    fn is_new_reftable(&self, table: u64, bytes: &[u8]) -> bool {
        let (header, words) = (&self.own.header, bytes.chunks_exact(8).map(be64));
        let refblocks: Counts = (0..).zip(words).filter(|(_, at)| *at > 0).collect();
        let own = refblocks.values().map(|at| at / self.size);
        let own: BTreeSet<u64> = own.chain([table]).collect();
        let fits = |(&index, &offset): (&u64, &u64)| {
            let first = index * self.range;
            if !header.is_aligned(offset) || offset >= self.own.length || first >= self.own.clusters
            {
                return false;
            }
            let refblock = self.image.bytes(offset, self.size as usize);
            let refcounts: Counts = nonzero_counts(&refblock, header.refcount_bits()).collect();
            let is_right = |index| {
                let refcount = refcounts.get(&index).copied().unwrap_or(0);
                let cluster = first + index;
                let uses = self.uses(cluster).filter(|use_| !use_.is_structure());
                match uses.count() as u64 {
                    0 if own.contains(&cluster) => refcount == 1,
                    0 => refcount <= 1,
                    due => refcount == due.min(self.max) && !own.contains(&cluster),
                }
            };
            !refcounts.is_empty() && (0..self.range).all(is_right)
        };
        refblocks.iter().all(fits)
    }
}
