//! Building refcount structures anew, and what a new snapshot table takes and leaves.

use super::RepairError;
use super::make::Draft;
use super::room::Room;
use super::snapshots;
use crate::rebuild::{self, Layout};
use crate::table::{Run, RunSet};
use crate::units::{Cluster, ClusterCount, Offset};

impl Draft<'_> {
    /// Takes out of the counts what the snapshot table takes up no more.
    pub(super) fn shorten_snapshots(&mut self) -> Result<(), RepairError> {
        let table = &self.look.references.snapshots;
        if self.remedy.is_some() {
            self.fixed.corruptions += table.corruptions;
        }
        let gives_up_all = self.remedy.is_some_and(|remedy| remedy.snapshots == 0);
        if gives_up_all && !table.entries.is_empty() && self.image.header.has_data_file() {
            // There are no snapshots any more that should not be there.
            self.mend_corruptions(1);
        }
        for cluster in self.released_by_remedy() {
            let count = self.counts.get(cluster).saturating_sub(1);
            self.counts.set(cluster, count)?;
            if count == 0 {
                self.released.insert(Run::single(cluster));
            }
        }
        Ok(())
    }

    /// Plans new structures, and a new snapshot table where that is due.
    pub(super) fn build(&mut self, doubtful: RunSet) -> Result<Layout, RepairError> {
        self.mend_corruptions(self.look.old.corruptions + self.look.comparison.corruptions);
        if !self.keeps {
            self.released.extend(&self.look.old.clusters);
            self.released.extend(&self.look.old.claimed);
        }
        let room = self.room(doubtful);
        if let Some(remedy) = self.remedy.filter(|remedy| remedy.rewrites) {
            self.place_snapshots(&room, remedy.snapshots)?;
        }
        let algorithm = self.options.algorithm;
        let mut layout = room.seek(&self.counts, |input| rebuild::plan(algorithm, input))?;
        // The counts are the final ones, so each refblock is written once.
        layout.order = (0..layout.refblocks.len()).collect();
        // A reftable that was given up for a larger one is not counted.
        for (_, cluster) in &layout.refblocks {
            self.counts.add(Run::single(*cluster), 1)?;
        }
        self.counts.add(layout.reftable, 1)?;
        Ok(layout)
    }

    fn place_snapshots(&mut self, room: &Room, snapshots: u32) -> Result<(), RepairError> {
        let geometry = self.image.geometry();
        let entries = &self.look.references.snapshots.entries[..snapshots as usize];
        let mut bytes = snapshots::bytes_of(&self.image, self.storage, entries)?;
        let clusters = geometry.clusters_for(bytes.len() as u64);
        let place = if clusters == ClusterCount(0) {
            Run::new(Cluster(0), clusters)
        } else {
            room.seek(&self.counts, |input| {
                rebuild::lowest_free_run(input, clusters)
            })?
        };
        bytes.resize((clusters.0 << geometry.cluster_bits()) as usize, 0);
        self.new_table = (Offset(place.first.0 << geometry.cluster_bits()), bytes);
        Ok(self.counts.add(place, 1)?)
    }
}
