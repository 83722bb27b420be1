//! The counters of a check.

use super::Look;
use crate::image::Image;
use crate::references::DeadEnds;

/// The counters of `qemu-img check`, each with its meaning there, and what recount says beyond.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Errors that kept parts from being checked.
    pub check_errors: u64,
    /// Inconsistencies that lose data on a next write.
    pub corruptions: u64,
    /// Clusters whose refcount is above their references.
    pub leaks: u64,
    /// The first byte after the last cluster that is referred to or has a refcount.
    pub image_end_offset: u64,
    /// Clusters of the virtual disk.
    pub total_clusters: u64,
    /// Clusters that the active layer maps.
    pub allocated_clusters: u64,
    /// Those of them that do not follow their predecessor.
    pub fragmented_clusters: u64,
    /// Those of them that are compressed.
    pub compressed_clusters: u64,
    /// Whether the refcount structures can only be built anew.
    pub needs_rebuild: bool,
    /// What is wrong with what refers to clusters, as far as counting shows it. While there is any, a
    /// repair keeps whatever is allocated.
    pub dead_ends: DeadEnds,
}

impl Report {
    /// The counters of a look; COPIED bits and the snapshot table come on top.
    pub(crate) fn of(image: &Image, look: &Look) -> Self {
        let (references, old, comparison) = (&look.references, &look.old, &look.comparison);
        let in_structures = old.corruptions + comparison.corruptions + look.overflow;
        let last = comparison.last_used.unwrap_or_default();
        Self {
            check_errors: comparison.unreadable_clusters,
            corruptions: references.corruptions + in_structures,
            leaks: comparison.leaks,
            image_end_offset: (last.0 + 1) << image.geometry().cluster_bits(),
            total_clusters: image.virtual_clusters().0,
            allocated_clusters: references.tally.allocated,
            fragmented_clusters: references.tally.fragmented,
            compressed_clusters: references.tally.compressed,
            needs_rebuild: look.needs_rebuild(),
            dead_ends: references.dead_ends.clone(),
        }
    }

    /// Whether nothing at all is wrong.
    pub const fn is_clean(&self) -> bool {
        self.check_errors == 0 && self.corruptions == 0 && self.leaks == 0
    }
}
