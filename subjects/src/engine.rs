//! What the engine is asked and what it says, in the words of the harness.

use std::io;

use recount::storage::Operation;
use recount::{
    CheckError, Geometry, GeometryError, ImageError, Layout, Offset, PlanError, RepairError,
    RepairFailure, RepairOptions, Report, Run, Scope, Storage, StorageError,
};

use recount_oracle::audit::Counters;
use recount_oracle::case::Algorithm;
use recount_oracle::disk::Disk;
use recount_oracle::placement::{NoPlacement, Placement};
use recount_oracle::spec::Refused;
use recount_oracle::subject::{Checked, Done, Options, Outcome, Stopped};
use recount_oracle::toy::Shape;

/// A disk as the engine takes it.
pub enum Lent<'a> {
    /// To repair it.
    Whole(&'a mut dyn Disk),
    /// To look at it: writing to it fails.
    Shown(&'a dyn Disk),
}

impl Lent<'_> {
    fn disk(&self) -> &dyn Disk {
        match self {
            Self::Whole(disk) => &**disk,
            Self::Shown(disk) => *disk,
        }
    }

    /// Does something to it; an error says to which bytes.
    fn change(
        &mut self,
        operation: Operation,
        offset: Offset,
        length: u64,
        change: impl FnOnce(&mut dyn Disk) -> io::Result<()>,
    ) -> Result<(), StorageError> {
        let changed = match self {
            Self::Whole(disk) => change(&mut **disk),
            Self::Shown(_) => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        };
        changed.map_err(failed(operation, offset, length))
    }
}

/// Says which operation failed.
fn failed(
    operation: Operation,
    offset: Offset,
    length: u64,
) -> impl FnOnce(io::Error) -> StorageError {
    move |source| StorageError::new(operation, offset, length, source)
}

impl Storage for Lent<'_> {
    fn len(&self) -> u64 {
        self.disk().len()
    }

    fn capacity(&self) -> Option<u64> {
        self.disk().capacity()
    }

    fn read_at(&self, offset: Offset, buffer: &mut [u8]) -> Result<(), StorageError> {
        let read = self.disk().read_at(offset.0, buffer);
        read.map_err(failed(Operation::Read, offset, buffer.len() as u64))
    }

    fn next_data(&self, offset: Offset) -> Option<Offset> {
        self.disk().next_data(offset.0).map(Offset)
    }

    fn write_at(&mut self, offset: Offset, bytes: &[u8]) -> Result<(), StorageError> {
        let length = bytes.len() as u64;
        let write = |disk: &mut dyn Disk| disk.write_at(offset.0, bytes);
        self.change(Operation::Write, offset, length, write)
    }

    fn set_len(&mut self, length: u64) -> Result<(), StorageError> {
        let set = |disk: &mut dyn Disk| disk.set_len(length);
        self.change(Operation::SetLen, Offset(length), length, set)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.change(Operation::Flush, Offset(0), 0, |disk| disk.flush())
    }

    fn discard(&mut self, offset: Offset, length: u64) -> Result<(), StorageError> {
        let discard = |disk: &mut dyn Disk| disk.discard(offset.0, length);
        self.change(Operation::Discard, offset, length, discard)
    }
}

/// The engine's name for an algorithm.
pub const fn algorithm(algorithm: Algorithm) -> recount::Algorithm {
    match algorithm {
        Algorithm::Planned => recount::Algorithm::Planned,
        Algorithm::FirstFit => recount::Algorithm::FirstFit,
        Algorithm::Tail => recount::Algorithm::Tail,
    }
}

/// Its geometry for a shape, with the cluster size that cases of it have.
pub fn geometry(shape: Shape) -> Result<Geometry, GeometryError> {
    let (order, refblock) = (shape.refcount_order, shape.refblock_bits);
    let entries = shape.reftable_entry_bits;
    Geometry::model(shape.cluster_bits(), order, refblock, entries)
}

/// Where it would put new structures.
pub fn placement(planned: Result<Layout, PlanError>) -> Result<Placement, NoPlacement> {
    let range = |run: &Run| run.first.0..run.end().0;
    let refblocks = |layout: &Layout| {
        let refblocks = layout.refblocks.iter();
        refblocks.map(|(number, at)| (number.0, at.0)).collect()
    };
    match planned {
        Ok(layout) => Ok(Placement {
            reftable: range(&layout.reftable),
            refblocks: refblocks(&layout),
            abandoned: layout.abandoned.runs().iter().map(range).collect(),
            order: layout.order,
            tries: layout.tries,
        }),
        Err(PlanError::Diverges { clusters }) => Err(NoPlacement::Endless(clusters.0)),
        Err(error) => Err(NoPlacement::NoRoom(error.to_string())),
    }
}

/// What it is told.
pub fn options(options: &Options) -> RepairOptions {
    let scope = if options.only_leaks {
        Scope::Leaks
    } else {
        Scope::All
    };
    RepairOptions::default()
        .scope(scope)
        .algorithm(algorithm(options.algorithm))
        .reuse_old(options.reuse_old)
        .release_unreachable(options.release_unreachable)
}

/// Checks.
pub fn check(storage: &dyn Storage) -> Checked {
    match recount::check(storage, &mut ()) {
        Ok(report) => found(&report),
        Err(CheckError::Image(error @ ImageError::Luks { .. })) => {
            Checked::NoLuksHeader(error.to_string())
        }
        Err(CheckError::Image(error)) => Checked::NotOpened(error.to_string()),
        Err(error) => Checked::GivesUp(error.to_string()),
    }
}

fn found(report: &Report) -> Checked {
    let examples = report.dead_ends.examples.iter();
    Checked::Found {
        counters: counters(report),
        needs_rebuild: report.needs_rebuild,
        damage: (
            report.dead_ends.count,
            examples.map(ToString::to_string).collect(),
        ),
    }
}

/// A report as the audit puts it.
pub const fn counters(report: &Report) -> Counters {
    Counters {
        gives_up: false,
        check_errors: report.check_errors,
        image_end_offset: report.image_end_offset,
        corruptions: report.corruptions,
        leaks: report.leaks,
        total_clusters: report.total_clusters,
        allocated_clusters: report.allocated_clusters,
        fragmented_clusters: report.fragmented_clusters,
        compressed_clusters: report.compressed_clusters,
    }
}

/// How a repair ended.
pub fn outcome(outcome: &Result<recount::Outcome, RepairFailure>) -> Outcome {
    match outcome {
        Ok(outcome) => Ok(Done {
            report: Some(found(&outcome.report)),
            steps: outcome.steps.iter().map(ToString::to_string).collect(),
        }),
        Err(failure) => Err(stopped(failure)),
    }
}

fn stopped(failure: &RepairFailure) -> Stopped {
    if failure.has_written {
        return Stopped::unknown(failure);
    }
    Stopped {
        reason: reason(&failure.error),
        by_placement: matches!(
            failure.error,
            RepairError::Plan { .. } | RepairError::GrowthWouldHide { .. }
        ),
        message: failure.to_string(),
    }
}

/// Why it was refused, as the specification puts it.
const fn reason(error: &RepairError) -> Option<Refused> {
    Some(match error {
        RepairError::Check(CheckError::Image(ImageError::Luks { .. })) => Refused::CheckGivesUp,
        RepairError::Check(CheckError::Image(_)) => Refused::NotOpened,
        RepairError::Check(_) => Refused::CheckGivesUp,
        RepairError::NeedsRebuild => Refused::NeedsRebuild,
        RepairError::Plan { error, .. } => match error {
            PlanError::ReftableTooLarge { .. } => Refused::ReftableTooLarge,
            PlanError::NoSpace { .. } => Refused::NoSpace,
            _ => return None,
        },
        RepairError::PastCapacity { .. } => Refused::NoSpace,
        RepairError::GrowthWouldHide { .. } => Refused::GrowthWouldHide,
        _ => return None,
    })
}
