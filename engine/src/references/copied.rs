//! What the walk alone says of COPIED bits, so that nobody has to look at them again.

use super::References;

impl References {
    /// Whether nothing can be wrong but the refcounts: all could be followed, nothing is to be
    /// replaced, and the COPIED bits are right once the refcounts are.
    pub(crate) fn are_sound(&self) -> bool {
        self.copied_is_right() && self.snapshots.corruptions == 0
    }

    /// Whether all COPIED bits of the active layer are right where each cluster's refcount is the
    /// number of its references: all are set, all could be followed, and no cluster is referred
    /// to twice, those that only compressed data shares aside.
    #[must_use]
    pub fn copied_is_right(&self) -> bool {
        self.all_copied
            && self.corruptions == 0
            && self.dead_ends.count == 0
            && (!self.table.has_shared() || self.only_compressed_is_shared())
    }

    /// Whether no cluster that can have the COPIED bit is referred to twice, because none of the
    /// data can have it, and of the L2 tables each is referred to once.
    fn only_compressed_is_shared(&self) -> bool {
        let geometry = self.table.geometry();
        let mut active = self.l2_tables.iter().filter(|(_, uses)| uses.active > 0);
        self.tally.allocated == self.tally.compressed
            && active.all(|(offset, _)| self.table.get(geometry.cluster_of(*offset)) == 1)
    }
}
