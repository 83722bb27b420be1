//! What is wrong with what refers to clusters, as against the refcounts.

use std::collections::{BTreeMap, BTreeSet};

use super::Spec;
use super::tables::{Entry, entries, reads_as_l2_table, word};
use crate::audit::{LayerId, Referrer, Unreadable, Wrong, nonzero_counts};

/// As many allocated clusters without a reference beside an empty L2 table show that it was emptied.
const EMPTIED: usize = 16;

/// Whether only refcounts can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Only refcounts, leaks, COPIED, dirty and corrupt bits can be wrong.
    Sound,
    /// Something that refers to clusters is wrong.
    Damaged,
}

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

/// What a cluster is used as.
fn kind(referrer: &Referrer) -> (u8, Option<LayerId>) {
    match *referrer {
        Referrer::Header => (0, None),
        Referrer::L1 { layer } => (1, Some(layer)),
        Referrer::L2 { layer, .. } => (2, Some(layer)),
        Referrer::Data { layer, .. } => (3, Some(layer)),
        Referrer::Compressed { layer, .. } => (4, Some(layer)),
        Referrer::SnapshotTable => (5, None),
        Referrer::LuksHeader => (6, None),
        Referrer::BitmapDirectory => (7, None),
        Referrer::BitmapTable { .. } => (8, None),
        Referrer::BitmapData { .. } => (9, None),
        Referrer::Reftable | Referrer::Refblock { .. } => (10, None),
    }
}

const COMPRESSED: u8 = 4;

impl Spec<'_> {
    pub(super) fn damage(
        &self,
        replaced: &BTreeSet<Referrer>,
        references: &BTreeMap<u64, u64>,
    ) -> Result<Vec<Damage>, Unreadable> {
        let mut damage = Vec::new();
        for corruption in &self.seen.corruptions {
            let harmless = match corruption.wrong {
                Wrong::TooManyReferences { .. } | Wrong::ShortExtraData { .. } => true,
                Wrong::Unaligned { .. } | Wrong::PastTheEnd { .. } => self
                    .seen
                    .empty
                    .iter()
                    .any(|entry| entry.referrer == corruption.referrer),
                // What ends the reading of the snapshot table is dealt with where that is decided.
                Wrong::Unreadable { .. } => corruption.referrer == Referrer::SnapshotTable,
                _ => false,
            };
            if !harmless && !corruption.referrer.is_structure() {
                damage.push(Damage::Corruption(corruption.referrer, corruption.wrong));
            }
        }
        if self.seen.header_is_table {
            damage.push(Damage::AtHeader);
        }
        for region in &self.own.past_end {
            let whole_clusters = matches!(
                region.referrer,
                Referrer::Header | Referrer::Data { .. } | Referrer::BitmapData { .. }
            );
            if region.counted && !whole_clusters && !region.referrer.is_structure() {
                damage.push(Damage::InPart(region.referrer));
            }
        }
        let snapshots = self.own.snapshots.entries.iter().enumerate();
        let blank = snapshots.filter(|(_, entry)| entry.blank);
        damage.extend(blank.map(|(index, _)| Damage::BlankSnapshot(index)));
        self.overlaps(replaced, &mut damage);
        self.tables(references, &mut damage)?;
        self.lost_tables(references, &mut damage)?;
        Ok(damage)
    }

    fn overlaps(&self, replaced: &BTreeSet<Referrer>, damage: &mut Vec<Damage>) {
        for (&cluster, referrers) in &self.own.references {
            let uses = referrers.iter();
            let uses = uses.filter(|use_| !use_.is_structure() && !replaced.contains(*use_));
            let uses: Vec<_> = uses.map(kind).collect();
            let kinds: BTreeSet<u8> = uses.iter().map(|(kind, _)| *kind).collect();
            let layers: BTreeSet<_> = uses.iter().collect();
            let twice = layers.len() < uses.len() && !kinds.contains(&COMPRESSED);
            if kinds.len() > 1 || twice {
                damage.push(Damage::Overlap(cluster));
            }
        }
    }

    /// L2 tables in use that do not look like one, or have no entry.
    fn tables(
        &self,
        references: &BTreeMap<u64, u64>,
        damage: &mut Vec<Damage>,
    ) -> Result<(), Unreadable> {
        let leaked = self.own.disk.counts().keys();
        let leaked = leaked.filter(|&&cluster| self.is_leaked(cluster, references));
        let leaked = leaked.count();
        let offsets: BTreeSet<u64> = self.own.tables.iter().map(|table| table.offset).collect();
        for offset in offsets {
            let bytes = self.read(offset)?;
            if !reads_as_l2_table(&self.own.header, self.own.length, &bytes) {
                damage.push(Damage::Unlike(offset));
            }
            if leaked >= EMPTIED && bytes.iter().all(|&byte| byte == 0) {
                damage.push(Damage::EmptiedTable(offset));
            }
        }
        Ok(())
    }

    fn is_leaked(&self, cluster: u64, references: &BTreeMap<u64, u64>) -> bool {
        cluster < self.own.clusters && self.said(cluster) > 0 && !references.contains_key(&cluster)
    }

    fn lost_tables(
        &self,
        references: &BTreeMap<u64, u64>,
        damage: &mut Vec<Damage>,
    ) -> Result<(), Unreadable> {
        if self.own.header.external_data() {
            return Ok(());
        }
        for &cluster in self.own.disk.counts().keys() {
            let offset = cluster * self.cluster_size;
            if !self.is_leaked(cluster, references) || self.image.is_hole(offset, self.cluster_size)
            {
                continue;
            }
            let bytes = self.read(offset)?;
            if !reads_as_l2_table(&self.own.header, self.own.length, &bytes)
                || !reads_as_l2_table(&self.own.header, self.own.length, &bytes[..512])
            {
                continue;
            }
            let leads_to_another = entries(&self.own.header, &bytes).any(|(_, entry)| {
                let target = match entry {
                    Entry::Data { offset, .. } | Entry::Compressed { offset, .. } => offset,
                    Entry::Nothing { .. } => return false,
                };
                let target = target / self.cluster_size;
                target != cluster && self.is_leaked(target, references)
            });
            if leads_to_another && !self.is_new_reftable(cluster, &bytes, references)? {
                damage.push(Damage::LostTable(cluster));
            }
        }
        Ok(())
    }

    /// Whether a cluster is the first of a reftable that a disturbed repair did not come to switch to:
    /// each entry leads to a refblock in the file that counts what is referred to, but for present
    /// structures, the reftable and its refblocks, and nothing else more than once.
    fn is_new_reftable(
        &self,
        table: u64,
        bytes: &[u8],
        references: &BTreeMap<u64, u64>,
    ) -> Result<bool, Unreadable> {
        let header = &self.own.header;
        let words = bytes.chunks_exact(8).map(word);
        let refblocks: BTreeMap<u64, u64> = (0..).zip(words).filter(|(_, at)| *at > 0).collect();
        let is_own = |cluster: u64| {
            cluster == table
                || refblocks
                    .values()
                    .any(|at| at / self.cluster_size == cluster)
        };
        for (&index, &offset) in &refblocks {
            let first = index * header.refblock_entries();
            if !header.is_aligned(offset) || offset >= self.own.length || first >= self.own.clusters
            {
                return Ok(false);
            }
            let refblock = self.read(offset)?;
            let refcounts: BTreeMap<_, _> =
                nonzero_counts(&refblock, header.refcount_bits()).collect();
            if refcounts.is_empty() {
                return Ok(false);
            }
            for at in 0..header.refblock_entries() {
                let (cluster, said) = (first + at, refcounts.get(&at).copied().unwrap_or(0));
                let counted = references.get(&cluster).copied().unwrap_or(0);
                let counted = counted - self.structure_uses(cluster).min(counted);
                let is_right = match (is_own(cluster), counted) {
                    (true, counted) => said == 1 && counted == 0,
                    (false, 0) => said <= 1,
                    (false, counted) => said == counted.min(self.max),
                };
                if !is_right {
                    return Ok(false);
                }
            }
        }
        Ok(!refblocks.is_empty())
    }

    /// The bytes of a cluster's length at an offset.
    pub(super) fn read(&self, offset: u64) -> Result<Vec<u8>, Unreadable> {
        let mut bytes = vec![0; self.cluster_size as usize];
        self.image.read(offset, &mut bytes)?;
        Ok(bytes)
    }
}
