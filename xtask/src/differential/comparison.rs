//! Runs recount over one damaged image and compares it with what a qemu-img said and did. What is
//! compared depends on the class of the image; what a repair must make of it says the specification.

use recount_oracle::audit::{self, Audit, Unreadable, Wrong, audit_beside_the_header};
use recount_oracle::case::damage::{Damage, SnapshotDamage, SparseBytes};
use recount_oracle::case::observed::{Layout, Observed, Said};
use recount_oracle::class::Class;
use recount_oracle::guest::GuestData;
use recount_oracle::judge::expect;
use recount_oracle::subject::Ask;

use super::differences::{Ours, find};
use super::exhibit::Exhibit;
use super::question::{Answer, Question};
use super::subject::{Checker, Repair, Repaired, Subject, algorithm_of};
use crate::error::Result;

/// One case, about to be compared.
pub struct Trial<'a> {
    /// recount.
    pub ours: &'a dyn Subject,
    /// What recount makes of the image with `-r all`.
    pub repaired: &'a Repaired,
    /// qemu-img, to check what recount has repaired, and what it made of the image itself; `None`
    /// when it is not installed.
    pub theirs: Option<(&'a Checker, &'a SparseBytes)>,
    pub observed: &'a Observed,
    pub exhibit: &'a Exhibit<'a>,
}

/// Runs every comparison.
pub fn compare(trial: &Trial<'_>) -> Result<Vec<(Question, Answer)>> {
    let (observed, exhibit) = (trial.observed, trial.exhibit);
    let check = trial.repair(Repair::None)?;
    let untouched = check.image == exhibit.damaged;
    let touched = || "a check without -r changed the file".to_owned();
    let mut answers = vec![
        trial.same(Question::ReadOnlyCheck, &observed.check, &check),
        (
            Question::ChecksWriteNothing,
            Answer::expect(untouched, touched),
        ),
        (Question::AfterTheirRepair, trial.after_their_repair()?),
        (Question::CleanAfterRepair, trial.clean_after_repair()?),
        (Question::GuestDataUnchanged, trial.guest_data()),
        (Question::NoWorse, trial.no_worse()),
        (Question::Keeping, trial.keeping()),
    ];
    if exhibit.is(Class::Sound) {
        let leaks = trial.repair(Repair::Leaks)?;
        answers.push(trial.same(Question::LeaksRepair, &observed.leaks, &leaks));
        if observed.all.is_answer() {
            answers.extend(trial.alike()?);
        }
    }
    for question in Question::comparisons() {
        if answers.iter().all(|(answered, _)| *answered != question) {
            answers.push((question, Answer::NotApplicable));
        }
    }
    Ok(answers)
}

impl Trial<'_> {
    fn repair(&self, repair: Repair) -> Result<Repaired> {
        self.ours
            .run(self.exhibit.bench, &self.exhibit.damaged, repair)
    }

    /// What both say of the image that qemu-img repaired.
    fn after_their_repair(&self) -> Result<Answer> {
        let observed = self.observed;
        let known = self.exhibit.diagnosis.is_some() && observed.all.is_answer();
        let Some((_, left)) = self.theirs.filter(|_| known) else {
            return Ok(Answer::NotApplicable);
        };
        let ours = self.ours.run(self.exhibit.bench, left, Repair::None)?;
        let answer = same(&observed.settled, &ours.said);
        // It is a check of another image.
        let before = audit::audit(left).ok();
        let question = Question::ReadOnlyCheck;
        Ok(self.or_known(answer, question, before.as_ref(), &ours, &observed.settled))
    }

    fn clean_after_repair(&self) -> Result<Answer> {
        let (ours, observed) = (self.repaired, self.observed);
        let asked = self.exhibit.is(Class::Sound) && observed.settled.is_clean();
        let Some((theirs, left)) = self.theirs.filter(|_| asked) else {
            return Ok(Answer::NotApplicable);
        };
        let verdict = if ours.image == *left {
            observed.settled.clone()
        } else {
            theirs.check(self.exhibit.bench, &ours.image)?
        };
        let story = || format!("our repair: {}\n    then theirs: {verdict}", ours.said);
        let answer = Answer::expect(verdict.is_clean(), story);
        Ok(self.known(answer, Question::CleanAfterRepair, ours, &verdict))
    }

    fn guest_data(&self) -> Answer {
        let (damaged, ours) = (&self.exhibit.damaged, self.repaired);
        let before = match &self.exhibit.audit {
            Ok(audit) => GuestData::of(damaged, audit),
            Err(refusal @ Unreadable::NotOpened { .. }) => {
                return Answer::expect(ours.image == *damaged, || {
                    format!("{refusal}, but it was written to: {}", ours.said)
                });
            }
            Err(_) => return Answer::NotApplicable,
        };
        match before.first_loss(&GuestData::read(&ours.image)) {
            _ if before.is_empty() => Answer::NotApplicable,
            None => Answer::Passed,
            Some(loss) => Answer::Failed(format!("{loss}\n    our repair: {}", ours.said)),
        }
    }

    /// What recount leaves of a damaged image, beside what qemu-img does: nothing new is wrong with
    /// what refers to clusters, and of refcounts and COPIED bits no more is wrong than qemu-img leaves,
    /// but for bits in tables that are left alone.
    fn no_worse(&self) -> Answer {
        let damaged = &self.exhibit.damaged;
        let theirs = self.theirs.filter(|_| self.exhibit.is(Class::Damaged));
        let (Ok(before), Some((_, theirs))) = (audit_beside_the_header(damaged), theirs) else {
            return Answer::NotApplicable;
        };
        let left_alone = match expect(damaged, &Ask::default(), None) {
            Ok(Ok(repaired)) => repaired.left_alone,
            // That it is refused, and for the right reason, is what `as-specified` says.
            Ok(Err(_)) | Err(_) => return Answer::NotApplicable,
        };
        // What the header says as a table changes with the repair.
        let ours = match audit_beside_the_header(&self.repaired.image) {
            Ok(ours) => ours,
            Err(error) => return Answer::Failed(format!("after our repair, {error}")),
        };
        let (was, is) = (of_entries(&before), of_entries(&ours));
        if is > was {
            return Answer::Failed(format!(
                "{is} entries are wrong after our repair, {was} were before: {}",
                self.repaired.said
            ));
        }
        let left = of_refcounts(&ours).saturating_sub(left_alone);
        let theirs = audit_beside_the_header(theirs);
        let theirs = theirs.map_or(u64::MAX, |theirs| of_refcounts(&theirs));
        Answer::expect(left <= theirs, || {
            format!(
                "{left} refcounts or COPIED bits are wrong after our repair, {theirs} after theirs\
                 \n    our repair: {}\n    theirs: {}",
                self.repaired.said, self.observed.all
            )
        })
    }

    /// `-r all` by the algorithm of that qemu-img: in place; the layout, and what is said, of a
    /// rebuild.
    fn alike(&self) -> Result<Vec<(Question, Answer)>> {
        let observed = self.observed;
        let ours = self.repair(Repair::Alike(algorithm_of(observed.qemu)))?;
        if !observed.rebuilds {
            return Ok(vec![self.same(
                Question::InPlaceRepair,
                &observed.all,
                &ours,
            )]);
        }
        let mut answers = vec![self.same(Question::RebuildVerdict, &observed.all, &ours)];
        if let Some(layout) = &observed.layout {
            let question = Question::RebuiltLayout;
            let answer = self.known(layouts(layout, &ours), question, &ours, &observed.all);
            answers.push((question, answer));
        }
        Ok(answers)
    }

    /// Puts the damaged bytes right again after our repair of an image in which something may not be
    /// released, because something is damaged that may hide what is in use.
    fn keeping(&self) -> Answer {
        let acts = &self.exhibit.acts;
        let diagnosis = self.exhibit.diagnosis.as_ref();
        let keeps = diagnosis.is_some_and(|diagnosis| !diagnosis.damage.is_empty())
            && acts.iter().all(|(damage, _)| is_mapping(damage));
        let whole = self.exhibit.whole;
        let whole = whole.filter(|whole| keeps && !whole.is_empty());
        let Some(whole) = whole else {
            return Answer::NotApplicable;
        };
        let mut mended = self.repaired.image.clone();
        for change in acts.iter().flat_map(|(_, applied)| &applied.changes).rev() {
            if let Err(error) = mended.write_at(change.at, &change.before) {
                return Answer::Failed(format!("the entry cannot be put right: {error}"));
            }
        }
        match whole.first_loss(&GuestData::read(&mended)) {
            None => Answer::Passed,
            Some(loss) => Answer::Failed(format!(
                "put right, but {loss}\n    our repair: {}",
                self.repaired.said
            )),
        }
    }

    /// Whether both say the same, or differ as is known.
    fn same(&self, question: Question, theirs: &Said, ours: &Repaired) -> (Question, Answer) {
        let answer = same(theirs, &ours.said);
        (question, self.known(answer, question, ours, theirs))
    }

    fn known(&self, answer: Answer, asked: Question, ours: &Repaired, theirs: &Said) -> Answer {
        let before = self.exhibit.audit.as_ref().ok();
        self.or_known(answer, asked, before, ours, theirs)
    }

    /// The answer, or the difference that explains why it failed on an image with this audit.
    fn or_known(
        &self,
        answer: Answer,
        asked: Question,
        before: Option<&Audit>,
        ours: &Repaired,
        theirs: &Said,
    ) -> Answer {
        let (Answer::Failed(_), Some(before)) = (&answer, before) else {
            return answer;
        };
        let ours = Ours {
            asked,
            said: &ours.said,
            after: audit::audit(&ours.image).ok(),
        };
        let found = find(before, self.observed, &ours, theirs);
        found.map_or(answer, |found| Answer::OnPurpose(found.name))
    }
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
        let overflow = matches!(corruption.wrong, Wrong::TooManyReferences(_));
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

fn same(theirs: &Said, ours: &Said) -> Answer {
    Answer::expect(theirs.agrees_with(ours), || {
        format!("qemu-img: {theirs}\n    recount:  {ours}")
    })
}

fn layouts(theirs: &Layout, ours: &Repaired) -> Answer {
    let Some(layout) = Layout::read(&ours.image) else {
        return Answer::Failed("the repaired image has no header".to_owned());
    };
    match layout.difference(theirs) {
        None => Answer::Passed,
        Some(difference) => {
            let said = &ours.said;
            Answer::Failed(format!(
                "ours against theirs: {difference}\n    our repair: {said}"
            ))
        }
    }
}
