//! What a check finds afterwards, and which clusters are free.

use std::collections::{BTreeMap, BTreeSet};

use super::snapshots::Snapshots;
use super::{Patched, Spec};
use crate::audit::{Corruption, Referrer, Wrong};

impl Spec<'_> {
    /// Corruptions and check errors that a check finds afterwards, wrong COPIED bits aside.
    pub(super) fn errors_left(
        &self,
        replaced: &BTreeSet<Referrer>,
        references: &BTreeMap<u64, u64>,
        counts: &BTreeMap<u64, u64>,
        snapshots: &Snapshots,
        rebuilt: bool,
    ) -> u64 {
        let stays = |corruption: &&Corruption| {
            let overflow = matches!(corruption.wrong, Wrong::TooManyReferences { .. });
            let extra = matches!(corruption.wrong, Wrong::ShortExtraData { .. });
            let structure = rebuilt && corruption.referrer.is_structure();
            let given_up = matches!(snapshots, Snapshots::Named(0) | Snapshots::Anew(0))
                && corruption.wrong == Wrong::SnapshotsOfExternalData;
            let unreadable = matches!(corruption.wrong, Wrong::Unreadable { .. });
            let of_table = unreadable && corruption.referrer == Referrer::SnapshotTable;
            let mended = (extra || of_table) && *snapshots != Snapshots::Stay;
            !replaced.contains(&corruption.referrer)
                && !overflow
                && !structure
                && !mended
                && !given_up
        };
        let stay = self.seen.corruptions.iter().filter(stays).count() as u64;
        let overflow: u64 = counts
            .values()
            .map(|count| count.saturating_sub(self.max))
            .sum();
        let low = if self.ask.only_leaks {
            let low = |(&cluster, &count): (&u64, &u64)| {
                let said = self.own.disk.count(cluster);
                said.is_some_and(|said| said < count.min(self.max))
            };
            references.iter().filter(|entry| low(*entry)).count() as u64
        } else {
            0
        };
        let unreadable = if rebuilt { 0 } else { self.own.check_errors };
        stay + overflow + low + unreadable + u64::from(self.seen.header_is_table)
    }

    pub(super) fn free(
        &self,
        counts: &BTreeMap<u64, u64>,
        kept: &BTreeMap<u64, u64>,
        rebuilt: bool,
        snapshots: &Snapshots,
        patched: &Patched<'_>,
    ) -> BTreeSet<u64> {
        if !kept.is_empty() {
            return BTreeSet::new();
        }
        let covered = self.covered();
        let leaked = self.own.disk.counts().keys().copied();
        let structures = self.own.references.keys().copied();
        let structures = structures.filter(|&cluster| {
            (rebuilt && self.structure_uses(cluster) > 0) || *snapshots != Snapshots::Stay
        });
        let claimed = self
            .own
            .past_end
            .iter()
            .filter(|region| rebuilt && region.referrer.is_structure());
        let claimed = claimed.flat_map(|region| region.offset / self.cluster_size..self.file);
        let all = leaked.chain(structures).chain(claimed);
        let free = |cluster: &u64| {
            !counts.contains_key(cluster) && !covered.contains(cluster) && !patched.has(*cluster)
        };
        all.filter(free).collect()
    }
}
