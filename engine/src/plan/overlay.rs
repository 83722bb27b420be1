//! An image with a plan laid over it: what its bytes will be, before any of them is written.

use std::borrow::Cow;
use std::io;
use std::ops::Range;

use super::phase::Target;
use super::{RepairError, RepairPlan};
use crate::references::BATCH_BYTES;
use crate::storage::{Operation, Storage, StorageError, failed};
use crate::table::push;
use crate::units::Offset;

const READ_ONLY: io::ErrorKind = io::ErrorKind::ReadOnlyFilesystem;

/// Where something is laid over the image, and what.
type Patch<'a> = (Range<u64>, Cow<'a, Target>);

/// Reads as `base` will once the plan is carried out; cannot be written to.
pub(crate) struct Overlay<'a> {
    base: &'a dyn Storage,
    plan: &'a RepairPlan,
    /// By where they lie; they do not overlap.
    patches: Vec<Patch<'a>>,
}

impl<'a> Overlay<'a> {
    pub fn new(base: &'a dyn Storage, plan: &'a RepairPlan) -> Result<Self, RepairError> {
        let mut patches: Vec<Patch<'a>> = Vec::new();
        for target in plan.phases.iter().flat_map(|phase| &phase.targets) {
            push(&mut patches, (plan.place(target), Cow::Borrowed(target)))?;
        }
        // What is written in two phases is one patch.
        patches.sort_by_key(|(place, _)| place.start);
        patches.dedup_by_key(|(place, _)| place.start);
        for (place, target) in &mut patches {
            if matches!(&**target, Target::Table(table) if table.is_l1) {
                // All of it is looked at to make any of its bytes.
                let bytes = plan.made(target, base)?;
                *target = Cow::Owned(Target::Bytes(Offset(place.start), bytes));
            }
        }
        Ok(Self {
            base,
            plan,
            patches,
        })
    }

    /// An error where what is laid over the image is not what it holds, as it should once it has been
    /// written.
    pub fn read_back(&self) -> Result<(), RepairError> {
        let size = self.plan.counts.geometry().cluster_size() as usize;
        let most = (BATCH_BYTES / size).max(1);
        let follows = |(one, _): &Patch<'_>, (next, _): &Patch<'_>| one.end == next.start;
        let (mut found, mut planned) = (Vec::new(), Vec::new());
        let runs = self.patches.chunk_by(follows);
        for patches in runs.flat_map(|run| run.chunks(most)) {
            planned.clear();
            for (_, target) in patches {
                planned.extend_from_slice(&self.bytes_of(target)?);
            }
            found.resize(planned.len(), 0);
            let offset = Offset(patches[0].0.start);
            self.base.read_at(offset, &mut found)?;
            if found != planned {
                return Err(RepairError::ReadBack { offset });
            }
        }
        Ok(())
    }

    /// The patches that reach over a part of the bytes.
    fn touching(&self, range: &Range<u64>) -> &[Patch<'a>] {
        let first = self
            .patches
            .partition_point(|(place, _)| place.end <= range.start);
        let rest = &self.patches[first..];
        &rest[..rest.partition_point(|(place, _)| place.start < range.end)]
    }

    /// What will be at the place of a target.
    fn bytes_of<'t>(&self, target: &'t Target) -> Result<Cow<'t, [u8]>, RepairError> {
        match target {
            Target::Bytes(_, bytes) => Ok(Cow::Borrowed(bytes)),
            target => Ok(Cow::Owned(self.plan.made(target, self.base)?)),
        }
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
        let places = patches.iter().map(|(place, _)| place);
        let covered = places.fold(range.start, |end, place| {
            if place.start <= end { place.end } else { end }
        });
        if covered < range.end {
            self.base.read_at(offset, buffer)?;
        }
        let lay = |(place, target): &Patch<'_>| {
            copy(place.start, &self.bytes_of(target)?, offset.0, buffer);
            Ok(())
        };
        let laid = patches.iter().try_for_each(lay);
        laid.map_err(|error| match error {
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
}
