//! The algorithm of this project: the least reftable that can do, everything placed once, nothing
//! abandoned, the old structures untouched.
//!
//! For a reftable of R clusters, from the least R that covers the highest counted cluster upward:
//! the table takes the lowest free run of R; every range with a counted cluster, the table's own
//! included, needs a refblock, which takes the lowest free cluster of a range that is in use
//! anyway; when those are used up, an unused range is opened, which then needs a refblock too. If R
//! clusters of reftable cover all that, this is the layout; otherwise everything is released and
//! the R that was needed, always larger, is next.
//!
//! # Why it is complete and the reftable the smallest
//!
//! Let `f` be the free clusters of a range. Opening an unused range with `f >= 1` costs one refblock
//! and yields `f` places, so it never makes things worse. Whether R fits below a given cluster
//! therefore only depends on sums: the free clusters there, less R, less one refblock for each range
//! in use and each unused one with a free cluster. Where the table lies does not enter, so its
//! lowest run is as good as any, and reaches least far. For a larger R the lowest run does not
//! begin earlier and the sum is smaller, so it needs no less reach: every R between the one that
//! failed and the one that it needed fails as well. The oracle compares with brute force.
//!
//! # Why it ends, and soon
//!
//! R only grows and no image may have a reftable over 8 MiB. The number of tries is bounded much
//! lower: three do at any geometry of the format, where nothing is reserved. The oracle proves the
//! bound and holds each plan against it.

use std::collections::BTreeSet;

use super::layout::Layout;
use super::space::Space;
use super::{Input, New, PlanError, within_reftable_limit};
use crate::geometry::Geometry;
use crate::table::{Run, RunSet};
use crate::units::{Cluster, ClusterCount, RefblockIndex};

pub fn plan(input: &Input<'_>) -> Result<Layout, PlanError> {
    input.first_place(|space| space.place())
}

impl Space<'_> {
    /// Seeks a placement.
    fn place(&self) -> Result<Layout, PlanError> {
        let geometry = self.geometry();
        let highest = self.references.last_used().unwrap_or_default();
        let mut reftable_clusters = reach(geometry, highest);
        let mut from = Cluster(0);
        let mut tries = 0;
        loop {
            let reftable = self.reftable_run(&mut reftable_clusters, from)?;
            tries += 1;
            let refblocks = self.place_refblocks(reftable)?;
            let needed = refblocks.last().map_or(0, |(last, _)| last.0 + 1);
            let needed = geometry.reftable_clusters_for(needed);
            if needed <= reftable_clusters {
                return Ok(Layout {
                    reftable,
                    order: (0..refblocks.len()).collect(),
                    refblocks,
                    abandoned: RunSet::new(),
                    tries,
                });
            }
            reftable_clusters = needed;
            // A longer run never begins before the first shorter one.
            from = reftable.first;
        }
    }

    /// The lowest free run of `clusters`, which grows until the table covers itself where it lies.
    fn reftable_run(&self, clusters: &mut ClusterCount, from: Cluster) -> Result<Run, PlanError> {
        let mut from = from;
        loop {
            within_reftable_limit(self.geometry(), *clusters)?;
            let Some(run) = self.lowest_run(from, *clusters) else {
                let refblocks = self.references.used_refblocks().count() as u64;
                let needed = ClusterCount(clusters.0 + refblocks);
                return Err(self.no_space(New::Structures(needed, *clusters)));
            };
            let needed = reach(self.geometry(), Cluster(run.end().0 - 1));
            if needed <= *clusters {
                return Ok(run);
            }
            *clusters = needed;
            from = run.first;
        }
    }

    /// A cluster for each refblock that is needed with the reftable at `reftable`.
    fn place_refblocks(&self, reftable: Run) -> Result<Vec<(RefblockIndex, Cluster)>, PlanError> {
        let mut taken = self.taken.clone();
        taken.insert(reftable);
        let space = Space {
            taken: &taken,
            ..*self
        };
        let mut ranges = self.ranges_in_use(reftable);
        let mut places = space.places_in(ranges.iter().copied(), ranges.len());
        let mut unused = RefblockIndex(0);
        while places.len() < ranges.len() {
            let Some(opened) = space.next_unused(&ranges, unused) else {
                let needed = ClusterCount(reftable.count.0 + ranges.len() as u64);
                return Err(self.no_space(New::Structures(needed, reftable.count)));
            };
            unused = RefblockIndex(opened.0 + 1);
            ranges.insert(opened);
            places.extend(space.places_in([opened], ranges.len() - places.len()));
        }
        // Neighbouring ranges get neighbouring refblocks, which are written together.
        places.sort_unstable();
        Ok(ranges.into_iter().zip(places).collect())
    }

    /// The ranges with a counted cluster, those of the reftable included.
    fn ranges_in_use(&self, reftable: Run) -> BTreeSet<RefblockIndex> {
        let geometry = self.geometry();
        let first = geometry.refblock_of(reftable.first).0;
        let last = geometry.refblock_of(Cluster(reftable.end().0 - 1)).0;
        let own = (first..=last).map(RefblockIndex);
        self.references.used_refblocks().chain(own).collect()
    }

    /// The lowest free clusters of some ranges, as many as there are and are wanted.
    fn places_in(
        &self,
        ranges: impl IntoIterator<Item = RefblockIndex>,
        most: usize,
    ) -> Vec<Cluster> {
        let mut places = Vec::with_capacity(most);
        let mut from = Cluster(0);
        for range in ranges {
            let end = self.geometry().first_covered(RefblockIndex(range.0 + 1));
            from = from.max(self.geometry().first_covered(range));
            while from < end && places.len() < most {
                let Some(place) = self.next_free(from) else {
                    return places;
                };
                from = place;
                if place < end {
                    places.push(place);
                    from = Run::single(place).end();
                }
            }
        }
        places
    }

    /// The lowest range from `from` on that is not in use and has a free cluster.
    fn next_unused(
        &self,
        ranges: &BTreeSet<RefblockIndex>,
        mut from: RefblockIndex,
    ) -> Option<RefblockIndex> {
        loop {
            let place = self.next_free(self.geometry().first_covered(from))?;
            let range = self.geometry().refblock_of(place);
            if !ranges.contains(&range) {
                return Some(range);
            }
            from = RefblockIndex(range.0 + 1);
        }
    }

    const fn geometry(&self) -> &Geometry {
        self.references.geometry()
    }
}

/// The least reftable that covers a cluster.
const fn reach(geometry: &Geometry, cluster: Cluster) -> ClusterCount {
    geometry.reftable_clusters_for(geometry.refblock_of(cluster).0 + 1)
}
