//! The writes of a repair, in phases: what is described here is made into bytes one write at a time,
//! so that a plan takes no more memory than what it is made from.

use std::ops::Range;

use super::tables::{MendedTable, mend};
use super::{RepairError, RepairPlan};
use crate::geometry::Geometry;
use crate::step::Step;
use crate::storage::Storage;
use crate::table::width;
use crate::units::{Offset, RefblockIndex};

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
        steps: impl IntoIterator<Item = Step>,
        targets: impl IntoIterator<Item = Target>,
    ) -> Self {
        Self {
            kind,
            steps: steps.into_iter().collect(),
            targets: targets.into_iter().collect(),
        }
    }

    /// The targets of each of its writes: one, or new refblocks that lie side by side.
    pub(crate) fn writes(&self, geometry: &Geometry) -> impl Iterator<Item = &[Target]> {
        let size = geometry.cluster_size();
        let follows = move |one: &Target, next: &Target| match (one, next) {
            (Target::NewRefblock(_, one), Target::NewRefblock(_, next)) => one.0 + size == next.0,
            _ => false,
        };
        let most = (at_once(geometry) / size) as usize;
        let runs = self.targets.chunk_by(follows);
        runs.flat_map(move |run| run.chunks(most))
    }
}

/// Bytes that are written at once, at most: enough to make joining worthwhile, little enough to hold.
pub(super) fn at_once(geometry: &Geometry) -> u64 {
    geometry.cluster_size().max(1 << 20)
}

/// What is written to.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// A place, and its bytes.
    Bytes(Offset, Vec<u8>),
    /// A refblock that is built, and its place.
    NewRefblock(RefblockIndex, Offset),
    /// A refblock that is there, and its place.
    Refblock(RefblockIndex, Offset),
    /// A table that entries change in.
    Table(MendedTable),
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
            for targets in phase.writes(self.counts.geometry()) {
                if let Some(offset) = self.write(phase.kind, targets, storage, &mut bytes)? {
                    visit(at, offset, &bytes)?;
                }
            }
        }
        Ok(())
    }

    /// Where a write of a phase goes, and its bytes: all of them where everything is new, otherwise
    /// what differs from before, from the first to the last; `None` where nothing does.
    pub(crate) fn write(
        &self,
        kind: PhaseKind,
        targets: &[Target],
        storage: &dyn Storage,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<Offset>, RepairError> {
        bytes.clear();
        for target in targets {
            self.read(target, storage, bytes)?;
        }
        let Some(target) = targets.first() else {
            return Ok(None);
        };
        let start = self.place(target).start;
        // Entries are written whole.
        let unit = match target {
            Target::Bytes(..) | Target::NewRefblock(..) => return Ok(Some(Offset(start))),
            Target::Refblock(..) => 1,
            Target::Table(_) => 8,
        };
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
        Ok(Some(Offset(start + first as u64)))
    }

    /// What will be at a target's place.
    pub(super) fn made(
        &self,
        target: &Target,
        storage: &dyn Storage,
    ) -> Result<Vec<u8>, RepairError> {
        let mut bytes = Vec::new();
        self.read(target, storage, &mut bytes)?;
        self.change(target, Stage::Final, storage, &mut bytes)?;
        Ok(bytes)
    }

    /// The bytes that a write to a target may touch.
    pub(super) fn place(&self, target: &Target) -> Range<u64> {
        let (offset, length) = match target {
            Target::Bytes(offset, bytes) => (offset, bytes.len() as u64),
            Target::NewRefblock(_, offset) | Target::Refblock(_, offset) => {
                (offset, self.counts.geometry().cluster_size())
            }
            Target::Table(table) => (&table.offset, table.length(&self.image)),
        };
        offset.0..offset.0.saturating_add(length)
    }

    /// Appends what is at a target's place now or, where all of it is new, what will be.
    fn read(
        &self,
        target: &Target,
        storage: &dyn Storage,
        bytes: &mut Vec<u8>,
    ) -> Result<(), RepairError> {
        let place = self.place(target);
        let (held, length) = (bytes.len(), (place.end - place.start) as usize);
        bytes.try_reserve(length)?;
        bytes.resize(held + length, 0);
        let bytes = &mut bytes[held..];
        match target {
            Target::Bytes(_, given) => bytes.copy_from_slice(given),
            Target::NewRefblock(refblock, _) => self.counts.encode(*refblock, bytes),
            Target::Refblock(refblock, _) => {
                let on_disk = self.look.comparison.differing.get(refblock);
                if let Some(on_disk) = on_disk.filter(|found| found.len() == length) {
                    bytes.copy_from_slice(on_disk);
                }
            }
            Target::Table(table) => storage.read_at(table.offset, bytes)?,
        }
        Ok(())
    }

    /// Makes the changes up to a stage.
    fn change(
        &self,
        target: &Target,
        stage: Stage,
        storage: &dyn Storage,
        bytes: &mut [u8],
    ) -> Result<(), RepairError> {
        match target {
            Target::Bytes(..) | Target::NewRefblock(..) => {}
            Target::Refblock(refblock, _) => {
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
            Target::Table(table) => {
                let (look, is_rebuilt) = (&self.look, self.layout.is_some());
                let mut counts = look.counts_after(&self.counts, is_rebuilt, &self.image, storage);
                mend(table, stage, &mut counts, bytes)?;
            }
        }
        Ok(())
    }
}
