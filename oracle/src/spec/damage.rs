//! Damage: "anything wrong with what refers to clusters, as against the refcounts": dead ends,
//! overlaps, lost tables, emptied tables. "An entry that reads as zeros is no damage."

use std::collections::BTreeSet;
use std::mem::discriminant;

use itertools::{Itertools, chain};

use super::Spec;
use crate::audit::{Bytes, Corruption, Entry, Referrer, Target, Wrong, entries, reads_as_l2_table};
use crate::case::refcount::Refcount;

/// "At least 16 allocated clusters are referred to by nothing" where a table was emptied.
const EMPTIED: usize = 16;
/// As many clusters that a block counts rightly make it a refblock.
const ENOUGH: usize = 16;

/// Something that may hide that clusters are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A corruption of what refers to clusters.
    #[error("{0}")]
    Corruption(Corruption),
    /// Something else, and where: the cluster, the offset or the number of the snapshot.
    #[error("{0} at {1:#x}")]
    At(&'static str, u64),
}

impl Spec<'_> {
    pub(super) fn damage(&self) -> Vec<Damage> {
        let (own, snapshots) = (self.own, (0..).zip(&self.own.snapshots.entries));
        let corruptions = own.corruptions.iter().filter(|found| self.hides(**found));
        let in_part = own.past_end.iter().filter(|region| region.is_in_part());
        let blank = snapshots.filter(|(_, entry)| entry.blank);
        let overlaps = own.references.keys().filter(|at| self.overlaps(**at));
        let allocated = own.disk.counts().keys().copied();
        let leaked: Vec<u64> = allocated.filter(|&at| self.is_leaked(at)).collect();
        let lost = leaked.iter().filter(|at| self.is_lost_table(**at));
        let others = chain!(
            own.header_is_table.then_some(("table at header", 0)),
            in_part.map(|region| ("end missing", region.offset)),
            blank.map(|(number, _)| ("blank snapshot", number)),
            overlaps.map(|&cluster| ("overlap", cluster)),
            self.wrong_tables(leaked.len() >= EMPTIED),
            lost.map(|&cluster| ("lost table", cluster)),
        );
        let others = others.map(|(what, at)| Damage::At(what, at));
        let corruptions = corruptions.copied().map(Damage::Corruption);
        corruptions.chain(others).collect()
    }

    /// Whether clusters may be in use to which no reference is found because of it. What ends the
    /// reading of the snapshot table is dealt with in rule 7.
    fn hides(&self, Corruption { referrer, wrong }: Corruption) -> bool {
        let harmless = match wrong {
            Wrong::TooManyReferences(_) | Wrong::ShortExtraData(_) => true,
            Wrong::Unaligned(_) | Wrong::PastTheEnd { .. } => self.own.reads_as_zeros(referrer),
            Wrong::Unreadable(..) => referrer == Referrer::SnapshotTable,
            _ => false,
        };
        !harmless && !referrer.is_structure()
    }

    /// Uses of two kinds, or two "within one layer (compressed clusters share clusters with each other;
    /// snapshots share with the active layer)". A use by an entry that reads as zeros and has an
    /// impossible offset makes none, whether or not the entry is replaced.
    fn overlaps(&self, cluster: u64) -> bool {
        let harmless = |use_: &Referrer| use_.is_structure() || self.own.reads_as_zeros(*use_);
        let uses = self.uses(cluster).filter(|use_| !harmless(use_));
        let compressed = |use_: &Referrer| matches!(use_, Referrer::Compressed { .. });
        !uses.clone().map(discriminant).all_equal()
            || !uses.clone().any(compressed) && !uses.map(Referrer::layer).all_unique()
    }

    /// L2 tables in use that do not read as one, or that may have been emptied.
    fn wrong_tables(&self, emptied: bool) -> impl Iterator<Item = (&'static str, u64)> {
        let offsets: BTreeSet<u64> = self.own.tables.iter().map(|table| table.offset).collect();
        offsets.into_iter().filter_map(move |offset| {
            let has_entry = |table: Vec<u8>| table.iter().any(|&byte| byte != 0);
            match self.l2_table(offset).map(has_entry) {
                None => Some(("no L2 table", offset)),
                Some(false) if emptied => Some(("emptied L2 table", offset)),
                Some(_) => None,
            }
        })
    }

    /// The cluster at an offset where it reads as an L2 table.
    pub(super) fn l2_table(&self, offset: u64) -> Option<Vec<u8>> {
        let bytes = self.image.bytes(offset, self.size as usize);
        reads_as_l2_table(&self.own.header, self.own.length, &bytes).then_some(bytes)
    }

    pub(super) fn is_leaked(&self, cluster: u64) -> bool {
        cluster < self.own.clusters && self.said(cluster) > Some(0) && self.references(cluster) == 0
    }

    /// "An allocated cluster that nothing refers to and that reads as an L2 table of which at least
    /// one entry leads to another allocated cluster that nothing refers to."
    fn is_lost_table(&self, cluster: u64) -> bool {
        let (header, offset) = (&self.own.header, cluster * self.size);
        let leads_to_another = |entry: Entry| match entry.target {
            Target::Cluster { offset } | Target::Compressed { offset, .. } => {
                let position = entry.index * header.l2_entry_bytes() / 8;
                offset / self.size != cluster
                    && self.is_leaked(offset / self.size)
                    && !(entry.word == offset
                        && self.is_refblock(1, position, self.size / 8, offset, cluster))
            }
            Target::Nothing => false,
        };
        !header.external_data()
            && !self.image.is_hole(offset, self.size)
            && self.l2_table(offset).is_some_and(|bytes| {
                reads_as_l2_table(header, self.own.length, &bytes[..512])
                    && entries(header, &bytes).any(leads_to_another)
                    && !self.is_refblock(ENOUGH, 0, 1, offset, cluster)
            })
    }

    /// What a disturbed repair wrote and did not come to switch to: a refblock of range 0, where the
    /// header is, or of another with so many clusters in use; of those from `first` on that an entry
    /// of a reftable at this place may stand for, of which a part may be there.
    fn is_refblock(&self, used: usize, first: u64, step: u64, offset: u64, table: u64) -> bool {
        let is_one = |range: u64| {
            let clusters = range * self.range..(range + 1) * self.range;
            let is_used = |at: &u64| self.uses(*at).any(|use_| !use_.is_structure());
            (range == 0 || clusters.filter(is_used).count() >= used)
                && self.is_new_refblock(range, offset, table)
        };
        let ranges = first..self.own.clusters.div_ceil(self.range);
        ranges.step_by(step as usize).any(is_one)
    }

    /// Whether a cluster counts in a range each that is referred to, but for present structures, and
    /// its table and itself, and nothing else more than once.
    fn is_new_refblock(&self, range: u64, offset: u64, table: u64) -> bool {
        let (header, order) = (&self.own.header, self.own.header.refcount_order as u32);
        let own = [table, offset / self.size];
        let is_right = |cluster| {
            let refcount = Refcount::new(order, offset, cluster % self.range).read(self.image);
            let uses = self.uses(cluster).filter(|use_| !use_.is_structure());
            let due = header.max_refcount().min(uses.count() as u64);
            refcount == due && !own.contains(&cluster) || (refcount, due) == (1, 0)
        };
        header.is_aligned(offset) && (range * self.range..(range + 1) * self.range).all(is_right)
    }
}
