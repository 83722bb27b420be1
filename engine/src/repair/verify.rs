//! Checking the result of a repair by reading it back.

use super::{Done, Repair, RepairError};
use crate::check::{CheckError, Comparison, Report, Survey, check};
use crate::image::Image;
use crate::references::{OldStructures, References, WalkError};
use crate::table::Run;

impl Repair<'_> {
    /// What a check reports of the image as it is now.
    ///
    /// With the `references` given nothing but refcounts was written, so a walk would find again
    /// what they say. Then it is enough to read the refcount structures, wherever the header leads
    /// to by now, and to compare. Should anything be wrong with them, a whole check says what.
    pub(super) fn verify(&mut self, done: Done) -> Result<Report, RepairError> {
        if let Some(references) = done.references
            && let Some(report) = self.read_back(references)?
        {
            return Ok(report);
        }
        let checked = check(self.storage, self.observer);
        self.checked(checked, done.report)
    }

    /// What a check after a repair reports; `report` is all that the repair knows itself.
    ///
    /// A check reads a table that leads to the header as it stands there, which a repair does not. In
    /// what the repair has written it may come upon sizes that nobody reads on for. The repair is done
    /// all the same, so this is an error of the check.
    pub(super) fn checked(
        &mut self,
        checked: Result<Report, CheckError>,
        report: Report,
    ) -> Result<Report, RepairError> {
        match checked {
            Err(CheckError::Walk(WalkError::Storage(error))) => Err(error.into()),
            Err(CheckError::Walk(WalkError::OutOfMemory(error))) => Err(error.into()),
            Err(CheckError::Walk(why)) if report.dead_ends.count > 0 => {
                self.observer.incomplete(&why);
                Ok(Report {
                    check_errors: report.check_errors + 1,
                    ..report
                })
            }
            result => Ok(result?),
        }
    }

    /// The report, if nothing is wrong.
    fn read_back(&self, references: References) -> Result<Option<Report>, RepairError> {
        let image = Image::open(self.storage).map_err(CheckError::from)?;
        let mut alone = References::new(*image.geometry());
        let present = OldStructures::count(&image, self.storage, &mut alone, &mut ())?;
        // They are referred to as structures, and as nothing else.
        let clusters = present.counted.iter().flat_map(Run::iter);
        let mut counts = clusters.map(|cluster| references.table.get(cluster));
        if present.corruptions > 0 || present.repair_rebuilds || counts.any(|count| count != 1) {
            return Ok(None);
        }
        let comparison = Comparison::compare(&image, self.storage, &references, &present, &mut ())?;
        let survey = Survey {
            references,
            old: present,
            comparison,
        };
        let report = Report::of(&image, &survey);
        Ok(report.is_clean().then_some(report))
    }
}
