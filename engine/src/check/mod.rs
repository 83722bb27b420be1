//! Comparing the references with the refcounts on disk: the read-only check, and the survey that
//! a repair begins with.

mod compare;
mod copied;
mod differences;
mod disk_counts;
mod report;

pub use compare::Comparison;
pub(crate) use copied::{AfterRepair, check_copied, repair_copied};
pub use disk_counts::DiskCounts;
pub use report::Report;

use crate::image::{Image, ImageError};
use crate::observer::Observer;
use crate::references::{OldStructures, References, SnapshotTable, WalkError, Walker};
use crate::storage::{Storage, StorageError};
use crate::table::{OutOfMemory, RunSet};

/// Why a check did not complete. Nothing has been written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// It is not an image that can be opened.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The references could not be counted.
    #[error(transparent)]
    Walk(#[from] WalkError),
}

impl From<StorageError> for CheckError {
    fn from(error: StorageError) -> Self {
        Self::Walk(error.into())
    }
}

impl From<OutOfMemory> for CheckError {
    fn from(error: OutOfMemory) -> Self {
        Self::Walk(error.into())
    }
}

/// All that is known of an image's refcounts, before anything is written.
#[derive(Clone, Debug)]
pub struct Survey {
    /// What everything refers to, the present refcount structures included.
    pub references: References,
    /// The present refcount structures.
    pub old: OldStructures,
    /// How the refcounts on disk differ.
    pub comparison: Comparison,
}

impl Survey {
    /// Walks and compares. `repair` allows the liberties of [`SnapshotTable::read`] and leaves out
    /// what a repair will replace.
    pub fn take(
        image: &Image,
        storage: &dyn Storage,
        repair: bool,
        observer: &mut dyn Observer,
    ) -> Result<Self, CheckError> {
        let snapshots = SnapshotTable::read(image, storage, repair, observer)?;
        let mut references = Walker::walk(image, storage, snapshots, repair, observer)?;
        let old = OldStructures::count(image, storage, &mut references, observer)?;
        let comparison = Comparison::compare(image, storage, &references, &old, observer)?;
        Ok(Self {
            references,
            old,
            comparison,
        })
    }

    /// The refcounts on disk.
    #[must_use]
    pub const fn disk_counts<'a>(
        &'a self,
        image: &'a Image,
        storage: &'a dyn Storage,
    ) -> DiskCounts<'a> {
        DiskCounts::of_survey(self, image, storage)
    }

    /// Whether the refcount structures can only be built anew, so that `-r leaks` does nothing.
    #[must_use]
    pub const fn needs_rebuild(&self) -> bool {
        self.comparison.needs_rebuild || self.old.needs_rebuild
    }

    /// Whether a refblock that would be written is read as something else as well: as data or a
    /// table, of which a refcount that counts to 1 says nothing, or as a table that reaches past
    /// the end of the file. That would say something else then.
    #[must_use]
    pub fn is_written_over_something(&self) -> bool {
        let geometry = self.references.table.geometry();
        if self.comparison.differing.is_empty() {
            return false;
        }
        let covered = self.references.covered();
        let counted: RunSet = self.old.counted.iter().copied().collect();
        let mut differing = self.comparison.differing.iter();
        differing.any(|(refblock, _)| {
            let place = self.old.reftable.entry(*refblock).refblock();
            let cluster = geometry.cluster_of(place);
            covered.contains(cluster) || !counted.contains(cluster)
        })
    }

    /// Whether `-r all` builds the refcount structures anew. A new snapshot table takes clusters,
    /// and the way that can always give it some is a rebuild.
    #[must_use]
    pub fn is_rebuilt_by_repair(&self) -> bool {
        self.comparison.needs_rebuild
            || self.old.repair_rebuilds
            || self.references.snapshots.is_rewritten()
            || self.is_written_over_something()
    }

    /// Whether the COPIED bits need not be looked at: by the references they are right, and the
    /// refcounts on disk are the references.
    #[must_use]
    pub fn copied_is_right(&self) -> bool {
        self.references.copied_is_right() && self.comparison.is_equal()
    }

    /// Corruptions but those of the COPIED bits.
    #[must_use]
    pub const fn corruptions(&self) -> u64 {
        self.references.corruptions + self.old.corruptions + self.comparison.corruptions
    }
}

/// Checks an image without writing to it: counters and their meaning are those of
/// `qemu-img check`.
pub fn check(storage: &dyn Storage, observer: &mut dyn Observer) -> Result<Report, CheckError> {
    let image = Image::open(storage)?;
    let survey = Survey::take(&image, storage, false, observer)?;
    let copied = check_copied(&image, storage, &survey, observer)?;
    let mut report = Report::of(&image, &survey);
    report.corruptions += copied.wrong + survey.references.snapshots.corruptions;
    Ok(report)
}
