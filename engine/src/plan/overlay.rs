//! An image with a plan laid over it: what its bytes will be, before any of them is written.

use std::borrow::Cow;
use std::io;
use std::ops::Range;

use super::phase::{Stage, Target};
use super::{RepairError, RepairPlan};
use crate::storage::{Operation, Storage, StorageError, failed};
use crate::table::push;
use crate::units::Offset;

const READ_ONLY: io::ErrorKind = io::ErrorKind::ReadOnlyFilesystem;

/// Where something is laid over the image, and what.
type Patch<'a> = (Range<u64>, Cow<'a, Target>);

/// Reads as `base` will once the plan is carried out; cannot be written to.
pub(super) struct Overlay<'a> {
    base: &'a dyn Storage,
    plan: &'a RepairPlan,
    /// By where they lie; they do not overlap.
    patches: Vec<Patch<'a>>,
}

impl<'a> Overlay<'a> {
    pub fn new(base: &'a dyn Storage, plan: &'a RepairPlan) -> Result<Self, RepairError> {
        let mut patches: Vec<Patch<'a>> = Vec::new();
        let written = plan.phases.iter().flat_map(|phase| &phase.targets);
        let new = plan.layout.iter().flat_map(|layout| &layout.refblocks);
        let new = new.map(|(refblock, _)| Cow::Owned(Target::Refblock(*refblock)));
        for target in written.map(Cow::Borrowed).chain(new) {
            push(&mut patches, (plan.place(&target), target))?;
        }
        // What is written in two phases is one patch.
        patches.retain(|(place, _)| !place.is_empty());
        patches.sort_by_key(|(place, _)| place.start);
        patches.dedup_by_key(|(place, _)| place.start);
        let overlay = Self {
            base,
            plan,
            patches: Vec::new(),
        };
        for (place, target) in &mut patches {
            if plan.is_l1_table(target) {
                // All of it is looked at to make any of its bytes.
                let mut bytes = vec![0; (place.end - place.start) as usize];
                overlay.make(target, &mut bytes)?;
                let write = (Offset(place.start), bytes);
                *target = Cow::Owned(Target::Bytes(Box::new(write)));
            }
        }
        Ok(Self { patches, ..overlay })
    }

    /// Whether everything that is laid over the image is what it holds: as it should be once it has
    /// been written. The first place where it is not.
    pub fn differs(&self) -> Result<Option<Offset>, RepairError> {
        let (mut found, mut planned) = (Vec::new(), Vec::new());
        for patch in &self.patches {
            let Range { start, end } = patch.0;
            found.resize((end - start) as usize, 0);
            planned.resize(found.len(), 0);
            self.base.read_at(Offset(start), &mut found)?;
            self.apply(patch, start, &mut planned)?;
            if found != planned {
                return Ok(Some(Offset(start)));
            }
        }
        Ok(None)
    }

    /// The patches that reach over a part of the bytes.
    fn touching(&self, range: &Range<u64>) -> &[Patch<'a>] {
        let first = self
            .patches
            .partition_point(|(place, _)| place.end <= range.start);
        let rest = &self.patches[first..];
        &rest[..rest.partition_point(|(place, _)| place.start < range.end)]
    }

    /// Lays a patch over `buffer`, which begins at `start`.
    fn apply(&self, patch: &Patch<'_>, start: u64, buffer: &mut [u8]) -> Result<(), RepairError> {
        let (place, target) = patch;
        if let Target::Bytes(write) = &**target {
            copy(place.start, &write.1, start, buffer);
            return Ok(());
        }
        let length = (place.end - place.start) as usize;
        if let Some(first) = place.start.checked_sub(start)
            && let Some(whole) = buffer.get_mut(first as usize..first as usize + length)
        {
            return self.make(target, whole);
        }
        let mut bytes = vec![0; length];
        self.make(target, &mut bytes)?;
        copy(place.start, &bytes, start, buffer);
        Ok(())
    }

    /// Makes what will be at the place of a target.
    fn make(&self, target: &Target, bytes: &mut [u8]) -> Result<(), RepairError> {
        self.plan.read(target, self.base, bytes)?;
        self.plan.change(target, Stage::Final, self.base, bytes)
    }
}

/// Copies what `bytes`, which begin at `at`, and `buffer`, which begins at `start`, have in common.
fn copy(at: u64, bytes: &[u8], start: u64, buffer: &mut [u8]) {
    let from = at.max(start);
    let source = bytes.get((from - at) as usize..).unwrap_or_default();
    let target = buffer
        .get_mut((from - start) as usize..)
        .unwrap_or_default();
    let length = source.len().min(target.len());
    target[..length].copy_from_slice(&source[..length]);
}

impl Storage for Overlay<'_> {
    fn len(&self) -> u64 {
        self.plan.length
    }

    fn capacity(&self) -> Option<u64> {
        self.base.capacity()
    }

    fn read_at(&self, offset: Offset, buffer: &mut [u8]) -> Result<(), StorageError> {
        let range = offset.0..offset.0.saturating_add(buffer.len() as u64);
        let patches = self.touching(&range);
        let is_covered =
            |(place, _): &Patch<'_>| place.start <= range.start && range.end <= place.end;
        if !patches.first().is_some_and(is_covered) {
            self.base.read_at(offset, buffer)?;
        }
        let applied = patches
            .iter()
            .try_for_each(|patch| self.apply(patch, offset.0, buffer));
        applied.map_err(|error| match error {
            RepairError::Storage(error) => error,
            error => failed(Operation::Read, offset, range.end - offset.0)(io::Error::other(error)),
        })
    }

    fn next_data(&self, offset: Offset) -> Option<Offset> {
        let base = self.base.next_data(offset);
        let behind = self.touching(&(offset.0..u64::MAX)).first();
        let patched = behind.map(|(place, _)| Offset(place.start.max(offset.0)));
        base.into_iter().chain(patched).min()
    }

    fn write_at(&mut self, offset: Offset, bytes: &[u8]) -> Result<(), StorageError> {
        Err(failed(Operation::Write, offset, bytes.len() as u64)(
            READ_ONLY,
        ))
    }

    fn set_len(&mut self, length: u64) -> Result<(), StorageError> {
        Err(failed(Operation::SetLen, Offset(length), 0)(READ_ONLY))
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        Err(failed(Operation::Flush, Offset(0), 0)(READ_ONLY))
    }

    fn discard(&mut self, offset: Offset, length: u64) -> Result<(), StorageError> {
        Err(failed(Operation::Discard, offset, length)(READ_ONLY))
    }
}
