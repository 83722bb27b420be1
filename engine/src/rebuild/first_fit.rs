//! QEMU's algorithm since 7.1: refblocks first, each where it is the first free cluster from the
//! start of its range on; then the whole reftable in the first free run of the image; then the
//! refblocks that cover the reftable once more, and again from the reftable when it has grown.
//!
//! The result is that of qemu-img, byte for byte. So are the weaknesses: a refblock is never put
//! before its range, and a reftable that was given up stays allocated.

use std::collections::BTreeMap;

use super::layout::Layout;
use super::overlay::Allocator;
use super::{Input, PlanError, within_capacity, within_reftable_limit};
use crate::geometry::Geometry;
use crate::table::{Run, RunSet};
use crate::units::{Cluster, ClusterCount, RefblockIndex};

/// The refblocks placed so far, and the order in which they are written.
pub(super) struct Refblocks {
    placed: BTreeMap<RefblockIndex, Cluster>,
    writes: Vec<RefblockIndex>,
}

impl Refblocks {
    pub(super) const fn new() -> Self {
        Self {
            placed: BTreeMap::new(),
            writes: Vec::new(),
        }
    }

    pub(super) fn get(&self, refblock: RefblockIndex) -> Option<Cluster> {
        self.placed.get(&refblock).copied()
    }

    pub(super) fn place(&mut self, refblock: RefblockIndex, cluster: Cluster) {
        self.placed.insert(refblock, cluster);
    }

    pub(super) fn write(&mut self, refblock: RefblockIndex) {
        self.writes.push(refblock);
    }

    /// The finished layout, once the reftable has its place.
    pub(super) fn into_layout(self, reftable: Run, abandoned: RunSet, tries: u64) -> Layout {
        let refblocks: Vec<_> = self.placed.into_iter().collect();
        let position = |refblock: &RefblockIndex| {
            refblocks
                .binary_search_by_key(refblock, |placed| placed.0)
                .ok()
        };
        let order = self.writes.iter().filter_map(position).collect();
        Layout {
            reftable,
            refblocks,
            abandoned,
            order,
            tries,
        }
    }
}

/// Tells when a run of ever larger reftables placed after one another is certain not to end.
///
/// Say that a table of R >= B*E clusters was put after everything in use, so that the file grew by
/// at least B*E clusters, and that it then had to grow. No free run of R clusters lies inside the
/// file then, nor will one appear, as nothing is given back; so the next, larger table goes after
/// the end too and adds R > B*E clusters, which takes at least one more reftable cluster than
/// before. By induction that goes on for ever.
pub(super) fn diverges(geometry: &Geometry, reftable: Run, end_before: Cluster) -> bool {
    let covered_by_one =
        geometry.refcounts_per_refblock() * geometry.entries_per_reftable_cluster();
    reftable.end().since(end_before).0 >= covered_by_one
}

pub fn plan(input: &Input<'_>) -> Result<Layout, PlanError> {
    let geometry = input.references.geometry();
    let mut allocator = Allocator::new(input.references, input.file);
    let mut refblocks = Refblocks::new();
    let mut entries = 0;
    let end = allocator.end;
    write_refblocks(
        &mut allocator,
        &mut refblocks,
        &mut entries,
        Run::new(Cluster(0), end.since(Cluster(0))),
    );
    let mut abandoned = RunSet::new();
    let mut tries = 0;
    loop {
        tries += 1;
        let clusters = geometry.reftable_clusters_for(entries);
        within_reftable_limit(input, clusters)?;
        let end_before = allocator.end;
        let reftable = allocator.allocate(clusters, &mut Cluster(0));
        let grown = write_refblocks(&mut allocator, &mut refblocks, &mut entries, reftable);
        if !grown {
            let layout = refblocks.into_layout(reftable, abandoned, tries);
            within_capacity(input, &layout)?;
            return Ok(layout);
        }
        if diverges(geometry, reftable, end_before) {
            return Err(PlanError::Diverges { clusters });
        }
        abandoned.insert(reftable);
    }
}

/// Places and writes the refblocks that cover the used clusters of `range`; whether the reftable
/// had to grow for that.
fn write_refblocks(
    allocator: &mut Allocator<'_>,
    refblocks: &mut Refblocks,
    entries: &mut u64,
    range: Run,
) -> bool {
    let geometry = *allocator.geometry();
    let mut grown = false;
    let mut first_free = Cluster(0);
    let (mut cluster, mut end) = (range.first, range.end());
    while let Some(used) = allocator.next_used(cluster, end) {
        let refblock = geometry.refblock_of(used);
        let start = geometry.first_covered(refblock);
        // An entry past the end of the reftable is as good as an empty one.
        if refblocks.get(refblock).is_none() {
            first_free = first_free.max(start);
            let place = allocator.allocate(ClusterCount(1), &mut first_free).first;
            // The refblock that counts this one has to be written as well.
            end = end.max(Run::single(place).end());
            if *entries <= refblock.0 {
                *entries =
                    (refblock.0 + 1).next_multiple_of(geometry.entries_per_reftable_cluster());
                grown = true;
            }
            refblocks.place(refblock, place);
        }
        refblocks.write(refblock);
        cluster = start.saturating_add(ClusterCount(geometry.refcounts_per_refblock()));
    }
    grown
}
