//! Building refcount structures anew, and what a new snapshot table takes and leaves.

use super::make::{Draft, NewSnapshotTable};
use super::room::Room;
use super::snapshots::{self, Remedy};
use super::{RepairError, Structures};
use crate::rebuild::Algorithm;
use crate::table::{RefcountTable, Run, RunSet};
use crate::units::{Cluster, ClusterCount, Offset};

impl Draft<'_> {
    pub(super) fn mend_corruptions(&mut self, corruptions: u64) {
        self.fixed.corruptions += corruptions;
        self.left = self.left.saturating_sub(corruptions);
    }

    /// With `-r leaks` refcounts that are too low stay so.
    pub(super) fn leave_low(&mut self) -> Result<(), RepairError> {
        let refblocks: Vec<_> = self.look.comparison.differing.keys().copied().collect();
        for refblock in refblocks {
            let differences = self.look.comparison.differences_of(&self.counts, refblock);
            let low = differences.filter(|(_, refcount, references)| refcount < references);
            for (cluster, refcount, _) in low.collect::<Vec<_>>() {
                self.counts.set(cluster, refcount)?;
            }
        }
        Ok(())
    }

    /// Takes out of the counts what the snapshot table takes up no more.
    pub(super) fn shorten_snapshots(&mut self) -> Result<(), RepairError> {
        let table = &self.look.references.snapshots;
        if self.remedy != Remedy::None {
            self.fixed.corruptions += table.corruptions;
        }
        let had_snapshots = !table.entries.is_empty();
        let released = self.remedy.released(&self.image, table);
        if matches!(self.remedy, Remedy::Shorten(0) | Remedy::Rewrite(0))
            && had_snapshots
            && self.image.header.has_data_file()
        {
            // There are no snapshots any more that should not be there.
            self.mend_corruptions(1);
        }
        for cluster in released {
            let count = self.counts.get(cluster).saturating_sub(1);
            self.counts.set(cluster, count)?;
            if count == 0 {
                self.released.insert(Run::single(cluster));
            }
        }
        Ok(())
    }

    /// Plans new structures, and a new snapshot table where that is due.
    pub(super) fn build(&mut self, doubtful: RunSet) -> Result<Structures, RepairError> {
        let algorithm = self.options.algorithm;
        let planned = algorithm == Algorithm::Planned;
        self.mend_corruptions(self.look.old.corruptions + self.look.comparison.corruptions);
        let mut built = (!planned).then(|| self.counts.clone());
        self.look.old.uncount(&mut self.counts)?;
        for (cluster, refcount) in &self.kept_structures {
            self.counts.set(*cluster, *refcount)?;
        }
        if !self.keeps {
            self.released.extend(&self.look.old.clusters);
            self.released.extend(&self.look.old.claimed);
        }
        let ground = built.as_ref().unwrap_or(&self.counts);
        let room = Room::new(
            &self.extent,
            &self.beyond,
            ground,
            doubtful,
            (self.storage.capacity(), self.storage.len()),
        );
        let old_table = self
            .remedy
            .released(&self.image, &self.look.references.snapshots);
        let room = room.without(self.options, &self.look, &old_table);
        if let Remedy::Rewrite(snapshots) = self.remedy {
            let place = self.place_snapshots(&room, snapshots, built.as_ref())?;
            self.counts.add(place, 1)?;
            if let Some(built) = &mut built {
                built.add(place, 1)?;
            }
        }
        let layout = room.plan(algorithm, built.as_ref().unwrap_or(&self.counts))?;
        if let Some(built) = &mut built {
            for run in layout.allocated().runs() {
                built.add(*run, 1)?;
            }
        }
        for (_, cluster) in &layout.refblocks {
            self.counts.add(Run::single(*cluster), 1)?;
        }
        self.counts.add(layout.reftable, 1)?;
        Ok(Structures::New { layout, built })
    }

    fn place_snapshots(
        &mut self,
        room: &Room,
        snapshots: usize,
        built: Option<&RefcountTable>,
    ) -> Result<Run, RepairError> {
        let geometry = *self.image.geometry();
        let entries = &self.look.references.snapshots.entries[..snapshots];
        let mut bytes = snapshots::bytes_of(&self.image, self.storage, entries)?;
        let clusters = geometry.clusters_for(bytes.len() as u64);
        let place = if clusters == ClusterCount(0) {
            Run::new(Cluster(0), clusters)
        } else {
            room.lowest_free_run(built.unwrap_or(&self.counts), clusters)?
        };
        bytes.resize((clusters.0 << geometry.cluster_bits()) as usize, 0);
        self.new_table = Some(NewSnapshotTable {
            offset: Offset(place.first.0 << geometry.cluster_bits()),
            bytes,
            snapshots: snapshots as u32,
        });
        Ok(place)
    }
}
