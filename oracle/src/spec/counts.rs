//! Rules 2 and 3: the final counts, and whether they are set in place or in new structures.

use std::collections::BTreeSet;
use std::ops::Range;

use super::place::Layout;
use super::{Counts, Repaired, Spec};
use crate::audit::{Corruption, Referrer, Wrong};
use crate::case::refcount::Refcount;

impl Spec<'_> {
    /// "In an image that is not sound every cluster with `said(c) > references(c)` keeps `said(c)`;
    /// `--release-unreachable` keeps nothing."
    pub(super) fn kept(&self, clusters: Range<u64>) -> Counts {
        let counts = self.own.disk.counts().iter();
        let counts = counts.filter(|&(at, _)| self.keeps() && clusters.contains(at));
        let kept = counts.filter(|&(&at, &said)| said > self.references(at));
        kept.map(|(&at, &said)| (at, said)).collect()
    }

    /// Whether the image is not sound, and that is not to be passed over.
    pub(super) fn keeps(&self) -> bool {
        !self.damage.is_empty() && !self.ask.options.release_unreachable
    }

    /// Rule 2: "`final(c) = max(references(c), kept(c))`", without new structures, and with the
    /// present ones unless these are replaced. With `-r leaks` what is too low stays.
    pub(super) fn counts(&self, structures: bool) -> Counts {
        let counted = self.own.references.keys().map(|&cluster| {
            let stays = self.ask.options.only_leaks && self.is_low(cluster);
            let said = self.said(cluster).filter(|_| stays);
            let uses = self.final_uses(cluster, structures).count() as u64;
            (cluster, said.unwrap_or(uses))
        });
        let mut counts: Counts = counted.collect();
        counts.extend(&self.kept);
        counts.retain(|_, count| *count > 0);
        counts
    }

    /// Whether a cluster that is in use is counted too low.
    pub(super) fn is_low(&self, cluster: u64) -> bool {
        let references = self.references(cluster).min(self.own.header.max_refcount());
        self.said(cluster).is_some_and(|said| said < references)
    }

    /// Rule 3: "Refcounts are set in place where every refblock that has to change is sound and used
    /// as nothing else; otherwise the structures are built anew." So they are where some lie past the
    /// end or are used as something else, but not with `-r leaks`.
    pub(super) fn builds_anew(&self, in_place: &BTreeSet<u64>) -> bool {
        let all = !self.ask.options.only_leaks;
        let is_unsound = |found: &Corruption| match found.wrong {
            Wrong::TooManyReferences(_) => false,
            Wrong::PastTheEnd { .. } if !all => found.referrer == Referrer::Reftable,
            _ => found.referrer.is_structure(),
        };
        let is_free = |cluster| self.is_low(cluster) && self.said(cluster) == Some(0);
        let is_shared = |cluster| self.is_structure(cluster) && self.own.references_to(cluster) > 1;
        let is_alone = |at: &u64| self.is_structure(*at) && self.references(*at) == 1;
        let mut in_use = self.own.references.keys().copied();
        self.own.corruptions.iter().any(is_unsound)
            || in_use.any(|cluster| is_free(cluster) || all && is_shared(cluster))
            || !in_place.iter().all(is_alone)
            || !in_place.is_disjoint(&self.covered)
    }

    /// The clusters of the present structures, as far as they are in the file.
    pub(super) fn structures(&self) -> BTreeSet<u64> {
        let used = self.own.references.keys().copied();
        let used = used.filter(|&cluster| self.is_structure(cluster));
        let cut = self.past_end(|region| region.referrer.is_structure());
        used.chain(cut).collect()
    }

    /// Sets the counts in the present refblocks; the clusters in which that changes something.
    pub(super) fn write_in_place(&self, repaired: &mut Repaired) -> BTreeSet<u64> {
        let (refblocks, end) = (self.own.disk.refblocks(), self.own.clusters);
        let readable = refblocks.filter(|&(_, at)| self.own.disk.is_readable(at));
        let changed = readable.filter(|&(range, at)| self.write_refblock(repaired, range, at, end));
        changed.map(|(_, at)| at / self.size).collect()
    }

    /// Writes new structures, a new snapshot table, and the header fields that lead to them.
    pub(super) fn write_anew(&self, repaired: &mut Repaired, layout: &Layout, table: &[u8]) {
        let new = layout.clusters(table.len() as u64 / self.size);
        repaired.counts.extend(new.clone().map(|at| (at, 1)));
        // As far as the file grows.
        let mut kept = self.kept(self.file..new.max().unwrap_or_default());
        kept.retain(|cluster, _| !repaired.counts.contains_key(cluster));
        repaired.counts.extend(&kept);
        repaired.kept.extend(kept);
        let clusters = layout.reftable.end - layout.reftable.start;
        let reftable = layout.reftable.start * self.size;
        let after = &mut repaired.after;
        after.put(reftable, &vec![0; (clusters * self.size) as usize]);
        after.put(48, &reftable.to_be_bytes());
        after.put(56, &(clusters as u32).to_be_bytes());
        if !table.is_empty() {
            let offset = layout.snapshots * self.size;
            after.put(64, &offset.to_be_bytes());
            after.put(offset, table);
        }
        for (&range, &place) in &layout.refblocks {
            let at = place * self.size;
            repaired.after.put(reftable + range * 8, &at.to_be_bytes());
            repaired.after.put(at, &vec![0; self.size as usize]);
            self.write_refblock(repaired, range, at, u64::MAX);
        }
    }

    /// Sets the counts of the clusters of a range before `end`, cut to the width, in the refblock at
    /// an offset; whether that changes something.
    fn write_refblock(&self, repaired: &mut Repaired, range: u64, offset: u64, end: u64) -> bool {
        let (header, first) = (&self.own.header, range * self.range);
        let (order, max) = (header.refcount_order as u32, header.max_refcount());
        let (counts, after) = (&repaired.counts, &mut repaired.after);
        let mut changes = false;
        for cluster in first..end.min(first + self.range) {
            let count = counts.get(&cluster).map_or(0, |&count| count.min(max));
            let place = Refcount::new(order, offset, cluster - first);
            if place.read(after) != count {
                place.write(after, count);
                changes = true;
            }
        }
        changes
    }
}
