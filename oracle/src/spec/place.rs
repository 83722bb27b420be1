//! The placement of `planned`, the obvious way.

use std::collections::{BTreeMap, BTreeSet};

use super::layout::Layout;
use super::{Refused, Spec};

const REFTABLE_MAX: u64 = 8 << 20;

/// What is free.
pub(super) struct Room<'a> {
    pub counts: &'a BTreeMap<u64, u64>,
    pub taken: &'a BTreeSet<u64>,
    /// The first cluster that must not be used.
    pub limit: u64,
}

impl Room<'_> {
    fn is_free(&self, cluster: u64) -> bool {
        cluster < self.limit
            && !self.counts.contains_key(&cluster)
            && !self.taken.contains(&cluster)
    }

    /// The first free cluster from `from` on.
    fn next_free(&self, from: u64) -> Option<u64> {
        let mut cluster = from;
        while cluster < self.limit {
            if self.is_free(cluster) {
                return Some(cluster);
            }
            cluster += 1;
        }
        None
    }

    /// The first free run from `from` on: its first cluster and one after its last.
    fn next_run(&self, from: u64) -> Option<(u64, u64)> {
        let first = self.next_free(from)?;
        let used = self
            .counts
            .range(first..)
            .next()
            .map(|(&cluster, _)| cluster);
        let taken = self.taken.range(first..).next().copied();
        let end = used.into_iter().chain(taken).min().unwrap_or(self.limit);
        Some((first, end.min(self.limit)))
    }

    /// The lowest free run of so many clusters.
    pub fn run_of(&self, clusters: u64) -> Option<u64> {
        let mut from = 0;
        while let Some((first, end)) = self.next_run(from) {
            if end - first >= clusters {
                return Some(first);
            }
            from = end;
        }
        None
    }
}

impl Spec<'_> {
    /// The placement of `planned`: the least reftable in the lowest free run; a refblock for each
    /// range with a count, in the lowest free clusters of ranges in use; then unused ranges are opened.
    pub(super) fn place(
        &self,
        counts: &BTreeMap<u64, u64>,
        taken: &BTreeSet<u64>,
        limit: u64,
    ) -> Result<Layout, Refused> {
        let (covered, entries) = self.geometry();
        let reach = |cluster: u64| (cluster / covered + 1).div_ceil(entries);
        let highest = counts.keys().next_back().copied().unwrap_or(0);
        let (mut size, mut from) = (reach(highest), 0);
        loop {
            if size > REFTABLE_MAX / self.cluster_size {
                return Err(Refused::ReftableTooLarge);
            }
            let room = Room {
                counts,
                taken,
                limit,
            };
            let (first, end) = room.next_run(from).ok_or(Refused::NoSpace)?;
            if end - first < size {
                from = end;
                continue;
            }
            if reach(first + size - 1) > size {
                (size, from) = (reach(first + size - 1), first);
                continue;
            }
            let refblocks = self.place_refblocks(&room, first..first + size)?;
            let last = refblocks.keys().next_back().copied().unwrap_or(0);
            let needed = (last + 1).div_ceil(entries);
            if needed <= size {
                return Ok(Layout {
                    reftable: first,
                    reftable_clusters: size,
                    refblocks,
                });
            }
            (size, from) = (needed, first);
        }
    }

    fn place_refblocks(
        &self,
        room: &Room<'_>,
        reftable: std::ops::Range<u64>,
    ) -> Result<BTreeMap<u64, u64>, Refused> {
        let (covered, _) = self.geometry();
        let mut taken = room.taken.clone();
        taken.extend(reftable.clone());
        let room = Room {
            taken: &taken,
            ..*room
        };
        let used = room.counts.keys().copied().chain(reftable);
        let mut ranges: BTreeSet<u64> = used.map(|cluster| cluster / covered).collect();
        let free_in = |range: u64| {
            let clusters = range * covered..((range + 1) * covered).min(room.limit);
            clusters.filter(|&cluster| room.is_free(cluster))
        };
        let places = ranges.iter().copied().flat_map(free_in);
        let mut places: Vec<u64> = places.take(ranges.len()).collect();
        let mut next = 0;
        while places.len() < ranges.len() {
            // The lowest unused range with a free cluster.
            let opened = loop {
                let free = room.next_free(next * covered).ok_or(Refused::NoSpace)?;
                let range = free / covered;
                next = range + 1;
                if !ranges.contains(&range) {
                    break range;
                }
            };
            ranges.insert(opened);
            let missing = ranges.len() - places.len();
            places.extend(free_in(opened).take(missing));
        }
        places.sort_unstable();
        Ok(ranges.into_iter().zip(places).collect())
    }
}
