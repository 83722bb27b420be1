//! Building refcount structures anew, and what a new snapshot table takes and leaves.

use super::RepairError;
use super::make::Draft;
use super::phase::{Phase, PhaseKind, Target, at_once};
use super::room::Room;
use super::snapshots::{self, Remedy};
use crate::rebuild;
use crate::step::Step;
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

    /// New structures, a new snapshot table where that is due, and the switch to them.
    pub(super) fn build(&mut self, doubtful: RunSet) -> Result<Vec<Phase>, RepairError> {
        self.mend_corruptions(self.look.old.corruptions + self.look.comparison.corruptions);
        if !self.keeps {
            self.released.extend(&self.look.old.clusters);
            self.released.extend(&self.look.old.claimed);
        }
        let room = self.room(doubtful);
        let mut written = Vec::new();
        // The header's fields behind those that lead to the reftable lead to the snapshots.
        let mut snapshots = Vec::new();
        if let Some(remedy) = self.remedy {
            snapshots.extend(remedy.snapshots.to_be_bytes());
            if remedy.rewrites {
                let (offset, bytes) = self.place_snapshots(&room, remedy.snapshots)?;
                snapshots.extend(offset.0.to_be_bytes());
                written.extend((!bytes.is_empty()).then(|| Target::Bytes(offset, bytes)));
            }
        }
        let algorithm = self.options.algorithm;
        let layout = room.seek(&self.counts, |input| rebuild::plan(algorithm, input))?;
        // A reftable that was given up for a larger one is not counted.
        for (_, cluster) in &layout.refblocks {
            self.counts.add(Run::single(*cluster), 1)?;
        }
        self.counts.add(layout.reftable, 1)?;
        let geometry = self.image.geometry();
        let offset_of = |cluster: Cluster| Offset(cluster.0 << geometry.cluster_bits());
        let refblocks = layout.refblocks.iter();
        written
            .extend(refblocks.map(|(refblock, at)| Target::NewRefblock(*refblock, offset_of(*at))));
        let start = offset_of(layout.reftable.first);
        let part = at_once(geometry) as usize;
        let parts = (start.0..).step_by(part).map(Offset);
        let reftable = layout.encode_reftable(geometry)?;
        let reftable = parts.zip(reftable.chunks(part).map(<[u8]>::to_vec));
        let rebuilt = Step::Rebuilt {
            reftable: start,
            reftable_clusters: layout.reftable.count,
            refblocks: layout.refblocks.len() as u64,
        };
        let steps = [rebuilt].into_iter().chain(self.remedy.map(Remedy::step));
        // Written together, within one sector.
        let clusters = layout.reftable.count.0 as u32;
        let pointer = [
            &start.0.to_be_bytes()[..],
            &clusters.to_be_bytes(),
            &snapshots,
        ];
        let pointer = Target::Bytes(geometry.reftable_pointer_offset(), pointer.concat());
        let phases = vec![
            Phase::new(PhaseKind::Build, [], written),
            Phase::new(
                PhaseKind::Reftable,
                [],
                reftable.map(|(at, bytes)| Target::Bytes(at, bytes)),
            ),
            Phase::new(PhaseKind::Switch, steps, [pointer]),
        ];
        self.layout = Some(layout);
        Ok(phases)
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
        let place = room.seek(&self.counts, |input| {
            rebuild::lowest_free_run(input, clusters)
        })?;
        let offset = Offset(place.first.0 << geometry.cluster_bits());
        self.counts.add(place, 1)?;
        Ok((offset, bytes))
    }
}
