//! Rules 2 and 3: the final counts, and whether they are set in place or in new structures.

use std::collections::BTreeSet;

use super::place::Layout;
use super::{Counts, Spec, write};
use crate::audit::{Referrer, Wrong};
use crate::case::damage::SparseBytes;

impl Spec<'_> {
    /// "In an image that is not sound every cluster with `said(c) > references(c)` keeps `said(c)`;
    /// `--release-unreachable` keeps nothing."
    pub(super) fn kept(&self) -> Counts {
        let keeps = !self.damage.is_empty() && !self.ask.release_unreachable;
        let allocated = self.own.disk.counts().iter().filter(|_| keeps);
        let kept = allocated.filter(|&(&cluster, _)| {
            cluster < self.own.clusters && self.said(cluster) > Some(self.references(cluster))
        });
        kept.map(|(&cluster, &said)| (cluster, said)).collect()
    }

    /// Rule 2: "`final(c) = max(references(c), kept(c))`", without new structures, and without the
    /// present ones where these are replaced. With `-r leaks` what is too low stays.
    pub(super) fn counts(&self, replaced: bool) -> Counts {
        let counted = self.own.references.keys().map(|&cluster| {
            let stays = self.ask.only_leaks && self.is_low(cluster);
            let said = self.said(cluster).filter(|_| stays);
            let uses = self.final_uses(cluster);
            let uses = uses.filter(|use_| !replaced || !use_.is_structure());
            (cluster, said.unwrap_or(uses.count() as u64))
        });
        let mut counts: Counts = counted.collect();
        counts.extend(&self.kept);
        counts.retain(|_, count| *count > 0);
        counts
    }

    /// Whether a cluster that is in use is counted too low.
    pub(super) fn is_low(&self, cluster: u64) -> bool {
        let references = self.references(cluster).min(self.max);
        self.said(cluster).is_some_and(|said| said < references)
    }

    /// Rule 3: "Refcounts are set in place where every refblock that has to change is sound and used
    /// as nothing else; otherwise the structures are built anew." So they are where some lie past the
    /// end or are used as something else, but not with `-r leaks`.
    pub(super) fn builds_anew(&self, in_place: &[(u64, u8)]) -> bool {
        let all = !self.ask.only_leaks;
        let unsound = self.own.corruptions.iter().any(|found| {
            let matters = match found.wrong {
                Wrong::TooManyReferences(_) => false,
                Wrong::PastTheEnd { .. } => all || found.referrer == Referrer::Reftable,
                _ => true,
            };
            matters && found.referrer.is_structure()
        });
        let is_alone = |cluster: u64| {
            let structure = self.uses(cluster).any(Referrer::is_structure);
            structure && self.references(cluster) == 1 && !self.covered.contains(&cluster)
        };
        let mut in_use = self.own.references.keys().copied();
        let shared = self.own.references.values();
        let mut shared = shared.filter(|uses| uses.len() > 1).flatten();
        unsound
            || in_use.any(|cluster| self.is_low(cluster) && self.said(cluster) == Some(0))
            || in_place.iter().any(|(at, _)| !is_alone(at / self.size))
            || all && shared.any(Referrer::is_structure)
    }

    /// The clusters of the present structures, as far as they are in the file.
    pub(super) fn structures(&self) -> BTreeSet<u64> {
        let used = self.own.references.keys().copied();
        let used = used.filter(|&cluster| self.own.uses(cluster).any(Referrer::is_structure));
        let cut = self.past_end(|region| region.referrer.is_structure());
        used.chain(cut).collect()
    }

    /// The bytes of present refblocks that change where the counts are set in them.
    pub(super) fn in_place(&self, counts: &Counts) -> Vec<(u64, u8)> {
        let readable = self.own.disk.refblocks();
        let readable = readable.filter(|&(_, offset)| self.own.disk.is_readable(offset));
        let bytes = readable.flat_map(|(range, offset)| {
            let before = self.image.bytes(offset, self.size as usize);
            let after = self.refblock(range, before.clone(), counts, self.own.clusters);
            (offset..).zip(before.into_iter().zip(after))
        });
        let change = bytes.filter(|(_, (before, after))| before != after);
        change.map(|(at, (_, after))| (at, after)).collect()
    }

    /// Writes new structures, a new snapshot table, and the header fields that lead to them.
    pub(super) fn write_anew(
        &self,
        layout: &Layout,
        counts: &Counts,
        table: &[u8],
        after: &mut SparseBytes,
    ) {
        let last = counts.keys().next_back().copied().unwrap_or(0);
        let (reftable, clusters) = (layout.reftable.start, layout.reftable.clone().count());
        let reftable = reftable * self.size;
        write(after, reftable, &vec![0; clusters * self.size as usize]);
        for (&range, &place) in &layout.refblocks {
            let block = self.refblock(range, vec![0; self.size as usize], counts, last + 1);
            write(after, place * self.size, &block);
            write(
                after,
                reftable + range * 8,
                &(place * self.size).to_be_bytes(),
            );
        }
        write(after, 48, &reftable.to_be_bytes());
        write(after, 56, &(clusters as u32).to_be_bytes());
        if !table.is_empty() {
            let offset = layout.snapshots.start * self.size;
            write(after, 64, &offset.to_be_bytes());
            write(after, offset, table);
        }
    }

    /// A refblock with the counts of the clusters of its range before `end` set, cut to the width.
    fn refblock(&self, range: u64, mut block: Vec<u8>, counts: &Counts, end: u64) -> Vec<u8> {
        let bits = self.own.header.refcount_bits();
        let clusters = range * self.range..end.min((range + 1) * self.range);
        for (at, cluster) in (0..).step_by(bits as usize).zip(clusters) {
            let count = counts.get(&cluster).map_or(0, |&count| count.min(self.max));
            let (byte, shift) = (at / 8, at % 8);
            if bits >= 8 {
                let width = (bits / 8) as usize;
                block[byte..byte + width].copy_from_slice(&count.to_be_bytes()[8 - width..]);
            } else {
                block[byte] &= !((self.max as u8) << shift);
                block[byte] |= (count as u8) << shift;
            }
        }
        block
    }
}
