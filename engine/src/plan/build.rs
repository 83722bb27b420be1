//! Building refcount structures anew, and what a new snapshot table takes and leaves.

use super::RepairError;
use super::make::Draft;
use super::phase::{Phase, PhaseKind, Target, at_once};
use super::room::Room;
use super::snapshots::{self, Remedy};
use crate::rebuild::{self, Layout};
use crate::step::Step;
use crate::table::{Run, RunSet, push};
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
        let released = self.released_by_remedy();
        self.released.insert(released);
        Ok(self.counts.remove(released, 1)?)
    }

    /// Plans new structures, and a new snapshot table where that is due.
    pub(super) fn build(&mut self, doubtful: RunSet) -> Result<Vec<Phase>, RepairError> {
        let room = self.room(doubtful);
        self.mend_corruptions(self.look.old.corruptions + self.look.comparison.corruptions);
        if !self.keeps {
            self.released.extend(&self.look.old.clusters);
            self.released.extend(&self.look.old.claimed);
        }
        let mut table = Default::default();
        if let Some(remedy) = self.remedy.filter(|remedy| remedy.rewrites) {
            table = self.place_snapshots(&room, remedy.snapshots)?;
        }
        let layout = room.seek(self, |input| rebuild::plan(self.options.algorithm, input))?;
        // A reftable that was given up for a larger one is not counted.
        for (_, cluster) in &layout.refblocks {
            self.counts.add(Run::single(*cluster), 1)?;
        }
        self.counts.add(layout.reftable, 1)?;
        self.keep_up_to(layout.end())?;
        let phases = self.switch_to(&layout, table)?;
        self.layout = Some(layout);
        Ok(phases)
    }

    /// Keeps refcounts of clusters behind the end of a damaged image's file, as far as it grows.
    fn keep_up_to(&mut self, end: Cluster) -> Result<(), RepairError> {
        let file = Cluster(self.image.extent.clusters.0);
        let mut on_disk = self.look.disk_counts(&self.image, self.storage);
        let mut allocated = Vec::new();
        for cluster in Run::new(file, end.since(file)).iter() {
            let refcount = on_disk.get(cluster)?.unwrap_or_default();
            if refcount > 0 && self.counts.get(cluster) == 0 {
                push(&mut allocated, (cluster, refcount))?;
            }
        }
        if !allocated.is_empty() && self.is_damaged()? {
            self.kept.clusters += allocated.len() as u64;
            for (cluster, refcount) in allocated {
                self.counts.set(cluster, refcount)?;
            }
        }
        Ok(())
    }

    /// The writes of new structures and of a new snapshot table, and the switch to them.
    fn switch_to(
        &self,
        layout: &Layout,
        (table_offset, table): (Offset, Vec<u8>),
    ) -> Result<Vec<Phase>, RepairError> {
        let geometry = self.image.geometry();
        let offset_of = |cluster: Cluster| Offset(cluster.0 << geometry.cluster_bits());
        let table = (!table.is_empty()).then_some(Target::Bytes(table_offset, table));
        let refblocks = layout.refblocks.iter();
        let refblocks = refblocks.map(|(number, at)| Target::NewRefblock(*number, offset_of(*at)));
        let written = table.into_iter().chain(refblocks);
        let (start, clusters) = (offset_of(layout.reftable.first), layout.reftable.count);
        let part = at_once(geometry) as usize;
        let bytes = layout.encode_reftable(geometry)?;
        let places = (start.0..).step_by(part).map(Offset);
        let parts = places.zip(bytes.chunks(part));
        let reftable = parts.map(|(at, part)| Target::Bytes(at, part.to_vec()));
        // One write, within one sector.
        let mut pointer = start.0.to_be_bytes().to_vec();
        pointer.extend((clusters.0 as u32).to_be_bytes());
        if let Some(remedy) = self.remedy {
            pointer.extend(remedy.snapshots.to_be_bytes());
            if remedy.rewrites {
                pointer.extend(table_offset.0.to_be_bytes());
            }
        }
        let pointer = Target::Bytes(geometry.reftable_pointer_offset(), pointer);
        let rebuilt = Step::Rebuilt {
            reftable: start,
            reftable_clusters: clusters,
            refblocks: layout.refblocks.len() as u64,
        };
        let steps = [rebuilt].into_iter().chain(self.remedy.map(Remedy::step));
        Ok(vec![
            Phase::new(PhaseKind::Build, [], written),
            Phase::new(PhaseKind::Reftable, [], reftable),
            Phase::new(PhaseKind::Switch, steps, [pointer]),
        ])
    }

    /// Where a table with the first snapshots goes, and its bytes; none where there is none.
    fn place_snapshots(
        &mut self,
        room: &Room,
        snapshots: u32,
    ) -> Result<(Offset, Vec<u8>), RepairError> {
        let geometry = self.image.geometry();
        let entries = &self.look.references.snapshots.entries[..snapshots as usize];
        let mut bytes = snapshots::bytes_of(&self.image, self.storage, entries)?;
        let clusters = geometry.clusters_for(bytes.len() as u64);
        if clusters == ClusterCount(0) {
            return Ok((Offset(0), bytes));
        }
        bytes.resize((clusters.0 << geometry.cluster_bits()) as usize, 0);
        let place = room.seek(self, |input| rebuild::lowest_free_run(input, clusters))?;
        let offset = Offset(place.first.0 << geometry.cluster_bits());
        self.counts.add(place, 1)?;
        Ok((offset, bytes))
    }
}
