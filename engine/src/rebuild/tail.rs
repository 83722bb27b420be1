//! QEMU's algorithm up to 7.0: one pass over the clusters that writes a refblock for each range in
//! use, never into a range that it has left; the reftable inside the last range, if it is still to
//! be placed there, else after the end of everything, and then refblocks again for that.
//!
//! Kept as it was: a reftable that has to grow stays allocated where it was.

use super::first_fit::{Refblocks, diverges};
use super::layout::Layout;
use super::overlay::Allocator;
use super::{Input, PlanError, within_capacity, within_reftable_limit};
use crate::table::{Run, RunSet};
use crate::units::{Cluster, ClusterCount};

/// Where the pass stands.
struct Pass<'a> {
    input: &'a Input<'a>,
    allocator: Allocator<'a>,
    refblocks: Refblocks,
    first_free: Cluster,
    entries: u64,
    reftable: Option<Run>,
    abandoned: RunSet,
    tries: u64,
    /// A reftable put after the end that certainly will not suffice, once it has to grow.
    hopeless: Option<ClusterCount>,
}

pub fn plan(input: &Input<'_>) -> Result<Layout, PlanError> {
    let allocator = Allocator::new(input.references, input.file);
    let mut pass = Pass {
        input,
        allocator,
        refblocks: Refblocks::new(),
        first_free: Cluster(0),
        entries: 0,
        reftable: None,
        abandoned: RunSet::new(),
        tries: 0,
        hopeless: None,
    };
    let mut cluster = Cluster(0);
    let reftable = loop {
        cluster = pass.write_refblocks(cluster)?;
        if let Some(reftable) = pass.reftable {
            break reftable;
        }
        // After the end of the range that the last cluster lies in.
        let size = pass.geometry().refcounts_per_refblock();
        let past_last_range = Cluster(pass.allocator.end.0.next_multiple_of(size));
        pass.first_free = pass.first_free.max(past_last_range);
        pass.place_reftable()?;
    };
    let layout = pass
        .refblocks
        .into_layout(reftable, pass.abandoned, pass.tries);
    within_capacity(input, &layout)?;
    Ok(layout)
}

impl Pass<'_> {
    fn geometry(&self) -> &crate::geometry::Geometry {
        self.input.references.geometry()
    }

    /// Writes refblocks from `cluster` on to the end of the file, which moves while it does;
    /// returns where it stopped.
    fn write_refblocks(&mut self, mut cluster: Cluster) -> Result<Cluster, PlanError> {
        let size = self.geometry().refcounts_per_refblock();
        while let Some(used) = self.allocator.next_used(cluster, self.allocator.end) {
            let refblock = self.geometry().refblock_of(used);
            let start = self.geometry().first_covered(refblock);
            self.first_free = self.first_free.max(start);
            let place = self
                .allocator
                .allocate(ClusterCount(1), &mut self.first_free)
                .first;
            if self.entries <= refblock.0 {
                let per_cluster = self.geometry().entries_per_reftable_cluster();
                self.entries = (refblock.0 + 1).next_multiple_of(per_cluster);
                self.abandon_reftable()?;
            }
            self.refblocks.place(refblock, place);
            let last_cluster = Cluster(self.allocator.end.0 - 1);
            if self.reftable.is_none() && refblock == self.geometry().refblock_of(last_cluster) {
                self.place_reftable()?;
            }
            self.refblocks.write(refblock);
            cluster = start.saturating_add(ClusterCount(size));
        }
        Ok(cluster.max(self.allocator.end))
    }

    fn place_reftable(&mut self) -> Result<(), PlanError> {
        let clusters = self.geometry().reftable_clusters_for(self.entries);
        within_reftable_limit(self.input, clusters)?;
        let end_before = self.allocator.end;
        let reftable = self.allocator.allocate(clusters, &mut self.first_free);
        self.hopeless = diverges(self.geometry(), reftable, end_before).then_some(clusters);
        self.reftable = Some(reftable);
        self.tries += 1;
        Ok(())
    }

    fn abandon_reftable(&mut self) -> Result<(), PlanError> {
        if let Some(clusters) = self.hopeless {
            return Err(PlanError::Diverges { clusters });
        }
        if let Some(reftable) = self.reftable.take() {
            self.abandoned.insert(reftable);
        }
        Ok(())
    }
}
