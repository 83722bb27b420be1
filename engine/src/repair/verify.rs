//! Checking the result of a repair by reading it back.

use super::{Repair, RepairError};
use crate::check::{CheckError, Comparison, Report, Survey, check};
use crate::image::Image;
use crate::references::{OldStructures, References};
use crate::table::Run;

impl Repair<'_> {
    /// What a check reports of the image as it is now.
    ///
    /// With the `references` given nothing but refcounts was written, so a walk would find again
    /// what they say. Then it is enough to read the refcount structures, wherever the header leads
    /// to by now, and to compare. Should anything be wrong with them, a whole check says what.
    pub(super) fn verify(&mut self, references: Option<References>) -> Result<Report, RepairError> {
        if let Some(references) = references
            && let Some(report) = self.read_back(references)?
        {
            return Ok(report);
        }
        Ok(check(self.storage, self.observer)?)
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
