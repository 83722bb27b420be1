//! The writes of a repair, in phases: what is described here is made into bytes one write at a time,
//! so that a plan takes no more memory than what it is made from.

use super::tables::{Changes, mend_l1, mend_l2};
use super::{RepairError, RepairPlan, Structures};
use crate::rebuild::CommitError;
use crate::step::Step;
use crate::storage::Storage;
use crate::table::width;
use crate::units::{Cluster, Offset, RefblockIndex};

/// What a phase is for, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PhaseKind {
    /// Unknown autoclear feature bits are cleared.
    Features,
    /// COPIED bits are cleared that the final counts forbid, and entries replaced.
    Clear,
    /// New refblocks, and what else is built, are written into free clusters.
    Build,
    /// The reftable is written that leads to them. So whoever finds it after a power cut can tell by
    /// its refblocks what it is.
    Reftable,
    /// The header is made to lead to them.
    Switch,
    /// Refcounts are raised.
    Raise,
    /// Refcounts are lowered.
    Lower,
    /// COPIED bits are set.
    Set,
    /// The dirty and corrupt bits are cleared.
    Flags,
}

/// Writes that may reach the disk in any order, and the flush behind them.
#[derive(Clone, Debug)]
pub struct Phase {
    /// What it is for.
    pub kind: PhaseKind,
    /// What is done once it is durable.
    pub steps: Vec<Step>,
    pub(crate) works: Vec<Work>,
}

/// A part of a phase.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// These bytes.
    Bytes { offset: Offset, bytes: Vec<u8> },
    /// New refblocks.
    NewRefblocks,
    /// The reftable of these.
    NewReftable,
    /// What was counted in new refblocks only to keep QEMU's algorithms off it.
    LeftOver,
    /// Refcounts in refblocks that stay: those that are raised, or these and those that are lowered.
    Refcounts {
        refblocks: Vec<RefblockIndex>,
        lowers: bool,
    },
    /// The active L1 table.
    L1(Changes),
    /// L2 tables, by their number among those that are mended.
    L2 { tables: Vec<u32>, changes: Changes },
}

/// Told of each write: the number of its phase, where it goes, and its bytes.
pub type Visit<'a, E> = dyn FnMut(usize, Offset, &[u8]) -> Result<(), E> + 'a;

impl RepairPlan {
    /// Hands over every write, in order, with the number of its phase, as it would be on top of what
    /// `storage` holds now.
    pub fn for_each_write<E: From<RepairError>>(
        &self,
        storage: &dyn Storage,
        visit: &mut Visit<'_, E>,
    ) -> Result<(), E> {
        let mut bytes = Vec::new();
        for (at, phase) in self.phases.iter().enumerate() {
            for (work, number) in self.parts(phase) {
                if let Some(offset) = self.part(work, number, storage, &mut bytes)? {
                    visit(at, offset, &bytes)?;
                }
            }
        }
        Ok(())
    }

    /// The parts of a phase, each one write at most.
    pub(crate) fn parts<'a>(
        &'a self,
        phase: &'a Phase,
    ) -> impl Iterator<Item = (&'a Work, usize)> + 'a {
        phase.works.iter().flat_map(|work| {
            let count = match work {
                Work::Bytes { .. } | Work::L1(_) => 1,
                Work::NewRefblocks => self.writes.of_refblocks(),
                Work::NewReftable => self.writes.of_reftable(),
                Work::LeftOver => match &self.structures {
                    Structures::New { layout, .. } => layout.refblocks.len(),
                    Structures::Present { .. } => 0,
                },
                Work::Refcounts { refblocks, .. } => refblocks.len(),
                Work::L2 { tables, .. } => tables.len(),
            };
            (0..count).map(move |number| (work, number))
        })
    }

    /// Where a part goes, and its bytes; `None` where there is nothing to write.
    pub(crate) fn part(
        &self,
        work: &Work,
        number: usize,
        storage: &dyn Storage,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<Offset>, RepairError> {
        match work {
            Work::Bytes {
                offset,
                bytes: given,
            } => {
                bytes.clear();
                bytes.try_reserve(given.len())?;
                bytes.extend_from_slice(given);
                Ok(Some(*offset))
            }
            Work::NewRefblocks => self.new_structures(number, bytes),
            Work::NewReftable => self.new_structures(self.writes.of_refblocks() + number, bytes),
            Work::LeftOver => self.left_over(number, bytes),
            Work::Refcounts { refblocks, lowers } => {
                self.refcounts(refblocks.get(number).copied(), *lowers, bytes)
            }
            Work::L1(changes) => {
                let counts = &mut self.desired(storage);
                let mended = mend_l1(&self.image, storage, *changes, counts)?;
                Ok(mended.map(|(offset, mended)| {
                    *bytes = mended;
                    offset
                }))
            }
            Work::L2 { tables, changes } => {
                self.l2_table(tables.get(number).copied(), *changes, storage, bytes)
            }
        }
    }

    fn new_structures(
        &self,
        number: usize,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<Offset>, RepairError> {
        let Structures::New { layout, built } = &self.structures else {
            return Ok(None);
        };
        let counts = built.as_ref().unwrap_or(&self.counts);
        Ok(Some(self.writes.write(number, layout, counts, bytes)?))
    }

    /// What is lowered of what was counted more while new structures were built.
    fn left_over(&self, number: usize, bytes: &mut Vec<u8>) -> Result<Option<Offset>, RepairError> {
        let Structures::New {
            layout,
            built: Some(built),
        } = &self.structures
        else {
            return Ok(None);
        };
        let Some((refblock, cluster)) = layout.refblocks.get(number) else {
            return Ok(None);
        };
        let size = self.counts.geometry().cluster_size() as usize;
        let mut before = vec![0; size];
        built.encode(*refblock, &mut before);
        bytes.clear();
        bytes.resize(size, 0);
        self.counts.encode(*refblock, bytes);
        Ok(only_changed(&before, bytes, self.offset_of(*cluster)?))
    }

    /// A refblock that stays, with what is raised or with all that changes.
    fn refcounts(
        &self,
        refblock: Option<RefblockIndex>,
        lowers: bool,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<Offset>, RepairError> {
        let Some((refblock, on_disk)) =
            refblock.and_then(|refblock| self.comparison.differing.get_key_value(&refblock))
        else {
            return Ok(None);
        };
        bytes.clear();
        bytes.try_reserve(on_disk.len())?;
        bytes.extend_from_slice(on_disk);
        self.set_refcounts(*refblock, lowers, bytes);
        let raised = &mut Vec::new();
        let before: &[u8] = if lowers {
            // What was raised is there by then.
            raised.extend_from_slice(on_disk);
            self.set_refcounts(*refblock, false, raised);
            raised
        } else {
            on_disk
        };
        Ok(only_changed(before, bytes, self.place_of(*refblock)))
    }

    /// Sets the refcounts in the bytes of a refblock that are too low, and with `lowers` the others.
    pub(super) fn set_refcounts(&self, refblock: RefblockIndex, lowers: bool, bytes: &mut [u8]) {
        let geometry = self.counts.geometry();
        let differences = self.comparison.differences_of(&self.counts, refblock);
        for (cluster, refcount, count) in differences {
            if lowers || refcount < count {
                let index = cluster.since(geometry.first_covered(refblock)).0 as usize;
                width::set(geometry.order(), bytes, index, count);
            }
        }
    }

    fn l2_table(
        &self,
        number: Option<u32>,
        changes: Changes,
        storage: &dyn Storage,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<Offset>, RepairError> {
        let Some(table) = number.and_then(|number| self.mended.tables.get(number as usize)) else {
            return Ok(None);
        };
        bytes.clear();
        bytes.resize(self.counts.geometry().cluster_size() as usize, 0);
        storage.read_at(table.offset, bytes)?;
        let counts = &mut self.desired(storage);
        let range = mend_l2(&self.image, table, changes, counts, bytes)?;
        Ok(range.map(|range| {
            bytes.truncate(range.end);
            bytes.drain(..range.start);
            Offset(table.offset.0 + range.start as u64)
        }))
    }

    pub(super) fn offset_of(&self, cluster: Cluster) -> Result<Offset, RepairError> {
        let offset = self.counts.geometry().offset_of(cluster);
        Ok(offset.ok_or(CommitError::Unaddressable { cluster })?)
    }

    /// Where a refblock is that stays.
    pub(super) fn place_of(&self, refblock: RefblockIndex) -> Offset {
        match &self.structures {
            Structures::Present { reftable, .. } => reftable.entry(refblock).refblock(),
            Structures::New { .. } => Offset(0),
        }
    }
}

/// Leaves of `bytes`, which go to `offset`, what differs from `before`: from the first byte to the last.
fn only_changed(before: &[u8], bytes: &mut Vec<u8>, offset: Offset) -> Option<Offset> {
    let differs = |(old, new): (&u8, &u8)| old != new;
    let start = before.iter().zip(&*bytes).position(differs)?;
    let end = before.iter().zip(&*bytes).rposition(differs)?;
    bytes.truncate(end + 1);
    bytes.drain(..start);
    Some(Offset(offset.0 + start as u64))
}
