//! Runs recount over one damaged image and compares it with what a qemu-img said and did. What is
//! compared depends on the class of the image; what a repair must make of it says the specification.

use recount_oracle::audit::{self, Audit, Wrong, audit_beside_the_header};
use recount_oracle::case::damage::{Applied, Damage, ReadWriteAt, SnapshotDamage, SparseBytes};
use recount_oracle::case::observed::{Layout, Observed, Said};
use recount_oracle::class::Class;
use recount_oracle::spec::{Expected, expect};

use super::comparison::{Comparison, Ending};
use super::diagnosis::Patient;
use super::differences::{Side, find};
use super::guest::GuestData;
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
    /// What is wrong with it.
    pub patient: &'a Patient,
    /// The acts of damage, and the bytes that each changed.
    pub damage: &'a [(Damage, Applied)],
    /// What the guest saw before the damage.
    pub whole: &'a GuestData,
}

/// Runs every comparison.
pub fn judge(trial: &Trial<'_>) -> Result<Vec<(Comparison, Ending)>, CaseError> {
    let mut endings = trial.read_only()?;
    let mut end = |comparison, ending| endings.push((comparison, ending));
    let class = trial.patient.class();
    let sound = class == Some(Class::Sound);
    let damaged = class == Some(Class::Damaged);
    let when = |asked: bool, ending: &dyn Fn() -> Result<Ending, CaseError>| {
        if asked {
            ending()
        } else {
            Ok(Ending::NotApplicable)
        }
    };
    end(
        Comparison::AfterTheirRepair,
        when(class.is_some(), &|| trial.after_their_repair())?,
    );
    end(
        Comparison::CleanAfterRepair,
        when(sound, &|| trial.clean_after_repair())?,
    );
    end(Comparison::GuestData, trial.guest_data());
    end(
        Comparison::NoWorse,
        when(damaged, &|| Ok(trial.no_worse()))?,
    );
    end(
        Comparison::Keeping,
        when(trial.patient.keeps(), &|| Ok(trial.keeping()))?,
    );
    end(
        Comparison::LeaksRepair,
        when(sound, &|| {
            let ours = trial.repair(Repair::Leaks)?;
            Ok(trial.same(Comparison::LeaksRepair, &trial.observed.leaks, &ours))
        })?,
    );
    let mut alike = [
        Ending::NotApplicable,
        Ending::NotApplicable,
        Ending::NotApplicable,
    ];
    if sound && trial.observed.all.is_answer() {
        alike = trial.alike()?;
    }
    let [in_place, layout, verdict] = alike;
    end(Comparison::InPlaceRepair, in_place);
    end(Comparison::RebuiltLayout, layout);
    end(Comparison::RebuildVerdict, verdict);
    Ok(endings)
}

impl Trial<'_> {
    fn repair(&self, repair: Repair) -> Result<Repaired, CaseError> {
        self.ours.run(self.bench, self.damaged, repair)
    }

    fn read_only(&self) -> Result<Vec<(Comparison, Ending)>, CaseError> {
        let ours = self.repair(Repair::None)?;
        let comparison = Comparison::ReadOnlyCheck;
        let same = self.same(comparison, &self.observed.check, &ours);
        let untouched = ours.image == *self.damaged;
        let story = || "a check without -r changed the file".to_owned();
        Ok(vec![
            (comparison, same),
            (
                Comparison::ChecksWriteNothing,
                Ending::expect(untouched, story),
            ),
        ])
    }

    /// What both say of the image that qemu-img repaired.
    fn after_their_repair(&self) -> Result<Ending, CaseError> {
        let observed = self.observed;
        let left = self.theirs.filter(|_| observed.all.is_answer());
        let Some((_, left)) = left else {
            return Ok(Ending::NotApplicable);
        };
        let ours = self.ours.run(self.bench, left, Repair::None)?;
        // It is a check of another image.
        let audit = audit::audit(left).ok();
        Ok(self.or_known(
            same(&observed.settled, &ours.said),
            Comparison::ReadOnlyCheck,
            audit.as_ref(),
            &side(&ours.said, audit.as_ref()),
            &side(&observed.settled, None),
        ))
    }

    fn clean_after_repair(&self) -> Result<Ending, CaseError> {
        let (ours, observed) = (self.repaired, self.observed);
        let Some((theirs, left)) = self.theirs.filter(|_| observed.settled.is_clean()) else {
            return Ok(Ending::NotApplicable);
        };
        let verdict = if ours.image == *left {
            observed.settled.clone()
        } else {
            theirs.check(self.bench, &ours.image)?
        };
        let story = || format!("our repair: {}\n    then theirs: {verdict}", ours.said);
        let ending = Ending::expect(verdict.is_clean(), story);
        let after = audit::audit(&ours.image).ok();
        let ours = side(&ours.said, after.as_ref());
        let theirs = side(&verdict, None);
        let comparison = Comparison::CleanAfterRepair;
        Ok(self.known(ending, comparison, &ours, &theirs))
    }

    fn guest_data(&self) -> Ending {
        let before = GuestData::read(self.damaged);
        let ours = self.repaired;
        match before.first_loss(&GuestData::read(&ours.image)) {
            _ if before.readable() == 0 => Ending::NotApplicable,
            None => Ending::Passed,
            Some(loss) => Ending::Failed(format!("{loss}\n    our repair: {}", ours.said)),
        }
    }

    /// What recount leaves of a damaged image, beside what qemu-img does: nothing new is wrong with
    /// what refers to clusters, and of refcounts and COPIED bits no more is wrong than qemu-img leaves,
    /// but for bits in tables that are left alone.
    fn no_worse(&self) -> Ending {
        let before = audit_beside_the_header(self.damaged);
        let (Ok(before), Some((_, theirs))) = (before, self.theirs) else {
            return Ending::NotApplicable;
        };
        let ask = recount_oracle::judge::ask(&recount::RepairOptions::default(), None);
        let left_alone = match expect(self.damaged, &ask, None) {
            Ok(Expected::Repaired(repaired)) => repaired.left_alone,
            // That it is refused, and for the right reason, is what `as-specified` says.
            Ok(Expected::Refused(_)) | Err(_) => return Ending::NotApplicable,
        };
        // What the header says as a table changes with the repair.
        let ours = match audit_beside_the_header(&self.repaired.image) {
            Ok(ours) => ours,
            Err(error) => return Ending::Failed(format!("after our repair, {error}")),
        };
        let (was, is) = (of_entries(&before), of_entries(&ours));
        if is > was {
            return Ending::Failed(format!(
                "{is} entries are wrong after our repair, {was} were before: {}",
                self.repaired.said
            ));
        }
        let left = of_refcounts(&ours).saturating_sub(left_alone);
        let theirs = audit_beside_the_header(theirs);
        let theirs = theirs.map_or(u64::MAX, |theirs| of_refcounts(&theirs));
        Ending::expect(left <= theirs, || {
            format!(
                "{left} refcounts or COPIED bits are wrong after our repair, {theirs} after theirs\
                 \n    our repair: {}\n    theirs: {}",
                self.repaired.said, self.observed.all
            )
        })
    }

    /// `-r all` by the algorithm of that qemu-img: in place; the layout, and what is said, of a
    /// rebuild.
    fn alike(&self) -> Result<[Ending; 3], CaseError> {
        let observed = self.observed;
        let ours = self.repair(Repair::Alike(Algorithm::of_qemu(observed.qemu)))?;
        let none = Ending::NotApplicable;
        if !observed.rebuilds {
            let same = self.same(Comparison::InPlaceRepair, &observed.all, &ours);
            return Ok([same, none.clone(), none]);
        }
        let Some(layout) = &observed.layout else {
            let same = self.same(Comparison::RebuildVerdict, &observed.all, &ours);
            return Ok([none.clone(), none, same]);
        };
        let after = audit::audit(&ours.image).ok();
        let layouts = self.known(
            layouts(layout, &ours),
            Comparison::RebuiltLayout,
            &side(&ours.said, after.as_ref()),
            &side(&observed.all, None),
        );
        let same = self.same(Comparison::RebuildVerdict, &observed.all, &ours);
        Ok([none, layouts, same])
    }

    /// Puts the damaged bytes right again after our repair.
    fn keeping(&self) -> Ending {
        let mapping_only = self.damage.iter().all(|(damage, _)| is_mapping(damage));
        if !mapping_only || self.whole.readable() == 0 {
            return Ending::NotApplicable;
        }
        let mut mended = self.repaired.image.clone();
        let acts = self.damage.iter();
        let changes = acts.flat_map(|(_, applied)| &applied.changes).rev();
        for change in changes {
            if let Err(error) = mended.write_at(change.at, &change.before) {
                return Ending::Failed(format!("the entry cannot be put right: {error}"));
            }
        }
        match self.whole.first_loss(&GuestData::read(&mended)) {
            None => Ending::Passed,
            Some(loss) => Ending::Failed(format!(
                "put right, but {loss}\n    our repair: {}",
                self.repaired.said
            )),
        }
    }

    /// Whether both say the same, or differ as is known.
    fn same(&self, comparison: Comparison, theirs: &Said, ours: &Repaired) -> Ending {
        let ending = same(theirs, &ours.said);
        if ending == Ending::Passed {
            return ending;
        }
        let after = audit::audit(&ours.image).ok();
        let ours = side(&ours.said, after.as_ref());
        self.known(ending, comparison, &ours, &side(theirs, None))
    }

    fn known(
        &self,
        ending: Ending,
        comparison: Comparison,
        ours: &Side<'_>,
        theirs: &Side<'_>,
    ) -> Ending {
        self.or_known(
            ending,
            comparison,
            self.patient.audit.as_ref(),
            ours,
            theirs,
        )
    }

    fn or_known(
        &self,
        ending: Ending,
        comparison: Comparison,
        before: Option<&Audit>,
        ours: &Side<'_>,
        theirs: &Side<'_>,
    ) -> Ending {
        let (Ending::Failed(_), Some(before)) = (&ending, before) else {
            return ending;
        };
        let found = find(comparison, before, self.observed, ours, theirs);
        found.map_or(ending, |found| Ending::OnPurpose(found.name))
    }
}

const fn side<'a>(said: &'a Said, after: Option<&'a Audit>) -> Side<'a> {
    Side { said, after }
}

/// How much is wrong with what refers to clusters.
fn of_entries(audit: &Audit) -> usize {
    let corruptions = audit.corruptions.iter();
    corruptions
        .filter(|corruption| !corruption.referrer.is_structure())
        .count()
}

/// How much is wrong with refcounts, refcount structures and COPIED bits, leaks aside.
fn of_refcounts(audit: &Audit) -> u64 {
    let structures = audit.corruptions.iter();
    let structures = structures.filter(|corruption| {
        let overflow = matches!(corruption.wrong, Wrong::TooManyReferences { .. });
        corruption.referrer.is_structure() && !overflow
    });
    let low = audit.mismatches.iter().filter(|wrong| !wrong.is_leak());
    // Where there are more references than a refcount can count, the bit stays cleared.
    let copied = audit
        .qemu
        .copied
        .iter()
        .filter(|corruption| match corruption.wrong {
            Wrong::Copied { cluster, .. } => {
                audit.references_to(cluster) <= audit.header.max_refcount()
            }
            _ => true,
        });
    (structures.count() + low.count() + copied.count()) as u64 + audit.qemu.check_errors
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
