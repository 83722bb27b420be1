//! QEMU's two algorithms, byte for byte, with their weaknesses: a refblock is never put before its
//! range, and a reftable that was given up for a larger one stays allocated.
//!
//! Since 7.1 ("first-fit"): refblocks first, each where it is the first free cluster from the start of
//! its range on; then the whole reftable in the first free run of the image; then the refblocks that
//! cover the reftable, and again from the reftable when it has grown.
//!
//! Up to 7.0 ("tail"): one pass over the clusters that writes a refblock for each range in use, never
//! into a range that it has left; the reftable inside the last range, if it is still to be placed
//! there, else after the end of everything, and then refblocks again for that.

use std::collections::BTreeMap;

use super::layout::Layout;
use super::space::Space;
use super::{Input, New, PlanError, within_reftable_limit};
use crate::geometry::Geometry;
use crate::table::{Run, RunSet};
use crate::units::{Cluster, ClusterCount, RefblockIndex};

/// As QEMU 7.1 and later do it.
pub fn first_fit(input: &Input<'_>) -> Result<Layout, PlanError> {
    let mut pass = Pass::new(input);
    let mut range = Run::new(Cluster(0), pass.end.since(Cluster(0)));
    loop {
        pass.first_free = Cluster(0);
        pass.write_refblocks(range, false)?;
        if let Some(reftable) = pass.reftable {
            return pass.into_layout(reftable);
        }
        pass.first_free = Cluster(0);
        range = pass.place_reftable()?;
    }
}

/// As QEMU up to 7.0 does it.
pub fn tail(input: &Input<'_>) -> Result<Layout, PlanError> {
    let mut pass = Pass::new(input);
    let mut from = Cluster(0);
    loop {
        let rest = Run::new(from, pass.end.since(from));
        from = pass.write_refblocks(rest, true)?;
        if let Some(reftable) = pass.reftable {
            return pass.into_layout(reftable);
        }
        // After the end of the range that the last cluster lies in.
        let size = pass.geometry.refcounts_per_refblock();
        let past_last_range = Cluster(pass.end.0.next_multiple_of(size));
        pass.first_free = pass.first_free.max(past_last_range);
        pass.place_reftable()?;
    }
}

/// What has been placed so far.
struct Pass<'a> {
    input: &'a Input<'a>,
    geometry: &'a Geometry,
    /// Clusters that were taken on top of the counts.
    taken: RunSet,
    /// The end of the file as QEMU sees it: what lies beyond is free without limit.
    end: Cluster,
    /// From where on the allocator looks.
    first_free: Cluster,
    refblocks: BTreeMap<RefblockIndex, Cluster>,
    /// The order in which refblocks are written.
    writes: Vec<RefblockIndex>,
    /// Entries that the reftable must have.
    entries: u64,
    /// The reftable, while it has that many.
    reftable: Option<Run>,
    abandoned: RunSet,
    tries: u64,
    /// Clusters of a reftable that certainly none will suffice after, once it has to grow.
    hopeless: Option<ClusterCount>,
}

impl<'a> Pass<'a> {
    fn new(input: &'a Input<'a>) -> Self {
        // A table that reaches into the rest of the file's last cluster may be counted in the cluster
        // after it, which belongs to the file then.
        let counted = input.references.last_used().map_or(0, |last| last.0 + 1);
        let reserved = input.reserved.runs().last().map_or(0, |last| last.end().0);
        Self {
            input,
            geometry: input.references.geometry(),
            taken: input.reserved.clone(),
            end: Cluster(input.file.0.max(counted).max(reserved)),
            first_free: Cluster(0),
            refblocks: BTreeMap::new(),
            writes: Vec::new(),
            entries: 0,
            reftable: None,
            abandoned: RunSet::new(),
            tries: 0,
            hopeless: None,
        }
    }

    /// Places and writes the refblocks that cover the used clusters of `range`, and those that cover
    /// these refblocks; `in_passing` the reftable as well, as soon as the last range is reached.
    /// Returns where it stopped.
    fn write_refblocks(&mut self, range: Run, in_passing: bool) -> Result<Cluster, PlanError> {
        let geometry = self.geometry;
        let (mut cluster, mut end) = (range.first, range.end());
        while let Some(used) = self.next_used(cluster, end) {
            let refblock = geometry.refblock_of(used);
            let covered = Run::covered_by(geometry, refblock);
            // An entry past the end of the reftable is as good as an empty one.
            if !self.refblocks.contains_key(&refblock) {
                self.first_free = self.first_free.max(covered.first);
                let place = self.allocate(ClusterCount(1));
                // The refblock that counts this one has to be written as well.
                end = end.max(place.end());
                if self.entries <= refblock.0 {
                    let per_cluster = geometry.entries_per_reftable_cluster();
                    self.entries = (refblock.0 + 1).next_multiple_of(per_cluster);
                    self.abandon_reftable()?;
                }
                self.refblocks.insert(refblock, place.first);
            }
            let last = Cluster(self.end.0.saturating_sub(1));
            if in_passing && self.reftable.is_none() && refblock == geometry.refblock_of(last) {
                self.place_reftable()?;
                end = self.end;
            }
            self.writes.push(refblock);
            cluster = covered.end();
        }
        Ok(cluster.max(end))
    }

    /// The first cluster from `from` on, and before `end`, that is counted or taken.
    fn next_used(&self, from: Cluster, end: Cluster) -> Option<Cluster> {
        let counted = self.input.references.next_used(from);
        let used = counted.into_iter().chain(self.taken.next_from(from));
        used.min().filter(|next| *next < end)
    }

    /// Takes the first free run from `first_free` on; the file grows where there is none in it.
    /// `first_free` moves on to the first gap seen, even one too short, as QEMU's allocator has it.
    fn allocate(&mut self, count: ClusterCount) -> Run {
        let space = Space {
            references: self.input.references,
            taken: &self.taken,
            limit: self.end,
        };
        // A gap that reaches the end of the file is extended past it.
        let is_fit = |gap: &Run| gap.count >= count || gap.end() >= self.end;
        let found = space.runs(self.first_free).find(is_fit);
        let first = found.map_or(self.end.max(self.first_free), |gap| gap.first);
        let first_gap = space.runs(self.first_free).next();
        self.first_free = first_gap.map_or(self.first_free, |gap| gap.first);
        let run = Run::new(first, count);
        self.end = self.end.max(run.end());
        self.taken.insert(run);
        run
    }

    fn place_reftable(&mut self) -> Result<Run, PlanError> {
        let clusters = self.geometry.reftable_clusters_for(self.entries);
        within_reftable_limit(self.geometry, clusters)?;
        let end_before = self.end;
        let reftable = self.allocate(clusters);
        self.hopeless = self.diverges(reftable, end_before).then_some(clusters);
        self.reftable = Some(reftable);
        self.tries += 1;
        Ok(reftable)
    }

    /// Tells when a run of ever larger reftables placed after one another is certain not to end.
    ///
    /// Say that a table of R >= B*E clusters was put after everything in use, so that the file grew by
    /// at least B*E clusters, and that it then had to grow. No free run of R clusters lies inside the
    /// file then, nor will one appear, as nothing is given back; so the next, larger table goes after
    /// the end too and adds R > B*E clusters, which takes at least one more reftable cluster than
    /// before. By induction that goes on for ever.
    fn diverges(&self, reftable: Run, end_before: Cluster) -> bool {
        let entries = self.geometry.entries_per_reftable_cluster();
        let covered_by_one = self.geometry.refcounts_per_refblock() * entries;
        reftable.end().since(end_before).0 >= covered_by_one
    }

    fn abandon_reftable(&mut self) -> Result<(), PlanError> {
        if let Some(clusters) = self.hopeless {
            return Err(PlanError::Diverges { clusters });
        }
        self.abandoned
            .extend(&self.reftable.take().into_iter().collect());
        Ok(())
    }

    fn into_layout(self, reftable: Run) -> Result<Layout, PlanError> {
        let refblocks: Vec<_> = self.refblocks.into_iter().collect();
        let position = |refblock| refblocks.binary_search_by_key(refblock, |placed| placed.0);
        let order = self.writes.iter().flat_map(position).collect();
        let layout = Layout {
            reftable,
            refblocks,
            abandoned: self.abandoned,
            order,
            tries: self.tries,
        };
        let limit = self.input.limit();
        if layout.end() <= limit {
            return Ok(layout);
        }
        let space = Space {
            references: self.input.references,
            taken: self.input.reserved,
            limit,
        };
        let needed = ClusterCount(reftable.count.0 + layout.refblocks.len() as u64);
        Err(space.no_space(New::Structures(needed, reftable.count)))
    }
}
