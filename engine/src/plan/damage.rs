//! Whether something is wrong with what refers to clusters, so that clusters without a reference may
//! be in use all the same.

use super::RepairError;
use super::lost;
use super::make::Draft;
use super::overlap;
use crate::finding::Finding;
use crate::references::DeadEnds;
use crate::table::RefcountTable;
use crate::units::Cluster;

/// As many allocated clusters without a reference as a crash in the middle of an allocation does not
/// leave: an L2 table without an entry had some before.
const EMPTIED_MIN: u64 = 16;

impl Draft<'_> {
    /// What is damaged. What costs I/O is looked for only where nothing was found before.
    pub(super) fn damage(&self) -> Result<DeadEnds, RepairError> {
        let mut damage = self.look.references.dead_ends.clone();
        if damage.count > 0 {
            return Ok(damage);
        }
        let leaked = || self.look.comparison.unreferenced(&self.counts);
        let may_be_emptied = self.look.references.has_empty_table;
        let clusters = may_be_emptied.then(|| leaked().count() as u64);
        if let Some(clusters @ EMPTIED_MIN..) = clusters {
            damage.push(Finding::EmptiedTables { clusters });
            return Ok(damage);
        }
        if self.counts.has_shared()
            && let Some(cluster) = overlap::look_for(self, self.without_structures()?)?
        {
            damage.push(Finding::Overlap { cluster });
            return Ok(damage);
        }
        lost::look_for(self, &mut leaked(), &mut damage)?;
        Ok(damage)
    }

    /// The counts without the references of the present refcount structures.
    pub(super) fn without_structures(&self) -> Result<RefcountTable, RepairError> {
        let mut counts = self.counts.clone();
        self.look.old.uncount(&mut counts)?;
        Ok(counts)
    }

    /// Whether something is damaged and not to be passed over, where nothing leaked and the present
    /// structures are counted no more.
    pub(super) fn is_damaged(&self) -> Result<bool, RepairError> {
        let overlaps = || overlap::look_for(self, self.counts.clone());
        Ok(self.keeps || !self.options.release_unreachable && overlaps()?.is_some())
    }

    /// Whether an allocated cluster has no reference.
    pub fn is_leaked(&self, cluster: Cluster) -> Result<bool, RepairError> {
        let mut on_disk = self.look.disk_counts(&self.image, self.storage);
        let may_be = cluster.0 < self.look.comparison.compared.0 && self.counts.get(cluster) == 0;
        Ok(may_be && on_disk.get(cluster)?.is_some_and(|said| said > 0))
    }
}
