//! An image with a plan laid over it: what its bytes will be, before any of them is written.

use std::io;
use std::ops::Range;

use super::phase::Work;
use super::tables::{Changes, mend_l2};
use super::{RepairError, RepairPlan, Structures};
use crate::storage::{Operation, Storage, StorageError};
use crate::units::{Offset, RefblockIndex};

/// What is laid over a part of the image.
enum Patch<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// A new refblock.
    NewRefblock(RefblockIndex),
    /// The new reftable.
    NewReftable,
    /// A refblock that stays.
    Refblock(RefblockIndex),
    /// The active L1 table, with these bytes from the first changed to the last.
    L1(Vec<u8>),
    /// An L2 table, by its number among those that are mended.
    L2(usize),
}

/// Reads as `base` will once the plan is carried out; cannot be written to.
pub(super) struct Overlay<'a> {
    base: &'a dyn Storage,
    plan: &'a RepairPlan,
    /// By where they lie; they do not overlap.
    patches: Vec<(Range<u64>, Patch<'a>)>,
}

impl<'a> Overlay<'a> {
    pub fn new(base: &'a dyn Storage, plan: &'a RepairPlan) -> Result<Self, RepairError> {
        let mut overlay = Self {
            base,
            plan,
            patches: Vec::new(),
        };
        overlay.lay_structures()?;
        for work in plan.phases.iter().flat_map(|phase| &phase.works) {
            if let Work::Bytes { offset, bytes } = work {
                overlay.lay(*offset, bytes.len() as u64, Patch::Bytes(bytes))?;
            }
        }
        let size = plan.counts.geometry().cluster_size();
        for (number, table) in plan.mended.tables.iter().enumerate() {
            overlay.lay(table.offset, size, Patch::L2(number))?;
        }
        if plan.mended.l1 != (0, 0) {
            let counts = &mut plan.desired(base);
            let mended = super::tables::mend_l1(&plan.image, base, Changes::All, counts)?;
            if let Some((offset, bytes)) = mended {
                overlay.lay(offset, bytes.len() as u64, Patch::L1(bytes))?;
            }
        }
        overlay.patches.sort_by_key(|(range, _)| range.start);
        Ok(overlay)
    }

    fn lay_structures(&mut self) -> Result<(), RepairError> {
        let size = self.plan.counts.geometry().cluster_size();
        match &self.plan.structures {
            Structures::New { layout, .. } => {
                for (refblock, cluster) in &layout.refblocks {
                    let offset = self.plan.offset_of(*cluster)?;
                    self.lay(offset, size, Patch::NewRefblock(*refblock))?;
                }
                let offset = self.plan.offset_of(layout.reftable.first)?;
                let length = layout.reftable.count.0 * size;
                self.lay(offset, length, Patch::NewReftable)
            }
            Structures::Present { .. } => {
                for refblock in self.plan.changed_refblocks() {
                    let offset = self.plan.place_of(*refblock);
                    self.lay(offset, size, Patch::Refblock(*refblock))?;
                }
                Ok(())
            }
        }
    }

    fn lay(&mut self, offset: Offset, length: u64, patch: Patch<'a>) -> Result<(), RepairError> {
        self.patches.try_reserve(1)?;
        let range = offset.0..offset.0.saturating_add(length);
        self.patches.push((range, patch));
        Ok(())
    }

    /// Whether everything that is laid over the image is what it holds: as it should be once it has
    /// been written. The first place where it is not.
    pub fn differs(&self) -> Result<Option<Offset>, RepairError> {
        const PIECE_BYTES: u64 = 1 << 20;
        let (mut found, mut planned) = (Vec::new(), Vec::new());
        for patch in &self.patches {
            let range = &patch.0;
            let mut start = range.start;
            while start < range.end {
                let length = (range.end - start).min(PIECE_BYTES.max(self.cluster_size()));
                found.resize(length as usize, 0);
                planned.resize(length as usize, 0);
                self.base.read_at(Offset(start), &mut found)?;
                self.apply(patch, start, &mut planned)?;
                if found != planned {
                    return Ok(Some(Offset(start)));
                }
                start += length;
            }
        }
        Ok(None)
    }

    fn cluster_size(&self) -> u64 {
        self.plan.counts.geometry().cluster_size()
    }

    /// The patches that reach over a part of the bytes.
    fn touching(&self, range: &Range<u64>) -> &[(Range<u64>, Patch<'a>)] {
        let first = self
            .patches
            .partition_point(|(other, _)| other.end <= range.start);
        let rest = &self.patches[first..];
        &rest[..rest.partition_point(|(other, _)| other.start < range.end)]
    }

    /// Lays a patch over `buffer`, which begins at `start`.
    fn apply(
        &self,
        (range, patch): &(Range<u64>, Patch<'a>),
        start: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        let size = self.cluster_size();
        match patch {
            Patch::Bytes(bytes) => copy(range.start, bytes, start, buffer),
            Patch::L1(bytes) => copy(range.start, bytes, start, buffer),
            Patch::NewRefblock(refblock) => {
                self.with_cluster(range.start, start, buffer, |bytes| {
                    self.plan.counts.encode(*refblock, bytes);
                    Ok(())
                })?;
            }
            Patch::Refblock(refblock) => {
                self.with_cluster(range.start, start, buffer, |bytes| {
                    if let Some(on_disk) = self.plan.comparison.differing.get(refblock) {
                        bytes.copy_from_slice(on_disk);
                        self.plan.set_refcounts(*refblock, true, bytes);
                    }
                    Ok(())
                })?;
            }
            Patch::NewReftable => {
                let Structures::New { layout, .. } = &self.plan.structures else {
                    return Ok(());
                };
                let geometry = self.plan.counts.geometry();
                let mut at = range.start.max(start / size * size);
                while at < range.end && at < start + buffer.len() as u64 {
                    self.with_cluster(at, start, buffer, |bytes| {
                        bytes.fill(0);
                        layout.encode_reftable(geometry, at - range.start, bytes);
                        Ok(())
                    })?;
                    at += size;
                }
            }
            Patch::L2(number) => {
                let table = &self.plan.mended.tables[*number];
                self.with_cluster(range.start, start, buffer, |bytes| {
                    self.base.read_at(table.offset, bytes)?;
                    let counts = &mut self.plan.desired(self.base);
                    mend_l2(&self.plan.image, table, Changes::All, counts, bytes)?;
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// Makes the bytes of a cluster at `at`, in `buffer` if all of them are wanted.
    fn with_cluster(
        &self,
        at: u64,
        start: u64,
        buffer: &mut [u8],
        make: impl FnOnce(&mut [u8]) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let size = self.cluster_size() as usize;
        if let Some(first) = at.checked_sub(start)
            && let Some(whole) = buffer.get_mut(first as usize..first as usize + size)
        {
            return make(whole);
        }
        let mut bytes = vec![0; size];
        make(&mut bytes)?;
        copy(at, &bytes, start, buffer);
        Ok(())
    }
}

/// Copies what `bytes`, which begin at `at`, and `buffer`, which begins at `start`, have in common.
fn copy(at: u64, bytes: &[u8], start: u64, buffer: &mut [u8]) {
    let from = at.max(start);
    let (source, target) = ((from - at) as usize, (from - start) as usize);
    let source = bytes.get(source..).unwrap_or_default();
    let target = buffer.get_mut(target..).unwrap_or_default();
    for (target, source) in target.iter_mut().zip(source) {
        *target = *source;
    }
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
        let is_covered = |(over, _): &(Range<u64>, Patch<'_>)| {
            over.start <= range.start && range.end <= over.end
        };
        if !patches.first().is_some_and(is_covered) {
            self.base.read_at(offset, buffer)?;
        }
        for patch in patches {
            self.apply(patch, offset.0, buffer)?;
        }
        Ok(())
    }

    fn next_data(&self, offset: Offset) -> Option<Offset> {
        let base = self.base.next_data(offset);
        let behind = self.touching(&(offset.0..u64::MAX)).first();
        let patched = behind.map(|(range, _)| Offset(range.start.max(offset.0)));
        base.into_iter().chain(patched).min()
    }

    fn write_at(&mut self, offset: Offset, bytes: &[u8]) -> Result<(), StorageError> {
        Err(read_only(Operation::Write, offset, bytes.len() as u64))
    }

    fn set_len(&mut self, length: u64) -> Result<(), StorageError> {
        Err(read_only(Operation::SetLen, Offset(length), 0))
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        Err(read_only(Operation::Flush, Offset(0), 0))
    }

    fn discard(&mut self, offset: Offset, length: u64) -> Result<(), StorageError> {
        Err(read_only(Operation::Discard, offset, length))
    }
}

fn read_only(operation: Operation, offset: Offset, length: u64) -> StorageError {
    StorageError {
        operation,
        offset,
        length,
        source: io::ErrorKind::ReadOnlyFilesystem.into(),
    }
}
