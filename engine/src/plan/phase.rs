//! The writes of a repair, in phases: what is described here is made into bytes one write at a time,
//! so that a plan takes no more memory than what it is made from.

use std::ops::Range;

use super::tables::mend;
use super::{RepairError, RepairPlan};
use crate::step::Step;
use crate::storage::Storage;
use crate::table::width;
use crate::units::{Cluster, Offset, RefblockIndex};

/// What a phase is for, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, derive_more::Display)]
#[expect(missing_docs, reason = "their texts say what they are")]
pub enum PhaseKind {
    #[display("clear unknown autoclear feature bits")]
    Features,
    /// Of the COPIED bits those that the final counts forbid.
    #[display("clear COPIED bits, replace entries")]
    Clear,
    /// Refblocks, and what else is built.
    #[display("write new structures into free clusters")]
    Build,
    /// In a phase of its own, so that whoever finds it after a power cut can tell by its refblocks
    /// what it is.
    #[display("write the reftable that leads to them")]
    Reftable,
    #[display("let the header lead to them")]
    Switch,
    #[display("raise refcounts")]
    Raise,
    #[display("lower refcounts")]
    Lower,
    #[display("set COPIED bits")]
    Set,
    #[display("clear the dirty and corrupt bits")]
    Flags,
}

/// How far what is written in two phases has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Counts are at least what they were and what they will be; COPIED is set only where it is set
    /// before and afterwards.
    Safe,
    /// All is as it will be.
    Final,
}

impl PhaseKind {
    const fn stage(self) -> Stage {
        match self {
            Self::Lower | Self::Set => Stage::Final,
            _ => Stage::Safe,
        }
    }
}

/// Writes that may reach the disk in any order, and the flush behind them.
#[derive(Clone, Debug)]
pub struct Phase {
    /// What it is for.
    pub kind: PhaseKind,
    /// What is done once it is durable.
    pub steps: Vec<Step>,
    pub(crate) targets: Vec<Target>,
}

impl Phase {
    pub(super) fn new(
        kind: PhaseKind,
        steps: impl Into<Vec<Step>>,
        targets: impl IntoIterator<Item = Target>,
    ) -> Self {
        Self {
            kind,
            steps: steps.into(),
            targets: targets.into_iter().collect(),
        }
    }
}

/// What one write goes to.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// A place, and its bytes.
    Bytes(Box<(Offset, Vec<u8>)>),
    /// New refblocks that lie side by side, as a range of the layout's order.
    NewRefblocks(Range<u32>),
    /// A refblock that is there, or by then.
    Refblock(RefblockIndex),
    /// A table that entries change in, by its number.
    Table(u32),
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
            for target in &phase.targets {
                if let Some(offset) = self.write(phase.kind, target, storage, &mut bytes)? {
                    visit(at, offset, &bytes)?;
                }
            }
        }
        Ok(())
    }

    /// Where the write to a target of a phase goes, and its bytes: of what differs from before, from the first to
    /// the last; `None` where nothing does.
    pub(crate) fn write(
        &self,
        kind: PhaseKind,
        target: &Target,
        storage: &dyn Storage,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<Offset>, RepairError> {
        bytes.clear();
        // Entries are written whole.
        let unit = match target {
            Target::Bytes(write) => {
                let (offset, given) = &**write;
                bytes.try_reserve(given.len())?;
                bytes.extend_from_slice(given);
                return Ok(Some(*offset));
            }
            Target::NewRefblocks(order) => {
                let Some(layout) = &self.layout else {
                    return Ok(None);
                };
                let order = order.start as usize..order.end as usize;
                return Ok(Some(layout.encode_batch(order, &self.counts, bytes)?));
            }
            Target::Refblock(_) => 1,
            Target::Table(_) => 8,
        };
        let place = self.place(target);
        let length = (place.end - place.start) as usize;
        bytes.try_reserve(length)?;
        bytes.resize(length, 0);
        self.read(target, storage, bytes)?;
        let mut before = bytes.clone();
        let stage = kind.stage();
        if stage == Stage::Final {
            self.change(target, Stage::Safe, storage, &mut before)?;
        }
        self.change(target, stage, storage, bytes)?;
        let differs = |(old, new): (&u8, &u8)| old != new;
        let pairs = || before.iter().zip(&*bytes);
        let (Some(first), Some(last)) = (pairs().position(differs), pairs().rposition(differs))
        else {
            return Ok(None);
        };
        let first = first / unit * unit;
        bytes.truncate((last + 1).next_multiple_of(unit));
        bytes.drain(..first);
        Ok(Some(Offset(place.start + first as u64)))
    }

    /// The bytes that a write to a target may touch.
    pub(super) fn place(&self, target: &Target) -> Range<u64> {
        let geometry = self.counts.geometry();
        let (offset, length) = match target {
            Target::Bytes(write) => (write.0, write.1.len() as u64),
            // One by one they are targets as well.
            Target::NewRefblocks(_) => (Offset(0), 0),
            Target::Refblock(refblock) => (self.place_of(*refblock), geometry.cluster_size()),
            Target::Table(number) => {
                let table = &self.tables[*number as usize];
                (table.offset, table.length(&self.image))
            }
        };
        offset.0..offset.0.saturating_add(length)
    }

    /// Whether a target is the L1 table.
    pub(super) fn is_l1_table(&self, target: &Target) -> bool {
        matches!(target, Target::Table(number) if self.tables[*number as usize].is_l1)
    }

    /// A refblock's place, in the structures that the image will have.
    fn place_of(&self, refblock: RefblockIndex) -> Offset {
        let Some(layout) = &self.layout else {
            return self.look.old.place_of(refblock);
        };
        let placed = &layout.refblocks;
        let position = placed.binary_search_by_key(&refblock, |(refblock, _)| *refblock);
        let cluster = position.map_or(Cluster(0), |position| placed[position].1);
        Offset(cluster.0 << self.counts.geometry().cluster_bits())
    }

    /// Reads what changes, as it is now.
    pub(super) fn read(
        &self,
        target: &Target,
        storage: &dyn Storage,
        bytes: &mut [u8],
    ) -> Result<(), RepairError> {
        match target {
            Target::Bytes(write) => bytes.copy_from_slice(&write.1),
            Target::NewRefblocks(_) => {}
            Target::Refblock(refblock) => {
                let on_disk = self.look.comparison.differing.get(refblock);
                if let Some(on_disk) = on_disk.filter(|found| found.len() == bytes.len()) {
                    bytes.copy_from_slice(on_disk);
                }
            }
            Target::Table(_) => storage.read_at(Offset(self.place(target).start), bytes)?,
        }
        Ok(())
    }

    /// Makes the changes up to a stage.
    pub(super) fn change(
        &self,
        target: &Target,
        stage: Stage,
        storage: &dyn Storage,
        bytes: &mut [u8],
    ) -> Result<(), RepairError> {
        match target {
            Target::Bytes(_) | Target::NewRefblocks(_) => {}
            Target::Refblock(refblock) if self.layout.is_some() => {
                self.counts.encode(*refblock, bytes);
            }
            Target::Refblock(refblock) => {
                let geometry = self.counts.geometry();
                let first = geometry.first_covered(*refblock);
                let differences = self.look.comparison.differences_of(&self.counts, *refblock);
                for miscount in differences {
                    let count = miscount.references;
                    if stage == Stage::Final || miscount.refcount < count {
                        let index = miscount.cluster.since(first).0 as usize;
                        width::set(geometry.order(), bytes, index, count);
                    }
                }
            }
            Target::Table(number) => {
                let table = &self.tables[*number as usize];
                let (look, is_rebuilt) = (&self.look, self.layout.is_some());
                let mut counts = look.counts_after(&self.counts, is_rebuilt, &self.image, storage);
                mend(table, stage, &mut counts, bytes)?;
            }
        }
        Ok(())
    }
}
