//! Looking at an image with the plan laid over it, before anything is written: so a case that nobody
//! thought of is refused instead of doing damage.

use super::make::Draft;
use super::overlay::Overlay;
use super::{RepairError, RepairOptions, RepairPlan};
use crate::check::{Comparison, Report, Survey, check};
use crate::image::Image;
use crate::observer::Observer;
use crate::references::{CheckError, OldStructures};
use crate::storage::Storage;
use crate::table::{RefcountTable, Run};

impl RepairPlan {
    /// Plans a repair of what was surveyed on this storage, for [`RepairOptions::verify`] with a look
    /// at the image with the plan laid over it. Findings that it makes go to the observer.
    pub fn of(
        storage: &dyn Storage,
        survey: Survey,
        options: &RepairOptions,
        observer: &mut dyn Observer,
    ) -> Result<Self, RepairError> {
        let mut plan = Draft::of(storage, survey, options)?.plan(observer)?;
        if options.verify {
            plan.preflight(storage, options)?;
        }
        Ok(plan)
    }

    /// Surveys the image as it will be. It has to be as the plan says: its refcounts, the report of a
    /// check, and nothing left to do. Takes over of the report what a plan alone does not know.
    fn preflight(
        &mut self,
        storage: &dyn Storage,
        options: &RepairOptions,
    ) -> Result<(), RepairError> {
        if self.phases.is_empty() {
            if !self.is_foreseen {
                self.after = check(storage, &mut ())?;
            }
            return Ok(());
        }
        let overlay = Overlay::new(storage, self)?;
        let found = if self.changes_only_refcounts {
            self.refcounts_only(&overlay)?
        } else {
            Self::whole(&overlay, options)?
        };
        let figures = |report: &Report| (report.check_errors, report.corruptions, report.leaks);
        if self.is_foreseen && figures(&self.after) != figures(&found) {
            let what = format!(
                "a check would find {:?} check errors, corruptions and leaks instead of {:?}",
                figures(&found),
                figures(&self.after)
            );
            return Err(RepairError::NotAsPlanned { what });
        }
        self.after = found;
        Ok(())
    }

    /// Nothing but refcounts is written, so a walk would find again what the survey has found. Then it
    /// is enough to read the refcount structures, wherever the header leads to.
    fn refcounts_only(&self, overlay: &Overlay<'_>) -> Result<Report, RepairError> {
        let image = Image::open(overlay).map_err(CheckError::from)?;
        let mut alone = RefcountTable::new(*image.geometry());
        let present = OldStructures::count(&image, overlay, &mut alone, &mut ())?;
        let (clusters, counts) = (image.extent.clusters, &self.counts);
        let comparison = Comparison::compare(clusters, overlay, counts, &present, &mut ())?;
        // They are referred to as structures, and as nothing else.
        let mut clusters = present.clusters.runs().iter().flat_map(Run::iter);
        let is_alone = clusters.all(|cluster| self.counts.get(cluster) == 1);
        // What a refblock says of clusters past the end of the file is no matter.
        let is_right = comparison.corruptions == 0
            && comparison.leaks == 0
            && comparison.unreadable.is_empty();
        if present.repair_rebuilds() || !is_alone || !is_right {
            let what = "the refcounts would not be the references".to_owned();
            return Err(RepairError::NotAsPlanned { what });
        }
        let last = comparison.last_used.unwrap_or_default();
        Ok(Report {
            image_end_offset: (last.0 + 1) << image.geometry().cluster_bits(),
            needs_rebuild: false,
            ..self.after.clone()
        })
    }

    fn whole(overlay: &Overlay<'_>, options: &RepairOptions) -> Result<Report, RepairError> {
        let survey = Survey::take(overlay, &mut ())?;
        let report = survey.report(overlay, &mut ())?;
        let next = Draft::of(overlay, survey, options)?.plan(&mut ())?;
        if let Some(phase) = next.phases.first() {
            let what = format!("there would be more to repair: {:?}", phase.kind);
            return Err(RepairError::NotAsPlanned { what });
        }
        Ok(report)
    }

    /// An error where what was written does not read back.
    pub fn read_back(&self, storage: &dyn Storage) -> Result<(), RepairError> {
        Overlay::new(storage, self)?.read_back()
    }
}
