//! Refcounts set in place, where the refblocks that hold them are sound: raises first, a flush,
//! then what is released, a flush, and only then are freed clusters given back.

use super::{Repair, RepairError, Step};
use crate::check::{Report, Survey};
use crate::image::Image;
use crate::references::References;
use crate::table::{RefcountTable, Run, RunSet, width};
use crate::units::Offset;

/// Which differences a refblock is written with.
#[derive(Clone, Copy)]
struct Written {
    raised: bool,
    lowered: bool,
}

impl Repair<'_> {
    /// Sets refcounts right in place; the counts as they are on disk afterwards.
    pub(super) fn repair_in_place(
        &mut self,
        image: &Image,
        survey: &mut Survey,
        report: &mut Report,
    ) -> Result<RefcountTable, RepairError> {
        let written = Written {
            raised: true,
            lowered: false,
        };
        let raised = self.write_refcounts(image, survey, written)?;
        if raised > 0 {
            self.outcome.fixed.corruptions += raised;
            report.corruptions -= raised;
            self.step(Step::Raised { clusters: raised });
        }
        if self.keeps(survey) {
            self.surplus = self.note_kept(survey);
            for (cluster, surplus) in &self.surplus {
                survey
                    .references
                    .table
                    .add(Run::single(*cluster), *surplus)?;
            }
        }
        let lowered = self.lower_refcounts(image, survey, true)?;
        self.outcome.fixed.leaks += lowered;
        report.leaks -= lowered;
        Ok(survey.references.take_table())
    }

    /// Lowers what is above the references, and gives back what became free. `raised`: the others
    /// have been raised already.
    pub(super) fn lower_refcounts(
        &mut self,
        image: &Image,
        survey: &Survey,
        raised: bool,
    ) -> Result<u64, RepairError> {
        let written = Written {
            raised,
            lowered: true,
        };
        let lowered = self.write_refcounts(image, survey, written)?;
        if lowered > 0 {
            let freed = survey.comparison.unreferenced(&survey.references.table);
            self.discard(image, &freed, &survey.references)?;
            self.step(Step::Lowered { clusters: lowered });
        }
        Ok(lowered)
    }

    /// Gives back the space behind clusters that nothing uses. What a table that reaches past the
    /// end of the file covers is not counted, but it is read: as zeros the table would say something
    /// else, and the next repair would do something else.
    pub(super) fn discard(
        &mut self,
        image: &Image,
        freed: &RunSet,
        references: &References,
    ) -> Result<(), RepairError> {
        let bits = image.geometry().cluster_bits();
        let unread = freed.without(&references.covered());
        for run in unread.runs() {
            self.storage
                .discard(Offset(run.first.0 << bits), run.count.0 << bits)?;
        }
        Ok(())
    }

    /// Writes differing refblocks with their raises, or with these and what is lowered, each from
    /// the first byte that changes to the last; flushes when there were any. Returns how many
    /// refcounts of the last-named kind were written.
    fn write_refcounts(
        &mut self,
        image: &Image,
        survey: &Survey,
        written: Written,
    ) -> Result<u64, RepairError> {
        let geometry = image.geometry();
        let mut changed = 0;
        for (refblock, on_disk) in &survey.comparison.differing {
            let mut bytes = on_disk.clone();
            let mut here = 0;
            let table = &survey.references.table;
            for (cluster, refcount, references) in
                survey.comparison.differences_of(table, *refblock)
            {
                let lowers = refcount > references;
                if if lowers {
                    written.lowered
                } else {
                    written.raised
                } {
                    let index = cluster.since(geometry.first_covered(*refblock)).0 as usize;
                    width::set(geometry.order(), &mut bytes, index, references);
                }
                here += u64::from(lowers == written.lowered);
            }
            let differs = |(old, new): (&u8, &u8)| old != new;
            let start = on_disk.iter().zip(&bytes).position(differs);
            let end = on_disk.iter().zip(&bytes).rposition(differs);
            if here > 0
                && let (Some(start), Some(end)) = (start, end)
            {
                let offset = survey.old.reftable.entry(*refblock).refblock();
                self.storage
                    .write_at(Offset(offset.0 + start as u64), &bytes[start..=end])?;
                changed += here;
            }
        }
        if changed > 0 {
            self.storage.flush()?;
        }
        Ok(changed)
    }
}
