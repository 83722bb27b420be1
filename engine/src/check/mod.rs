//! Comparing the references with the refcounts on disk: the read-only check, and the survey that
//! a repair begins with.

mod compare;
mod copied;
mod differences;
mod disk_counts;
mod report;

pub use compare::Comparison;
pub(crate) use copied::{check_copied, check_l1, check_l2, with_wrong};
pub(crate) use differences::differences;
pub use disk_counts::DiskCounts;
pub use report::Report;

use crate::finding::Finding;
use crate::image::Image;
use crate::observer::{Action, Observer};
use crate::references::{CheckError, HeaderTables, OldStructures, References, Walker};
use crate::storage::Storage;
use crate::table::RefcountTable;

/// One read-only look at an image: what refers to each cluster, and what the disk says of it.
#[derive(Clone, Debug)]
pub struct Look {
    /// What everything refers to, the present refcount structures included.
    pub references: References,
    /// The present refcount structures.
    pub old: OldStructures,
    /// How the refcounts on disk differ.
    pub comparison: Comparison,
    /// By how much references are more than refcounts can count, summed.
    pub overflow: u64,
}

impl Look {
    /// Walks and compares.
    pub fn take(
        image: &Image,
        storage: &dyn Storage,
        header_tables: HeaderTables,
        observer: &mut dyn Observer,
    ) -> Result<Self, CheckError> {
        let mut references = Walker::walk(image, storage, header_tables, observer)?;
        let old = OldStructures::count(image, storage, &mut references.table, observer)?;
        let overflow = report_overflow(&references.table, observer);
        let (clusters, table) = (image.extent.clusters, &references.table);
        let comparison = Comparison::compare(clusters, storage, table, &old, observer)?;
        Ok(Self {
            references,
            old,
            comparison,
            overflow,
        })
    }

    /// Whether qemu can only build the refcount structures anew, so that its `-r leaks` does nothing.
    pub const fn needs_rebuild(&self) -> bool {
        self.comparison.needs_rebuild || self.old.needs_rebuild
    }

    /// Whether the COPIED bits need not be looked at: by the references they are right, and the
    /// refcounts on disk are the references.
    pub fn copied_is_right(&self) -> bool {
        let comparison = &self.comparison;
        let is_equal = comparison.differing.is_empty() && comparison.unreadable.is_empty();
        is_equal && self.references.copied_is_right()
    }
}

/// Reports where there are more references than refcounts can count; how many more, summed.
pub(crate) fn report_overflow(table: &RefcountTable, observer: &mut dyn Observer) -> u64 {
    let most = table.geometry().max_refcount();
    let mut sum = 0_u64;
    for (cluster, count) in table.above(most) {
        observer.finding(&Finding::Overflow(cluster, count - most), Action::Reported);
        sum = sum.saturating_add(count - most);
    }
    sum
}

/// All that is known of an image's refcounts, before anything is written.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The header and its extensions.
    pub image: Image,
    /// What a repair goes by.
    pub look: Look,
    /// What a check finds, where it reads the header as a table, which a repair does not.
    checked: Option<Box<Look>>,
}

impl Survey {
    /// Looks at an image.
    pub fn take(storage: &dyn Storage, observer: &mut dyn Observer) -> Result<Self, CheckError> {
        let image = Image::open(storage)?;
        let mut look = Look::take(&image, storage, HeaderTables::Followed, observer)?;
        let mut checked = None;
        if look.references.header_is_table {
            let own = Look::take(&image, storage, HeaderTables::NotFollowed, &mut ())?;
            checked = Some(Box::new(std::mem::replace(&mut look, own)));
        }
        Ok(Self {
            image,
            look,
            checked,
        })
    }

    /// What a check goes by.
    pub(crate) fn checked(&self) -> &Look {
        self.checked.as_deref().unwrap_or(&self.look)
    }

    /// What a check reports, wrong COPIED bits included.
    pub fn report(
        &self,
        storage: &dyn Storage,
        observer: &mut dyn Observer,
    ) -> Result<Report, CheckError> {
        let look = self.checked();
        if let Some(refusal) = look.references.snapshots.refusal {
            return Err(refusal.into());
        }
        let copied = check_copied(&self.image, storage, look, observer)?;
        let mut report = Report::of(&self.image, look);
        report.corruptions += copied + look.references.snapshots.corruptions;
        Ok(report)
    }
}

/// Checks an image without writing to it: counters and their meaning are those of
/// `qemu-img check`.
pub fn check(storage: &dyn Storage, observer: &mut dyn Observer) -> Result<Report, CheckError> {
    Survey::take(storage, observer)?.report(storage, observer)
}
