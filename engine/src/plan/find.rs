//! What is known of the clusters that nothing refers to, for those who look for what a damaged table has
//! led to. A cluster is lost if it is allocated, or holds something where no refcount can be relied on.

use super::lost::{ENOUGH, are_refcounts, leads_to, may_be_refcounts};
pub use super::lost::{READ_MAX, SAMPLE};
use super::make::Draft;
use super::{RepairError, RepairOptions, room};
use crate::check::Survey;
use crate::format::snapshot::{FIXED_BYTES, SnapshotEntry};
use crate::references::{has_id, looks_like_l2_table};
use crate::storage::{Storage, StorageError};
use crate::table::{RefcountTable, RunSet};
use crate::units::{Cluster, Offset};

/// The clusters of an image that nothing refers to.
pub struct Lost<'a> {
    draft: Draft<'a>,
    /// The counts without the present refcount structures.
    counts: RefcountTable,
    doubtful: RunSet,
}

impl<'a> Lost<'a> {
    /// Of an image as it has been looked at.
    pub fn of(
        storage: &'a dyn Storage,
        survey: Survey,
        options: &'a RepairOptions,
    ) -> Result<Self, RepairError> {
        let draft = Draft::of(storage, survey, options)?;
        Ok(Self {
            counts: draft.without_structures()?,
            doubtful: room::doubtful(&draft.look, &draft.counts, draft.image.extent.clusters),
            draft,
        })
    }

    /// All that are lost, those that are allocated first, each part in ascending order.
    pub fn clusters(&self) -> impl Iterator<Item = Cluster> {
        let (comparison, counts) = (&self.draft.look.comparison, &self.draft.counts);
        let (bits, mut from) = (counts.geometry().cluster_bits(), Cluster(0));
        let leaked = comparison.unreferenced(counts);
        // Holes are passed over.
        let doubtful = std::iter::from_fn(move || {
            loop {
                let data = self.draft.storage.next_data(Offset(from.0 << bits))?;
                let stored = from.max(Cluster(data.0 >> bits));
                from = self.doubtful.next_from(stored)?;
                if from == stored {
                    from = Cluster(stored.0 + 1);
                    return Some(stored);
                }
            }
        });
        let is_new =
            |at: &Cluster| counts.get(*at) == 0 && !self.draft.is_leaked(*at).unwrap_or(false);
        leaked.chain(doubtful.filter(is_new))
    }

    /// Whether a cluster is one of them.
    pub fn contains(&self, cluster: Cluster) -> Result<bool, RepairError> {
        let is_doubtful = self.doubtful.contains(cluster) && self.draft.counts.get(cluster) == 0;
        Ok(is_doubtful || self.draft.is_leaked(cluster)?)
    }

    /// Whether bytes, perhaps only the first ones of a cluster, are as those of an L2 table are.
    pub fn looks_like_l2_table(&self, bytes: &[u8]) -> bool {
        looks_like_l2_table(&self.draft.image, bytes)
    }

    /// To how many others of them a cluster leads as an L2 table.
    pub fn behind(&self, table: Cluster, bytes: &[u8]) -> Result<u64, RepairError> {
        let is_lost = |cluster| self.contains(cluster);
        leads_to(&self.draft, &self.counts, table, bytes, &is_lost)
    }

    /// Whether the first bytes of a cluster can be those of a refblock.
    pub fn may_be_refblock(&self, sample: &[u8]) -> bool {
        may_be_refcounts(&self.counts, sample, |_| true)
    }

    /// Whether a cluster is a refblock that is right for all that is in use.
    pub fn is_refblock(&self, own: Cluster, bytes: &[u8]) -> bool {
        are_refcounts(&self.counts, bytes, [own; 2], ENOUGH, |_| true)
    }

    /// Whether a snapshot's entry is there, as the first one of a snapshot table.
    pub fn is_snapshot(&self, at: Offset) -> Result<bool, StorageError> {
        let mut bytes = [0; FIXED_BYTES as usize];
        self.draft.storage.read_at(at, &mut bytes)?;
        let (entry, image) = (SnapshotEntry::parse(at, &bytes), &self.draft.image);
        let offset = entry.l1_table_offset;
        let has_l1 = image.geometry().is_aligned(offset)
            && (1..image.extent.bytes).contains(&offset.0)
            && entry.l1_size > 0;
        Ok(has_l1
            && !entry.is_misshapen(image.header.version)
            && has_id(self.draft.storage, &entry)?)
    }
}
