//! Rule 4: where new structures go. "Only where `references` is 0, nothing is kept, no present
//! structure lies (unless `--reuse-old`), and nothing that leads past the end reaches"; where `said`
//! is unknown later (if not sound, only behind all in use, where a disturbed repair appended), in
//! what leaked last. "The file never grows over a place that something refers to."

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use itertools::{Itertools, chain};

use super::snapshots::Snapshots;
use super::{Counts, Refused, Spec};
use crate::audit::{Referrer, Wrong};
use crate::case::Algorithm;
use crate::format::REFTABLE_MAX;

/// Clusters of what is new.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The reftable.
    pub reftable: Range<u64>,
    /// The refblock of each range.
    pub refblocks: BTreeMap<u64, u64>,
    /// The first of a new snapshot table, where there is one.
    pub snapshots: u64,
}

/// Where what is new goes, or why there is no place for it.
type Placed = Result<Layout, Refused>;

impl Layout {
    /// All clusters of it, with a snapshot table of so many.
    pub(crate) fn clusters(&self, table: u64) -> impl Iterator<Item = u64> + Clone {
        let table = self.snapshots..self.snapshots + table;
        let refblocks = self.refblocks.values().copied();
        chain!(self.reftable.clone(), table, refblocks)
    }
}

/// What is free: clusters before the limit that are not taken and have no count.
#[derive(Clone, Copy)]
struct Room<'a> {
    spec: &'a Spec<'a>,
    counts: &'a Counts,
    taken: &'a BTreeSet<u64>,
    limit: u64,
}

impl Room<'_> {
    fn is_free(&self, at: u64) -> bool {
        at < self.limit && !self.counts.contains_key(&at) && !self.taken.contains(&at)
    }

    /// The lowest run of so many free clusters.
    fn run_of(&self, clusters: u64) -> Option<Range<u64>> {
        let mut runs = (0..=self.limit).map(|first| first..first.saturating_add(clusters));
        runs.find(|run| run.clone().all(|cluster| self.is_free(cluster)))
    }

    /// The placement of `planned`: the least reftable, in the lowest free run; `None` where there is
    /// no room.
    fn place(&self, snapshots: u64) -> Option<Placed> {
        let reach = |range: u64| (range + 1).div_ceil(self.spec.size / 8);
        let highest = self.counts.keys().next_back();
        let mut size = highest.map_or(1, |highest| reach(highest / self.spec.range));
        while size * self.spec.size <= REFTABLE_MAX {
            let reftable = self.run_of(size)?;
            let mut needed = reach((reftable.end - 1) / self.spec.range);
            if needed <= size {
                let refblocks = self.refblocks(&reftable)?;
                needed = refblocks.keys().next_back().copied().map_or(0, reach);
                if needed <= size {
                    return Some(Ok(Layout {
                        reftable,
                        refblocks,
                        snapshots,
                    }));
                }
            }
            size = needed;
        }
        Some(Err(Refused::ReftableTooLarge))
    }

    /// A refblock for each range with a count, in the lowest free clusters of ranges in use; and
    /// while these are too few, of the lowest unused range with a free cluster, which then needs one
    /// too.
    fn refblocks(&self, reftable: &Range<u64>) -> Option<BTreeMap<u64, u64>> {
        let range = |cluster: u64| cluster / self.spec.range;
        let is_free = |cluster: &u64| self.is_free(*cluster) && !reftable.contains(cluster);
        let free_in = |at: u64| (at * self.spec.range..(at + 1) * self.spec.range).filter(is_free);
        let used = self.counts.keys().copied().chain(reftable.clone());
        let mut ranges: BTreeSet<u64> = used.map(range).collect();
        let places = ranges.iter().copied().flat_map(free_in);
        let mut places: BTreeSet<u64> = places.take(ranges.len()).collect();
        while places.len() < ranges.len() {
            let mut unused = (0..self.limit).filter(|&at| !ranges.contains(&range(at)));
            let opened = range(unused.find(is_free)?);
            ranges.insert(opened);
            places.extend(free_in(opened).take(ranges.len() - places.len()));
        }
        Some(ranges.into_iter().zip(places).collect())
    }
}

impl Spec<'_> {
    /// The first cluster that the file must not reach, of what is missing at its end.
    fn growth_limit(&self, counts: &Counts) -> Option<u64> {
        let present = self.own.length / self.size;
        let missing = self.own.past_end.iter().filter(|region| {
            !self.replaced.contains(&region.referrer) && !region.referrer.is_structure()
        });
        let missing = missing.filter_map(|region| {
            if region.counted {
                return region.is_in_part().then_some(present);
            }
            let end = region.offset.saturating_add(region.bytes);
            let first = self.file.max(region.offset / self.size);
            Some(first.min(end.saturating_sub(self.size) / self.size))
        });
        let counted = counts.range(self.file..).map(|(&cluster, _)| cluster);
        let snapshots = self.own.snapshots.past_end.then_some(present);
        missing.chain(counted).chain(snapshots).min()
    }

    /// Clusters of the file of which "`said` is unknown: the refblock is missing, unreadable, or
    /// contradicts itself".
    fn doubtful(&self) -> BTreeSet<u64> {
        let corruptions = self.own.corruptions.iter();
        let wrong = corruptions.filter_map(|found| match (found.referrer, found.wrong) {
            (_, Wrong::TooManyReferences(_)) => None,
            (Referrer::Refblock { index }, _) => Some(index),
            _ => None,
        });
        let low = self.own.references.keys().filter(|at| self.is_low(**at));
        let doubtful = low.map(|at| at / self.range).chain(wrong).collect();
        let entries: BTreeSet<u64> = self.own.disk.entries.keys().copied().collect();
        let known = &entries - &doubtful;
        let unknown = (0..self.file).filter(|at| !known.contains(&(at / self.range)));
        unknown.collect()
    }

    /// Places what is new where these are the final counts without it.
    pub(super) fn place(&self, counts: &Counts, new: &Snapshots, qemus: Option<Layout>) -> Placed {
        let (options, table) = (&self.ask.options, new.anew.len() as u64 / self.size);
        let hidden = self.growth_limit(counts).unwrap_or(u64::MAX);
        let capacity = self.ask.capacity.unwrap_or(u64::MAX) / self.size;
        let limit = capacity.min(hidden);
        let mut taken = self.covered.clone();
        if options.algorithm != Algorithm::Planned {
            let mut is_free = |cluster: u64| {
                let used = counts.contains_key(&cluster) || self.is_structure(cluster);
                cluster < limit && !used && taken.insert(cluster)
            };
            let lies_free = |layout: &Layout| layout.clusters(table).all(&mut is_free);
            return qemus.filter(lies_free).ok_or(Refused::NoSpace);
        }
        taken.extend(new.given_up.clone());
        // The file grows only behind what its last refblock says is allocated: that is kept then.
        let past_end = self.file..limit.min(self.file.next_multiple_of(self.range));
        let last = self.kept(past_end).into_keys().next_back();
        taken.extend(last.into_iter().flat_map(|last| self.file..=last));
        if !options.reuse_old {
            taken.extend(self.structures());
        }
        let leaked = (0..self.file).filter(|at| self.is_leaked(*at)).collect();
        let free = &(&taken | &leaked) | &self.doubtful();
        // Inside the present file first.
        let ends = [self.file.min(limit), limit];
        let mut in_danger = self.doubtful();
        let in_use = |at: &u64| last.is_some() || counts.range(at..).next().is_some();
        in_danger.retain(|at| self.keeps() && in_use(at));
        let last = &taken | &in_danger;
        let taken = [free, &last | &leaked, last];
        let rooms = taken.iter().cartesian_product(ends);
        let mut rooms = rooms.map(|(taken, limit)| Room {
            spec: self,
            counts,
            taken,
            limit,
        });
        let hides = (hidden < capacity).then_some(Refused::GrowthWouldHide);
        let no_room = hides.unwrap_or(Refused::NoSpace);
        let run = rooms.clone().find_map(|room| room.run_of(table));
        let run = run.ok_or(no_room)?;
        let counts = &chain!(counts.clone(), run.clone().map(|at| (at, 1))).collect();
        let placed = rooms.find_map(|room| Room { counts, ..room }.place(run.start));
        placed.unwrap_or(Err(no_room))
    }
}
