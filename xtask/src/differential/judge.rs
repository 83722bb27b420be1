//! Runs recount over one damaged image and compares it with what a qemu-img said and did.

use recount_oracle::case::damage::find::{Structures, structures};
use recount_oracle::case::damage::{Applied, Damage, ReadWriteAt, SnapshotDamage};
use recount_oracle::case::observed::{Ended, Layout, Observed, Said};

use super::comparison::{Comparison, Ending, Purpose};
use super::guest::GuestData;
use super::nowhere::{
    has_blank_snapshot, has_doubtful_tables, has_live_bitmaps, has_newer_corruptions,
    leads_nowhere, refblock_past_end, snapshot_table_is_cut,
};
use super::observe::{Bench, CaseError, Repaired, THEIRS};
use super::tools::{Algorithm, Checker, Repair};

/// The first qemu-img that counts reserved bits and contradictory subclusters.
const NEWER_CHECK: (u32, u32) = (6, 2);

/// One case, about to be judged.
pub struct Trial<'a> {
    /// recount.
    pub ours: &'a Checker,
    /// qemu-img, to check what recount has repaired; `None` when it is not installed.
    pub theirs: Option<&'a Checker>,
    /// What qemu-img says and does.
    pub observed: &'a Observed,
    /// The damaged image.
    pub bench: Bench<'a>,
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
    let damaged = trial.bench.damaged;
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
    let ours = trial.bench.run(trial.ours, "ours.qcow2", Repair::All)?;
    run.clean_after_repair(&ours)?;
    run.guest_data(&ours);
    run.in_place()?;
    run.keeping(&ours);
    run.rebuilt()?;
    run.leaks()?;
    Ok(run.endings)
}

impl Run<'_> {
    fn end(&mut self, comparison: Comparison, ending: Ending) {
        self.endings.push((comparison, ending));
    }

    fn read_only(&mut self) -> Result<(), CaseError> {
        let Trial {
            bench,
            ours,
            observed,
            ..
        } = self.trial;
        let ours = bench.run(ours, "damaged.qcow2", Repair::None)?;
        let ending = self.unless_older(same(&observed.check, &ours.said));
        self.end(Comparison::ReadOnlyCheck, ending);
        let story = || "a check without -r changed the file".to_owned();
        let untouched = ours.image == *bench.damaged;
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
        let ending = if theirs.is_some() && observed.all.is_answer() {
            match same(&observed.settled, &bench.check(ours, THEIRS, Repair::None)?) {
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

    fn clean_after_repair(&mut self, ours: &Repaired) -> Result<(), CaseError> {
        let Trial {
            bench,
            theirs,
            observed,
            ..
        } = self.trial;
        let ending = match theirs {
            Some(theirs) if observed.settled.is_clean() => {
                let verdict = bench.check(theirs, "ours.qcow2", Repair::None)?;
                let story = || format!("our repair: {}\n    then theirs: {verdict}", ours.said);
                match Ending::expect(verdict.is_clean(), story) {
                    // Kept clusters are leaks to qemu-img.
                    Ending::Failed(_) if self.nowhere && only_leaks(&verdict) => {
                        Ending::OnPurpose(Purpose::Keeping)
                    }
                    Ending::Failed(_) if self.doubtful && only_copied(&verdict) => {
                        Ending::OnPurpose(Purpose::LeavesAlone)
                    }
                    // Without snapshots there is nothing wrong with them.
                    Ending::Failed(_) if self.table_is_cut() => {
                        Ending::OnPurpose(Purpose::LeavesTable)
                    }
                    Ending::Failed(_) if observed.loses_snapshots => {
                        Ending::OnPurpose(Purpose::SnapshotsStay)
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
        let before = GuestData::read(self.trial.bench.damaged);
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
            ours,
            observed,
            ..
        } = self.trial;
        let ending = if observed.all.is_answer() && !observed.rebuilds {
            let repair = Repair::Alike(Algorithm::of_qemu(observed.qemu));
            let ours = bench.run(ours, "alike.qcow2", repair)?.said;
            self.on_purpose(same(&observed.all, &ours), &observed.all, &ours)
        } else {
            Ending::NotApplicable
        };
        self.end(Comparison::InPlaceRepair, ending);
        Ok(())
    }

    fn rebuilt(&mut self) -> Result<(), CaseError> {
        let Trial {
            bench,
            ours,
            observed,
            ..
        } = self.trial;
        let (layout, verdict) = match &observed.layout {
            Some(layout) => {
                let repair = Repair::Alike(Algorithm::of_qemu(observed.qemu));
                let ours = bench.run(ours, "alike.qcow2", repair)?;
                let verdicts = same(&observed.all, &ours.said);
                (
                    self.on_purpose(layouts(layout, &ours), &observed.all, &ours.said),
                    self.on_purpose(verdicts, &observed.all, &ours.said),
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
            ours,
            observed,
            ..
        } = self.trial;
        let ours = bench.run(ours, "ours.qcow2", Repair::Leaks)?.said;
        let ending = self.on_purpose(same(&observed.leaks, &ours), &observed.leaks, &ours);
        self.end(Comparison::LeaksRepair, ending);
        Ok(())
    }

    /// Puts the damaged bytes right again after our repair.
    fn keeping(&mut self, ours: &Repaired) {
        let Trial { damage, whole, .. } = self.trial;
        let mapping_only = damage.iter().all(|(damage, _)| is_mapping(damage));
        let ending = if self.nowhere && mapping_only && whole.readable() > 0 {
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
        found.is_some_and(|found| snapshot_table_is_cut(self.trial.bench.damaged, found))
    }

    /// A difference is on purpose where an older qemu-img does not see what is wrong.
    fn unless_older(&self, ending: Ending) -> Ending {
        let (Ending::Failed(_), Some(found)) = (&ending, &self.found) else {
            return ending;
        };
        let older = self.trial.observed.qemu < NEWER_CHECK;
        if older && has_newer_corruptions(self.trial.bench.damaged, found) {
            return Ending::OnPurpose(Purpose::NewerCheck);
        }
        ending
    }

    /// Whether a difference is one of the documented ones, narrowly.
    fn on_purpose(&self, ending: Ending, theirs: &Said, ours: &Said) -> Ending {
        let ending = self.unless_older(ending);
        let (Ending::Failed(story), Some(found)) = (&ending, &self.found) else {
            return ending;
        };
        let observed = self.trial.observed;
        let bitmaps = has_live_bitmaps(self.trial.bench.damaged, found);
        let past_end = refblock_past_end(found) && theirs.stderr.contains("is outside image");
        // What cannot be checked, or is worse than leaks, is rightly refused.
        let corrupt = observed.check.counter("corruptions") > 0 && observed.leaks == *theirs;
        let refuses_rightly = corrupt || ours.agrees_with(&observed.check);
        if !ours.is_answer() {
            Ending::Failed(story.clone())
        } else if matches!(theirs.ended, Ended::Signal(_)) {
            Ending::OnPurpose(Purpose::Survives)
        } else if self.table_is_cut() {
            Ending::OnPurpose(Purpose::LeavesTable)
        } else if (bitmaps || observed.loses_snapshots)
            && (ours.counters.is_some() || refuses_rightly)
        {
            Ending::OnPurpose(Purpose::SnapshotsStay)
        } else if ours.counters.is_none() {
            Ending::Failed(story.clone())
        } else if has_blank_snapshot(self.trial.bench.damaged, found) && !is_worse(ours, theirs) {
            Ending::OnPurpose(Purpose::LeavesOutBlank)
        } else if !found.snapshots.is_empty() && makes_room(theirs, ours) {
            Ending::OnPurpose(Purpose::MakesRoom)
        } else if gives_up(theirs) {
            Ending::OnPurpose(Purpose::GoesOn)
        } else if (self.nowhere || self.doubtful) && leaves_alone(&observed.check, theirs, ours) {
            Ending::OnPurpose(Purpose::LeavesAlone)
        } else if past_end {
            Ending::OnPurpose(Purpose::NoGrowth)
        } else if is_worse(theirs, &observed.check) && !is_worse(ours, &observed.check) {
            Ending::OnPurpose(Purpose::NeverWorse)
        } else {
            Ending::Failed(story.clone())
        }
    }
}

/// Whether both end alike but for the end of the image, and perhaps a leak that theirs leave.
fn makes_room(theirs: &Said, ours: &Said) -> bool {
    let alike = |said: &Said| {
        let mut counters = said.counters.clone()?;
        counters.0.remove("image-end-offset");
        counters.0.remove("leaks");
        Some(counters)
    };
    let corrupt = |said: &Said| said.counter("corruptions") + said.counter("check-errors") > 0;
    alike(theirs) == alike(ours)
        && ours.counter("leaks") <= theirs.counter("leaks")
        && (theirs.ended == ours.ended || !corrupt(ours))
}

/// Whether its overlap check kept qemu-img from writing.
fn gives_up(said: &Said) -> bool {
    said.stderr.contains("Preventing invalid write on metadata")
}

/// Whether the file has more clusters than qemu-img counts.
fn has_too_many_clusters(said: &Said) -> bool {
    said.counters.is_none() && said.stderr.contains("Check failed: File too large")
}

/// Whether all that is wrong are COPIED bits.
fn only_copied(said: &Said) -> bool {
    let wrong = said.stderr.lines().filter(|line| line.starts_with("ERROR"));
    let (copied, others): (Vec<&str>, Vec<&str>) =
        wrong.partition(|line| line.starts_with("ERROR OFLAG_COPIED"));
    !copied.is_empty() && others.is_empty()
}

/// Whether ours did nothing but leave corrupt what theirs wrote to.
fn leaves_alone(before: &Said, theirs: &Said, ours: &Said) -> bool {
    ours.counter("check-errors") == theirs.counter("check-errors")
        && ours.counter("corruptions") >= theirs.counter("corruptions")
        && !is_worse(ours, before)
}

/// Whether a repair left more wrong than a check found before.
fn is_worse(after: &Said, before: &Said) -> bool {
    let wrong = |said: &Said| -> i64 {
        let names = ["check-errors", "corruptions", "leaks"];
        names.iter().map(|name| said.counter(name)).sum()
    };
    wrong(after) > wrong(before)
}

fn only_leaks(verdict: &Said) -> bool {
    verdict.counter("corruptions") == 0 && verdict.counter("check-errors") == 0
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
