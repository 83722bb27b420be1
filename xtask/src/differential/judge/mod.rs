//! Runs recount over one damaged image and compares it with what a qemu-img said and did.

mod excuse;
mod said;

use recount_oracle::case::damage::find::{Structures, structures};
use recount_oracle::case::damage::{Applied, Damage, ReadWriteAt, SnapshotDamage, SparseBytes};
use recount_oracle::case::observed::{Layout, Observed, Said};

use super::comparison::{Comparison, Ending, Purpose};
use super::guest::GuestData;
use super::nowhere::{
    has_doubtful_tables, has_reserved_astray, leads_nowhere, loses_data, refblock_past_end,
    snapshot_table_is_cut,
};
use super::observe::is_beyond;
use said::{
    has_too_many_clusters, is_worse, names_more, only_copied, only_copied_and_overflow, only_leaks,
};

use super::subject::{Algorithm, Bench, CaseError, Checker, Repair, Repaired, Subject};

/// One case, about to be judged.
pub struct Trial<'a> {
    /// recount.
    pub ours: &'a dyn Subject,
    /// What recount makes of the image with `-r all`.
    pub repaired: &'a Repaired,
    /// qemu-img, to check what recount has repaired, and what it made of the image itself; `None`
    /// when it is not installed.
    pub theirs: Option<(&'a Checker, &'a SparseBytes)>,
    /// What qemu-img says and does.
    pub observed: &'a Observed,
    /// Where to work.
    pub bench: Bench<'a>,
    /// The damaged image.
    pub damaged: &'a SparseBytes,
    /// The acts of damage, and the bytes that each changed.
    pub damage: &'a [(Damage, Applied)],
    /// What the guest saw before the damage.
    pub whole: &'a GuestData,
}

/// Everything known about one case while it is judged.
struct Run<'a> {
    trial: &'a Trial<'a>,
    found: Option<Structures>,
    nowhere: bool,
    /// Whether what qemu takes for an L2 table may be none.
    doubtful: bool,
    endings: Vec<(Comparison, Ending)>,
}

/// Runs every comparison.
pub fn judge(trial: &Trial<'_>) -> Result<Vec<(Comparison, Ending)>, CaseError> {
    let damaged = trial.damaged;
    let found = structures(damaged).ok().flatten();
    let nowhere = found.as_ref();
    let mut run = Run {
        nowhere: nowhere.is_some_and(|found| leads_nowhere(damaged, found)),
        doubtful: nowhere.is_some_and(|found| has_doubtful_tables(damaged, found)),
        found,
        trial,
        endings: Vec::new(),
    };
    run.read_only()?;
    run.after_their_repair()?;
    run.clean_after_repair(trial.repaired)?;
    run.guest_data(trial.repaired);
    run.in_place()?;
    run.keeping(trial.repaired);
    run.rebuilt()?;
    run.leaks()?;
    Ok(run.endings)
}

impl Run<'_> {
    fn end(&mut self, comparison: Comparison, ending: Ending) {
        let ending = match ending {
            Ending::Failed(_) if self.lacks_data_file() => {
                Ending::OnPurpose(Purpose::NeedsNoDataFile)
            }
            ending => ending,
        };
        self.endings.push((comparison, ending));
    }

    /// Whether qemu-img looks for the data file under a damaged name.
    fn lacks_data_file(&self) -> bool {
        let check = &self.trial.observed.check;
        let missing = check.stderr.contains("No such file or directory");
        let data_file = self.found.as_ref().is_some_and(|found| found.data_file);
        data_file && missing && check.counters.is_none()
    }

    fn read_only(&mut self) -> Result<(), CaseError> {
        let Trial {
            bench,
            damaged,
            ours,
            observed,
            ..
        } = self.trial;
        let ours = ours.run(*bench, damaged, Repair::None)?;
        let ending = self.unless_older(same(&observed.check, &ours.said));
        self.end(Comparison::ReadOnlyCheck, ending);
        let story = || "a check without -r changed the file".to_owned();
        let untouched = ours.image == **damaged;
        self.end(
            Comparison::ChecksWriteNothing,
            Ending::expect(untouched, story),
        );
        Ok(())
    }

    /// What both say of the image that qemu-img repaired.
    fn after_their_repair(&mut self) -> Result<(), CaseError> {
        let Trial {
            bench,
            ours,
            theirs,
            observed,
            ..
        } = self.trial;
        // Their repair may have written over the key of an encrypted image.
        let opens = !is_beyond(&observed.settled.stderr);
        let left = theirs.filter(|_| observed.all.is_answer() && opens);
        let ending = if let Some((_, left)) = left {
            match same(&observed.settled, &ours.check(*bench, left)?) {
                Ending::Failed(_) if has_too_many_clusters(&observed.settled) => {
                    Ending::OnPurpose(Purpose::NoClusterLimit)
                }
                ending => self.unless_older(ending),
            }
        } else {
            Ending::NotApplicable
        };
        self.end(Comparison::AfterTheirRepair, ending);
        Ok(())
    }

    fn has_reserved_astray(&self) -> bool {
        let found = self.found.as_ref();
        found.is_some_and(|found| has_reserved_astray(self.trial.damaged, found))
    }

    fn clean_after_repair(&mut self, ours: &Repaired) -> Result<(), CaseError> {
        let Trial {
            bench,
            theirs,
            observed,
            ..
        } = self.trial;
        let ending = match theirs {
            Some((theirs, left)) if observed.settled.is_clean() => {
                let verdict = if ours.image == **left {
                    observed.settled.clone()
                } else {
                    theirs.check(*bench, &ours.image)?
                };
                let story = || format!("our repair: {}\n    then theirs: {verdict}", ours.said);
                match Ending::expect(verdict.is_clean(), story) {
                    // Kept clusters are leaks to qemu-img.
                    Ending::Failed(_) if self.nowhere && only_leaks(&verdict) => {
                        Ending::OnPurpose(Purpose::Keeping)
                    }
                    // And what they are kept for stays to be mended: qemu-img may end clean only
                    // because it has removed the snapshot.
                    Ending::Failed(_)
                        if self.nowhere
                            && ours.said.stderr.contains(" is kept: ")
                            && !is_worse(&verdict, &observed.check) =>
                    {
                        Ending::OnPurpose(Purpose::Keeping)
                    }
                    Ending::Failed(_) if self.doubtful && only_copied(&verdict) => {
                        Ending::OnPurpose(Purpose::LeavesAlone)
                    }
                    // What qemu-img sees in the table once it has written to it may be nothing.
                    Ending::Failed(_)
                        if self.doubtful
                            && only_copied_and_overflow(&verdict)
                            && !names_more(&verdict, &observed.check) =>
                    {
                        Ending::OnPurpose(Purpose::LeavesAlone)
                    }
                    // qemu-img takes such an entry for one without data, and clears it.
                    Ending::Failed(_)
                        if self.has_reserved_astray() && !names_more(&verdict, &observed.check) =>
                    {
                        Ending::OnPurpose(Purpose::LeavesAlone)
                    }
                    // The file has grown over what led past its end.
                    Ending::Failed(_)
                        if self.found.as_ref().is_some_and(refblock_past_end)
                            && !is_worse(&verdict, &observed.check) =>
                    {
                        Ending::OnPurpose(Purpose::NoGrowth)
                    }
                    // Without snapshots there is nothing wrong with them.
                    Ending::Failed(_) if self.table_is_cut() => {
                        Ending::OnPurpose(Purpose::LeavesTable)
                    }
                    ending @ Ending::Failed(_) => {
                        let ending = self.clean_but_for(ending, theirs, &ours.image)?;
                        self.unless_older(ending)
                    }
                    ending => ending,
                }
            }
            _ => Ending::NotApplicable,
        };
        self.end(Comparison::CleanAfterRepair, ending);
        Ok(())
    }

    fn guest_data(&mut self, ours: &Repaired) {
        let before = GuestData::read(self.trial.damaged);
        let ending = match before.first_loss(&GuestData::read(&ours.image)) {
            _ if before.readable() == 0 => Ending::NotApplicable,
            None => Ending::Passed,
            Some(loss) => Ending::Failed(format!("{loss}\n    our repair: {}", ours.said)),
        };
        self.end(Comparison::GuestData, ending);
    }

    /// `-r all` where qemu-img rebuilds nothing.
    fn in_place(&mut self) -> Result<(), CaseError> {
        let Trial {
            bench,
            damaged,
            ours,
            observed,
            ..
        } = self.trial;
        let ending = if observed.all.is_answer() && !observed.rebuilds {
            let repair = Repair::Alike(Algorithm::of_qemu(observed.qemu));
            let ours = ours.run(*bench, damaged, repair)?;
            let verdicts = same(&observed.all, &ours.said);
            let ending = self.on_purpose(verdicts, &observed.all, &ours.said, repair)?;
            self.contradicts_itself(ending, &ours)
        } else {
            Ending::NotApplicable
        };
        self.end(Comparison::InPlaceRepair, ending);
        Ok(())
    }

    fn rebuilt(&mut self) -> Result<(), CaseError> {
        let Trial {
            bench,
            damaged,
            ours,
            observed,
            ..
        } = self.trial;
        let (layout, verdict) = match &observed.layout {
            Some(layout) => {
                let repair = Repair::Alike(Algorithm::of_qemu(observed.qemu));
                let ours = ours.run(*bench, damaged, repair)?;
                let verdicts = same(&observed.all, &ours.said);
                let verdict = self.on_purpose(verdicts, &observed.all, &ours.said, repair)?;
                (
                    self.layout_on_purpose(layout, &ours, repair)?,
                    self.contradicts_itself(verdict, &ours),
                )
            }
            None => (Ending::NotApplicable, Ending::NotApplicable),
        };
        self.end(Comparison::RebuiltLayout, layout);
        self.end(Comparison::RebuildVerdict, verdict);
        Ok(())
    }

    fn leaks(&mut self) -> Result<(), CaseError> {
        let Trial {
            bench,
            damaged,
            ours,
            observed,
            ..
        } = self.trial;
        let ours = ours.run(*bench, damaged, Repair::Leaks)?;
        let verdicts = same(&observed.leaks, &ours.said);
        let ending = self.on_purpose(verdicts, &observed.leaks, &ours.said, Repair::Leaks)?;
        let ending = self.read_again(ending, &ours)?;
        self.end(Comparison::LeaksRepair, ending);
        Ok(())
    }

    /// Puts the damaged bytes right again after our repair.
    fn keeping(&mut self, ours: &Repaired) {
        let Trial { damage, whole, .. } = self.trial;
        let mapping_only = damage.iter().all(|(damage, _)| is_mapping(damage));
        let found = self.found.as_ref();
        let loses = found.is_some_and(|found| loses_data(self.trial.damaged, found));
        let ending = if loses && mapping_only && whole.readable() > 0 {
            let mut mended = ours.image.clone();
            let changes = damage
                .iter()
                .flat_map(|(_, applied)| &applied.changes)
                .rev();
            let mut changes = changes.map(|change| mended.write_at(change.at, &change.before));
            let written = changes.all(|written| written.is_ok());
            drop(changes);
            match whole.first_loss(&GuestData::read(&mended)) {
                None => Ending::expect(written, || "the entry cannot be put right".to_owned()),
                Some(loss) => Ending::Failed(format!(
                    "put right, but {loss}\n    our repair: {}",
                    ours.said
                )),
            }
        } else {
            Ending::NotApplicable
        };
        self.end(Comparison::Keeping, ending);
    }

    fn table_is_cut(&self) -> bool {
        let found = self.found.as_ref();
        found.is_some_and(|found| snapshot_table_is_cut(self.trial.damaged, found))
    }
}

/// Damage that only concerns how guest data is found.
const fn is_mapping(damage: &Damage) -> bool {
    matches!(
        damage,
        Damage::L1Entry { .. }
            | Damage::L2Entry { .. }
            | Damage::Snapshot {
                becomes: SnapshotDamage::L1Offset(_)
                    | SnapshotDamage::L1OffsetBytes(_)
                    | SnapshotDamage::L1Entries(_),
                ..
            }
    )
}

fn same(theirs: &Said, ours: &Said) -> Ending {
    Ending::expect(theirs.agrees_with(ours), || {
        format!("qemu-img: {theirs}\n    recount:  {ours}")
    })
}

fn layouts(theirs: &Layout, ours: &Repaired) -> Ending {
    let Some(layout) = Layout::read(&ours.image) else {
        return Ending::Failed("the repaired image has no header".to_owned());
    };
    match layout.difference(theirs) {
        None => Ending::Passed,
        Some(difference) => {
            let said = &ours.said;
            Ending::Failed(format!(
                "ours against theirs: {difference}\n    our repair: {said}"
            ))
        }
    }
}
