//! Damage: "anything wrong with what refers to clusters, as against the refcounts": dead ends,
//! overlaps, lost tables, emptied tables. "An entry that reads as zeros is no damage."

use std::collections::BTreeSet;
use std::mem::discriminant;

use itertools::{Itertools, chain};

use super::{Counts, Spec};
use crate::audit::{
    Bytes, Corruption, Entry, Referrer, Target, Wrong, be64, entries, nonzero_counts,
    reads_as_l2_table,
};

/// "At least 16 allocated clusters are referred to by nothing" where a table was emptied.
const EMPTIED: usize = 16;

/// Something that may hide that clusters are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A corruption of what refers to clusters.
    Corruption(Corruption),
    /// Something else, and where: the cluster, the offset or the number of the snapshot.
    At(&'static str, u64),
}

impl Spec<'_> {
    pub(super) fn damage(&self) -> Vec<Damage> {
        let (own, snapshots) = (self.own, (0..).zip(&self.own.snapshots.entries));
        let corruptions = own.corruptions.iter().filter(|found| self.hides(**found));
        let in_part = own.past_end.iter().filter(|region| region.is_in_part());
        let blank = snapshots.filter(|(_, entry)| entry.blank);
        let overlaps = own.references.keys().filter(|at| self.overlaps(**at));
        let allocated = own.disk.counts().keys();
        let lost = allocated.filter(|at| self.is_lost_table(**at));
        let others = chain!(
            own.header_is_table.then_some(("table at header", 0)),
            in_part.map(|region| ("end missing", region.offset)),
            blank.map(|(number, _)| ("blank snapshot", number)),
            overlaps.map(|&cluster| ("overlap", cluster)),
            self.wrong_tables(),
            lost.map(|&cluster| ("lost table", cluster)),
        );
        let others = others.map(|(what, at)| Damage::At(what, at));
        let corruptions = corruptions.copied().map(Damage::Corruption);
        corruptions.chain(others).collect()
    }

    /// Whether clusters may be in use to which no reference is found because of it. What ends the
    /// reading of the snapshot table is dealt with in rule 7.
    fn hides(&self, found: Corruption) -> bool {
        let harmless = match found.wrong {
            Wrong::TooManyReferences(_) | Wrong::ShortExtraData(_) => true,
            Wrong::Unaligned(_) | Wrong::PastTheEnd { .. } => {
                self.own.reads_as_zeros(found.referrer)
            }
            Wrong::Unreadable(..) => found.referrer == Referrer::SnapshotTable,
            _ => false,
        };
        !harmless && !found.referrer.is_structure()
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

    /// L2 tables in use that do not read as one, or have no entry.
    fn wrong_tables(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let allocated = self.own.disk.counts().keys();
        let leaked = allocated.filter(|&&cluster| self.is_leaked(cluster));
        let emptied = leaked.count() >= EMPTIED;
        let offsets: BTreeSet<u64> = self.own.tables.iter().map(|table| table.offset).collect();
        offsets.into_iter().filter_map(move |offset| {
            let bytes = self.image.bytes(offset, self.size as usize);
            if !self.reads_as_l2_table(&bytes) {
                Some(("no L2 table", offset))
            } else if emptied && bytes.iter().all(|&byte| byte == 0) {
                Some(("emptied L2 table", offset))
            } else {
                None
            }
        })
    }

    pub(super) fn reads_as_l2_table(&self, bytes: &[u8]) -> bool {
        reads_as_l2_table(&self.own.header, self.own.length, bytes)
    }

    fn is_leaked(&self, cluster: u64) -> bool {
        cluster < self.own.clusters && self.said(cluster) > Some(0) && self.references(cluster) == 0
    }

    /// "An allocated cluster that nothing refers to and that reads as an L2 table of which at least
    /// one entry leads to another allocated cluster that nothing refers to."
    fn is_lost_table(&self, cluster: u64) -> bool {
        let (header, offset) = (&self.own.header, cluster * self.size);
        let is_empty = || self.image.is_hole(offset, self.size);
        if header.external_data() || !self.is_leaked(cluster) || is_empty() {
            return false;
        }
        let bytes = self.image.bytes(offset, self.size as usize);
        let leads_to_another = |entry: Entry| match entry.target {
            Target::Cluster { offset } | Target::Compressed { offset, .. } => {
                offset / self.size != cluster && self.is_leaked(offset / self.size)
            }
            Target::Nothing => false,
        };
        self.reads_as_l2_table(&bytes)
            && self.reads_as_l2_table(&bytes[..512])
            && entries(header, &bytes).any(leads_to_another)
            && !self.is_new_reftable(cluster, &bytes)
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
            let in_file = offset < self.own.length && first < self.own.clusters;
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
            let counts_something = header.is_aligned(offset) && in_file && !refcounts.is_empty();
            counts_something && (0..self.range).all(is_right)
        };
        refblocks.iter().all(fits)
    }
}
