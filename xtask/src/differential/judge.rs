//! Runs both checkers over one damaged image and compares them in every way that applies.

use std::io;
use std::path::{Path, PathBuf};

use recount_oracle::case::damage::find::{Structures, structures};
use recount_oracle::case::damage::{Applied, Damage, ReadWriteAt, SnapshotDamage, SparseBytes};

use super::comparison::{Comparison, Ending, Purpose};
use super::disk;
use super::guest::GuestData;
use super::layout::Layout;
use super::nowhere::{has_live_bitmaps, leads_nowhere, refblock_past_end};
use super::program::CannotRun;
use super::tools::{Checker, Repair};
use super::verdict::Verdict;

/// qemu-img says this on standard error, and only when it rebuilds.
const REBUILDING: &str = "Rebuilding refcount structure";

/// Why a case could not be run.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// A checker could not be run.
    #[error(transparent)]
    CannotRun(#[from] CannotRun),
    /// A file could not be read or written.
    #[error("cannot work in {}: {source}", directory.display())]
    Io {
        /// The folder.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The two that are compared.
pub struct Pair {
    /// qemu-img.
    pub theirs: Checker,
    /// recount.
    pub ours: Checker,
}

/// One damaged image, in the folder where its backing or data file is.
pub struct Subject<'a> {
    /// The folder.
    pub directory: &'a Path,
    /// Whether qemu-img needs the key.
    pub encrypted: bool,
    /// The image before the damage.
    pub whole: &'a SparseBytes,
    /// The image after it.
    pub damaged: &'a SparseBytes,
    /// The acts of damage, and the bytes that each changed.
    pub damage: &'a [(Damage, Applied)],
}

/// Everything known about one case while it is compared.
struct Run<'a> {
    pair: &'a Pair,
    subject: &'a Subject<'a>,
    found: Option<Structures>,
    nowhere: bool,
    endings: Vec<(Comparison, Ending)>,
}

/// An image after a repair, and what the repair said.
struct Repaired {
    verdict: Verdict,
    image: SparseBytes,
}

/// Runs every comparison.
pub fn judge(pair: &Pair, subject: &Subject<'_>) -> Result<Vec<(Comparison, Ending)>, JudgeError> {
    let found = structures(subject.damaged).ok().flatten();
    let mut run = Run {
        nowhere: found
            .as_ref()
            .is_some_and(|found| leads_nowhere(subject.damaged, found)),
        pair,
        subject,
        found,
        endings: Vec::new(),
    };
    run.read_only()?;
    let theirs = run.repair(&pair.theirs, "theirs.qcow2", Repair::All(None))?;
    let ours = run.repair(&pair.ours, "ours.qcow2", Repair::All(None))?;
    let settled = run.after_their_repair(&theirs)?;
    run.clean_after_repair(&settled, &ours)?;
    run.guest_data(&ours);
    run.verdict_in_place(&theirs, &ours);
    run.rebuilt(&theirs)?;
    run.leaks()?;
    run.keeping(&ours);
    Ok(run.endings)
}

impl Run<'_> {
    fn end(&mut self, comparison: Comparison, ending: Ending) {
        self.endings.push((comparison, ending));
    }

    fn check(&self, checker: &Checker, file: &str, repair: Repair) -> Result<Verdict, JudgeError> {
        let subject = self.subject;
        Ok(checker.check(subject.directory, file, subject.encrypted, repair)?)
    }

    fn store(&self, file: &str) -> Result<(), JudgeError> {
        let stored = disk::store(&self.subject.directory.join(file), self.subject.damaged);
        stored.map_err(|source| self.io(source))
    }

    fn load(&self, file: &str) -> Result<SparseBytes, JudgeError> {
        let loaded = disk::load(&self.subject.directory.join(file));
        loaded.map_err(|source| self.io(source))
    }

    fn io(&self, source: io::Error) -> JudgeError {
        let directory = self.subject.directory.to_owned();
        JudgeError::Io { directory, source }
    }

    fn repair(&self, by: &Checker, file: &str, repair: Repair) -> Result<Repaired, JudgeError> {
        self.store(file)?;
        let verdict = self.check(by, file, repair)?;
        let image = self.load(file)?;
        Ok(Repaired { verdict, image })
    }

    fn read_only(&mut self) -> Result<(), JudgeError> {
        self.store("damaged.qcow2")?;
        let theirs = self.check(&self.pair.theirs, "damaged.qcow2", Repair::None)?;
        let ours = self.check(&self.pair.ours, "damaged.qcow2", Repair::None)?;
        self.end(Comparison::ReadOnlyCheck, same(&theirs, &ours));
        let untouched = self.load("damaged.qcow2")? == *self.subject.damaged;
        let story = || "a check without -r changed the file".to_owned();
        self.end(
            Comparison::ChecksWriteNothing,
            Ending::expect(untouched, story),
        );
        Ok(())
    }

    /// What qemu-img says of the image that it repaired.
    fn after_their_repair(&mut self, theirs: &Repaired) -> Result<Verdict, JudgeError> {
        let verdict = self.check(&self.pair.theirs, "theirs.qcow2", Repair::None)?;
        let ending = if theirs.verdict.is_answer() {
            let ours = self.check(&self.pair.ours, "theirs.qcow2", Repair::None)?;
            same(&verdict, &ours)
        } else {
            Ending::NotApplicable
        };
        self.end(Comparison::AfterTheirRepair, ending);
        Ok(verdict)
    }

    fn clean_after_repair(&mut self, theirs: &Verdict, ours: &Repaired) -> Result<(), JudgeError> {
        let ending = if theirs.is_clean() {
            let verdict = self.check(&self.pair.theirs, "ours.qcow2", Repair::None)?;
            let story = || format!("our repair: {}\n    then theirs: {verdict}", ours.verdict);
            match Ending::expect(verdict.is_clean(), story) {
                // Kept clusters are leaks to qemu-img.
                Ending::Failed(_) if self.nowhere && only_leaks(&verdict) => {
                    Ending::OnPurpose(Purpose::Keeping)
                }
                ending => ending,
            }
        } else {
            Ending::NotApplicable
        };
        self.end(Comparison::CleanAfterRepair, ending);
        Ok(())
    }

    fn guest_data(&mut self, ours: &Repaired) {
        let before = GuestData::read(self.subject.damaged);
        let ending = match before.first_loss(&GuestData::read(&ours.image)) {
            _ if before.readable() == 0 => Ending::NotApplicable,
            None => Ending::Passed,
            Some(loss) => Ending::Failed(format!(
                "guest cluster lost: {loss:x?}\n    our repair: {}",
                ours.verdict
            )),
        };
        self.end(Comparison::GuestData, ending);
    }

    fn verdict_in_place(&mut self, theirs: &Repaired, ours: &Repaired) {
        let ending = if theirs.verdict.is_answer() && !rebuilds(&theirs.verdict) {
            self.on_purpose(
                same(&theirs.verdict, &ours.verdict),
                &theirs.verdict,
                &ours.verdict,
            )
        } else {
            Ending::NotApplicable
        };
        self.end(Comparison::InPlaceRepair, ending);
    }

    fn rebuilt(&mut self, theirs: &Repaired) -> Result<(), JudgeError> {
        let algorithm = self.pair.theirs.algorithm();
        let complete = theirs.verdict.counters.is_some() && rebuilds(&theirs.verdict);
        let (layout, verdict) = match algorithm {
            Some(algorithm) if complete => {
                let repair = Repair::All(Some(algorithm));
                let ours = self.repair(&self.pair.ours, "rebuilt.qcow2", repair)?;
                let verdicts = same(&theirs.verdict, &ours.verdict);
                (
                    self.on_purpose(layouts(theirs, &ours), &theirs.verdict, &ours.verdict),
                    self.on_purpose(verdicts, &theirs.verdict, &ours.verdict),
                )
            }
            _ => (Ending::NotApplicable, Ending::NotApplicable),
        };
        self.end(Comparison::RebuiltLayout, layout);
        self.end(Comparison::RebuildVerdict, verdict);
        Ok(())
    }

    fn leaks(&mut self) -> Result<(), JudgeError> {
        let theirs = self.repair(&self.pair.theirs, "theirs.qcow2", Repair::Leaks)?;
        let ours = self.repair(&self.pair.ours, "ours.qcow2", Repair::Leaks)?;
        let ending = same(&theirs.verdict, &ours.verdict);
        let ending = self.on_purpose(ending, &theirs.verdict, &ours.verdict);
        self.end(Comparison::LeaksRepair, ending);
        Ok(())
    }

    /// Puts the damaged bytes right again after our repair.
    fn keeping(&mut self, ours: &Repaired) {
        let mapping_only = self
            .subject
            .damage
            .iter()
            .all(|(damage, _)| is_mapping(damage));
        let before = GuestData::read(self.subject.whole);
        let ending = if self.nowhere && mapping_only && before.readable() > 0 {
            let mut mended = ours.image.clone();
            let changes = self
                .subject
                .damage
                .iter()
                .flat_map(|(_, applied)| &applied.changes);
            let written = changes
                .rev()
                .try_for_each(|change| mended.write_at(change.at, &change.before));
            match (written, before.first_loss(&GuestData::read(&mended))) {
                (Ok(()), None) => Ending::Passed,
                (_, loss) => Ending::Failed(format!(
                    "not back: {loss:x?}\n    our repair: {}",
                    ours.verdict
                )),
            }
        } else {
            Ending::NotApplicable
        };
        self.end(Comparison::Keeping, ending);
    }

    /// Whether a difference is one of the documented ones, narrowly.
    fn on_purpose(&self, ending: Ending, theirs: &Verdict, ours: &Verdict) -> Ending {
        let Ending::Failed(story) = ending else {
            return ending;
        };
        let past_end = self.found.as_ref().is_some_and(refblock_past_end);
        let bitmaps = self.found.as_ref();
        let bitmaps = bitmaps.is_some_and(|found| has_live_bitmaps(self.subject.damaged, found));
        if bitmaps && ours.is_answer() {
            Ending::OnPurpose(Purpose::BitmapsAlone)
        } else if self.nowhere && keeps(theirs, ours) {
            Ending::OnPurpose(Purpose::Keeping)
        } else if past_end && ours.is_answer() {
            Ending::OnPurpose(Purpose::NoGrowth)
        } else {
            Ending::Failed(story)
        }
    }
}

fn rebuilds(verdict: &Verdict) -> bool {
    verdict.stderr.contains(REBUILDING)
}

fn only_leaks(verdict: &Verdict) -> bool {
    verdict.counter("corruptions") == 0 && verdict.counter("check-errors") == 0
}

/// Whether all that ours did otherwise is to keep what theirs released as leaks.
fn keeps(theirs: &Verdict, ours: &Verdict) -> bool {
    ["corruptions", "check-errors"]
        .iter()
        .all(|name| theirs.counter(name) == ours.counter(name))
        && ours.counter("leaks") >= theirs.counter("leaks")
        && ours.counter("leaks-fixed") <= theirs.counter("leaks-fixed")
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

fn same(theirs: &Verdict, ours: &Verdict) -> Ending {
    Ending::expect(theirs.agrees_with(ours), || {
        format!("qemu-img: {theirs}\n    recount:  {ours}")
    })
}

fn layouts(theirs: &Repaired, ours: &Repaired) -> Ending {
    match (Layout::read(&theirs.image), Layout::read(&ours.image)) {
        (Some(theirs_layout), Some(ours_layout)) => {
            ours_layout
                .difference(&theirs_layout)
                .map_or(Ending::Passed, |difference| {
                    let said = &ours.verdict;
                    Ending::Failed(format!(
                        "ours against theirs: {difference}\n    our repair: {said}"
                    ))
                })
        }
        _ => Ending::Failed("a repaired image has no header".to_owned()),
    }
}
