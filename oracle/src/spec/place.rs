//! Rule 4: where new structures go. "Only where `references` is 0, nothing is kept, no present
//! structure lies (unless `--reuse-old`), and nothing that leads past the end reaches; clusters of
//! which `said` is unknown come last. The file never grows over a place that something refers to."

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use itertools::Itertools;

use super::{Counts, Refused, Spec};
use crate::audit::{Audit, Referrer, Wrong};
use crate::case::Algorithm;

const REFTABLE_MAX: u64 = 8 << 20;

/// Clusters of what is new.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub reftable: Range<u64>,
    /// The refblock of each range.
    pub refblocks: BTreeMap<u64, u64>,
    /// Empty where there is no new snapshot table.
    pub snapshots: Range<u64>,
}

impl Layout {
    /// All clusters of it.
    pub fn clusters(&self) -> impl Iterator<Item = u64> {
        let runs = self.reftable.clone().chain(self.snapshots.clone());
        runs.chain(self.refblocks.values().copied())
    }
}

/// What is free.
struct Room<'a> {
    spec: &'a Spec<'a>,
    counts: Counts,
    taken: &'a BTreeSet<u64>,
    /// The first cluster that must not be used.
    limit: u64,
}

impl Room<'_> {
    fn is_free(&self, cluster: u64) -> bool {
        let taken = self.counts.contains_key(&cluster) || self.taken.contains(&cluster);
        cluster < self.limit && !taken
    }

    /// The lowest run of so many free clusters.
    fn run_of(&self, clusters: u64) -> Result<Range<u64>, Refused> {
        let mut runs = (0..=self.limit).map(|first| first..first.saturating_add(clusters));
        let found = runs.find(|run| run.clone().all(|cluster| self.is_free(cluster)));
        found.ok_or(Refused::NoSpace)
    }

    /// The placement of `planned`: the least reftable, in the lowest free run.
    fn place(mut self, snapshots: &Range<u64>) -> Result<Layout, Refused> {
        let new = snapshots.clone().map(|cluster| (cluster, 1));
        self.counts.extend(new);
        let reach = |range: u64| (range + 1).div_ceil(self.spec.size / 8);
        let highest = self.counts.keys().next_back().copied().unwrap_or(0);
        let mut size = reach(highest / self.spec.range);
        while size * self.spec.size <= REFTABLE_MAX {
            let reftable = self.run_of(size)?;
            let mut needed = reach((reftable.end - 1) / self.spec.range);
            if needed <= size {
                let refblocks = self.place_refblocks(&reftable)?;
                needed = refblocks.keys().next_back().copied().map_or(0, reach);
                if needed <= size {
                    return Ok(Layout {
                        reftable,
                        refblocks,
                        snapshots: snapshots.clone(),
                    });
                }
            }
            size = needed;
        }
        Err(Refused::ReftableTooLarge)
    }

    /// A refblock for each range with a count, in the lowest free clusters of ranges in use; and
    /// while these are too few, of the lowest unused range with a free cluster, which then needs one
    /// too.
    fn place_refblocks(&self, reftable: &Range<u64>) -> Result<BTreeMap<u64, u64>, Refused> {
        let range = |cluster: u64| cluster / self.spec.range;
        let is_free = |cluster: &u64| self.is_free(*cluster) && !reftable.contains(cluster);
        let clusters = |range: u64| range * self.spec.range..(range + 1) * self.spec.range;
        let free_in = |range: u64| clusters(range).filter(is_free);
        let used = self.counts.keys().copied().chain(reftable.clone());
        let mut ranges: BTreeSet<u64> = used.map(range).collect();
        let places = ranges.iter().copied().flat_map(free_in);
        let mut places: BTreeSet<u64> = places.take(ranges.len()).collect();
        while places.len() < ranges.len() {
            let mut unused = (0..self.limit).filter(|&at| !ranges.contains(&range(at)));
            let opened = range(unused.find(is_free).ok_or(Refused::NoSpace)?);
            ranges.insert(opened);
            places.extend(free_in(opened).take(ranges.len() - places.len()));
        }
        Ok(ranges.into_iter().zip(places).collect())
    }
}

impl Spec<'_> {
    /// The first cluster that the file must not reach, of what is missing at its end.
    fn growth_limit(&self, counts: &Counts) -> Option<u64> {
        let present = self.own.length / self.size;
        let missing = self.own.past_end.iter().filter(|region| {
            let matters = !region.counted || region.is_in_part();
            let replaced = self.replaced.contains(&region.referrer);
            matters && !replaced && !region.referrer.is_structure()
        });
        let missing = missing.map(|region| {
            let end = region.offset.saturating_add(region.bytes);
            let last = end.saturating_sub(self.size) / self.size;
            let first = self.file.max(region.offset / self.size).min(last);
            if region.counted { present } else { first }
        });
        let counted = counts.range(self.file..).map(|(&cluster, _)| cluster);
        let snapshots = self.own.snapshots.past_end.then_some(present);
        missing.chain(counted).chain(snapshots).min()
    }

    /// Where "`said` is unknown: the refblock is missing, unreadable, or contradicts itself".
    fn doubtful(&self) -> BTreeSet<u64> {
        let mut known: BTreeSet<u64> = self.own.disk.entries.keys().copied().collect();
        for found in &self.own.corruptions {
            match (found.referrer, found.wrong) {
                (_, Wrong::TooManyReferences(_)) => false,
                (Referrer::Refblock { index }, _) => known.remove(&index),
                _ => false,
            };
        }
        let low = self.own.references.keys().copied();
        for cluster in low.filter(|&cluster| self.is_low(cluster)) {
            known.remove(&(cluster / self.range));
        }
        let clusters = 0..self.file;
        let unknown = clusters.filter(|at| !known.contains(&(at / self.range)));
        unknown.collect()
    }

    /// Places what is new, with a snapshot table of `table` clusters; `counts` are the final ones
    /// without it, `in_place` those with the present structures, and `found` is what was found after
    /// the repair.
    pub(super) fn place(
        &self,
        counts: &Counts,
        in_place: &Counts,
        table: u64,
        found: Option<&Audit>,
    ) -> Result<Layout, Refused> {
        let planned = self.ask.algorithm == Algorithm::Planned;
        // QEMU's algorithms count the present structures while they build.
        let growth = self.growth_limit(if planned { counts } else { in_place });
        let growth = growth.unwrap_or(u64::MAX);
        let capacity = self.ask.capacity.unwrap_or(u64::MAX) / self.size;
        let limit = capacity.min(growth);
        if !planned {
            let found = found.and_then(|found| self.found(counts, limit, table, found));
            return found.ok_or(Refused::NoSpace);
        }
        let mut reserved = self.covered.clone();
        reserved.extend((0..self.file).filter(|&cluster| self.is_given_up(cluster)));
        if !self.ask.reuse_old {
            reserved.extend(self.structures());
        }
        let credible = &reserved | &self.doubtful();
        // Inside the present file first.
        let ends = [self.file.min(limit), limit];
        let rooms = [&credible, &reserved].into_iter().cartesian_product(ends);
        let rooms = rooms.map(|(taken, limit)| Room {
            spec: self,
            counts: counts.clone(),
            taken,
            limit,
        });
        let no_room = if growth < capacity {
            Refused::GrowthWouldHide
        } else {
            Refused::NoSpace
        };
        let run = rooms.clone().find_map(|room| room.run_of(table).ok());
        let snapshots = run.ok_or(no_room)?;
        let mut placed = rooms.map(|room| room.place(&snapshots));
        let placed = placed.find(|placed| !matches!(placed, Err(Refused::NoSpace)));
        placed.unwrap_or(Err(no_room))
    }

    /// The layout of QEMU's algorithms as it is found afterwards; nothing unless it lies in clusters
    /// that are free. What was not written, as a header's damaged size says, is no layout.
    fn found(&self, counts: &Counts, limit: u64, table: u64, found: &Audit) -> Option<Layout> {
        let run = |offset: u64, clusters| {
            let first = offset / self.size;
            first..first.saturating_add(clusters)
        };
        let refblocks = found.disk.refblocks();
        let refblocks = refblocks.map(|(range, offset)| (range, offset / self.size));
        let layout = Layout {
            reftable: run(found.disk.reftable_offset, found.disk.reftable_clusters),
            refblocks: refblocks.collect(),
            snapshots: run(found.header.snapshots_offset, table),
        };
        let end = found.length.div_ceil(self.size).min(limit);
        let mut new = BTreeSet::new();
        let is_free = layout.clusters().all(|cluster| {
            cluster < end
                && !counts.contains_key(&cluster)
                && !self.covered.contains(&cluster)
                && !self.own.uses(cluster).any(Referrer::is_structure)
                && new.insert(cluster)
        });
        is_free.then_some(layout)
    }
}
