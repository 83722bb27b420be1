//! What each property says of one subject's repair of one image, whoever the subject is: judged from
//! the bytes before and after alone, and from what it said.

use recount_oracle::audit::{self, Audit};
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::observed::Ended;
use recount_oracle::class::{Class, Diagnosis};
use recount_oracle::crash;
use recount_oracle::disk::Trace;
use recount_oracle::properties::reading::Kind;
use recount_oracle::properties::{Failure, Property, Verdict, crash_atomic, judge, keeps};
use recount_oracle::run::{Before, Run};
use recount_oracle::subject::{Done, Stopped};

use super::disk::difference;
use super::exhibit::Exhibit;
use super::guest::GuestData;
use super::observe::is_beyond;
use super::question::{Answer, Question};
use super::subject::program::{FILE_SIZE_EXCEEDED, Limits};
use super::subject::{Bench, Repair, Repaired, Subject};
use crate::error::Result;

/// Images with more clusters in use are not judged: every judge reads the whole image once more.
const MOST_CLUSTERS: usize = 50_000;
/// How many states after power cuts are looked at.
const CRASHES: crash::Limits = crash::Limits {
    exhaustive_bits: 6,
    samples: 16,
    seed: 1,
};

/// Bits 0 and 1 of the incompatible features (specification, "Header").
const DIRTY_AND_CORRUPT: u64 = 3;

/// What the oracle's judge is asked of every repair that changed something.
const OF_BYTES: [(Question, Property); 3] = [
    (Question::NoOverlap, Property::NoOverlap),
    (Question::LeavesDataAlone, Property::LeavesDataAlone),
    (Question::NoLeaks, Property::NoLeaks),
];

/// A damaged image, as everyone is judged by it.
pub struct Judged<'a> {
    before: Before,
    diagnosis: &'a Diagnosis,
    guest: GuestData,
    /// Whether nothing is wrong with it.
    healthy: bool,
    /// Whether recount repairs it: the refcounts are right afterwards, and were not before.
    repairable: bool,
    /// A file of so many bytes is longer than any repair in process needs.
    runaway: u64,
}

impl<'a> Judged<'a> {
    /// `None` where the image is none that anyone could repair, or one that takes a naive judge too
    /// long. `reference` is what recount makes of it.
    pub fn new(exhibit: &'a Exhibit<'_>, reference: &Repaired) -> Option<Self> {
        let damaged = exhibit.damaged.clone();
        let before = Before::new(damaged, None, Kind::Image).ok()?;
        let size = before.reading.references.len() + before.reading.counts().len();
        if size > MOST_CLUSTERS {
            return None;
        }
        let after = Kind::Image.read(&reference.image).ok();
        let wrong = before.reading.audit().is_some_and(has_wrong_refcounts);
        let right = after.and_then(|after| after.audit().map(|audit| !has_wrong_refcounts(audit)));
        Some(Self {
            guest: GuestData::of(&exhibit.damaged, exhibit.audit.as_ref().ok()?),
            diagnosis: exhibit.diagnosis.as_ref()?,
            runaway: runaway(exhibit.length(), exhibit.audit.as_ref().ok()?),
            healthy: exhibit.audit.as_ref().is_ok_and(is_healthy),
            repairable: wrong && right.unwrap_or(false),
            before,
        })
    }

    /// What the bytes say of one repair; of power cuts only with `crashes`. A subject that may decline
    /// an image need not repair it.
    pub fn answers(
        &self,
        repaired: &Repaired,
        may_decline: bool,
        crashes: bool,
    ) -> Vec<(Question, Answer)> {
        let ends = self.ends(repaired);
        if may_decline && self.declines(repaired) {
            let healthy = self.healthy.then_some(Question::HealthyStaysHealthy);
            let declined = healthy.into_iter().chain([Question::Repairs]);
            return declined.map(|one| (one, Answer::Declined)).collect();
        }
        let trace = repaired.trace.clone();
        let trace = trace.unwrap_or_else(|| difference(&self.before.bytes, &repaired.image));
        let outcome = if ends == Verdict::Holds && ended_well(repaired) {
            Ok(Done::default())
        } else {
            Err(Stopped::unknown(&repaired.said))
        };
        let run = Run::observed(trace, outcome, repaired.image.clone());
        let mut answers = vec![
            (Question::KeepsGuestData, self.guest_data(repaired)),
            (Question::Repairs, self.repairs(&ends, repaired, &run)),
            (Question::Ends, ends),
        ];
        // What changed nothing has been judged by `repairs`.
        if !run.trace.is_read_only() {
            if run.outcome.is_ok() {
                answers.push((Question::CountsEveryCluster, self.counts(&run).into()));
            }
            if !self.diagnosis.damage.is_empty() {
                answers.push((Question::KeepsWhatItCannotFollow, self.keeps(&run).into()));
            }
            answers.extend(
                OF_BYTES
                    .map(|(question, property)| (question, judge(property, &self.before, &run))),
            );
            // What is kept of a damaged image stays a leak; what stays wrong there the specification
            // says, and a subject that makes it clean has hidden something.
            if self.diagnosis.class == Class::Sound {
                let clean = judge(Property::CleanAfterwards, &self.before, &run);
                answers.push((Question::CleanAfterwards, clean));
            }
        }
        if crashes && repaired.trace.is_some() {
            let crashes = self.crash_atomic(&run.trace, &repaired.image);
            answers.push((Question::CrashAtomic, crashes));
        }
        if self.healthy {
            answers.push((Question::HealthyStaysHealthy, self.stays_healthy(repaired)));
        }
        let answers = answers.into_iter();
        answers
            .map(|(one, verdict)| (one, verdict.into()))
            .collect()
    }

    /// Whether it says that it did not repair the image, and left it as it was.
    fn declines(&self, repaired: &Repaired) -> bool {
        let fails = matches!(repaired.said.ended, Ended::Code(_)) && !ended_well(repaired);
        fails && self.is_unchanged(repaired)
    }

    fn is_unchanged(&self, repaired: &Repaired) -> bool {
        repaired.image == self.before.bytes
    }

    /// An image with nothing wrong can be opened afterwards, has nothing wrong, and reads the same.
    fn stays_healthy(&self, repaired: &Repaired) -> Verdict {
        let said = &repaired.said;
        match audit::audit(&repaired.image) {
            Err(error) => Verdict::fails(format!(
                "an undamaged image cannot be opened any more: {error}\n    the repair: {said}"
            )),
            Ok(after) if !after.is_clean() => {
                let wrong = after.corruptions.first().map(ToString::to_string);
                let count = after.mismatches.first().map(|one| {
                    let (cluster, refcount, references) =
                        (one.cluster, one.on_disk, one.references);
                    format!("cluster {cluster} has refcount {refcount} and {references} references")
                });
                let what = wrong
                    .or(count)
                    .unwrap_or("a COPIED bit is wrong".to_owned());
                Verdict::fails(format!(
                    "an undamaged image is broken afterwards: {what}\n    the repair: {said}"
                ))
            }
            Ok(_) => self.guest_data(repaired).and(|| Verdict::Holds),
        }
    }

    fn ends(&self, repaired: &Repaired) -> Verdict {
        // A program has a limit of its own; what it starts may be what is ended by that.
        let longest = match repaired.trace {
            Some(_) => self.runaway,
            None => Limits::for_image(SparseBytes::len(&self.before.bytes)).file,
        };
        let how = match repaired.said.ended {
            _ if repaired.image.len() >= longest => RUNAWAY.to_owned(),
            Ended::Signal(FILE_SIZE_EXCEEDED) => RUNAWAY.to_owned(),
            Ended::TimedOut => {
                "timeout: it was ended after the time that a repair may take".to_owned()
            }
            Ended::Signal(signal) => format!("crash: killed by signal {signal}"),
            Ended::Code(_) => return Verdict::Holds,
        };
        Verdict::fails(format!("{how}\n    it said: {}", repaired.said))
    }

    /// What a power cut may leave of a repair with these writes and flushes.
    pub fn crash_atomic(&self, trace: &Trace, after: &SparseBytes) -> Verdict {
        let whole = Kind::Image.read(after).ok();
        let whole = whole.filter(|_| !trace.is_read_only());
        crash_atomic::judge(&self.before, trace, whole.as_ref(), &CRASHES).1
    }

    /// Every cluster counts as often as it is referred to, or as much as is kept.
    fn counts(&self, run: &Run) -> Result<(), Failure> {
        let after = run.reading(&self.before)?;
        for (&cluster, &references) in &after.references {
            let due = references.min(after.max_refcount);
            let kept = self.diagnosis.kept.get(&cluster).copied().unwrap_or(0);
            let count = after.count(cluster).unwrap_or(0);
            if count != due && (count < due || count > kept) {
                let by = after.referrers(cluster);
                return Err(Failure::new(format!(
                    "the refcount of cluster {cluster} is {count} after the repair; it should be \
                     {due}: {by}"
                )));
            }
        }
        Ok(())
    }

    /// Nothing that is kept of a damaged image is released or written over, however the repair ended.
    fn keeps(&self, run: &Run) -> Result<(), Failure> {
        let Diagnosis { kept, damage, .. } = self.diagnosis;
        let after = run.reading(&self.before)?;
        keeps(&self.before, run, after, kept, damage.first())
    }

    fn guest_data(&self, repaired: &Repaired) -> Verdict {
        if self.guest.is_empty() {
            return Verdict::NotApplicable;
        }
        let after = GuestData::read(&repaired.image);
        match self.guest.first_loss(&after) {
            None => Verdict::Holds,
            Some(loss) => Verdict::fails(format!(
                "damages data: {loss}\n    the repair: {}",
                repaired.said
            )),
        }
    }

    fn repairs(&self, ends: &Verdict, repaired: &Repaired, run: &Run) -> Verdict {
        let said = &repaired.said;
        let fails = matches!(said.ended, Ended::Code(1 | 4..)) && !ended_well(repaired);
        if fails && !self.is_unchanged(repaired) {
            return Verdict::fails(format!("it changed the image and failed then: {said}"));
        }
        if !self.repairable || *ends != Verdict::Holds {
            return Verdict::NotApplicable;
        }
        if run.trace.is_read_only() || self.is_unchanged(repaired) {
            return Verdict::fails(format!(
                "repairs nothing, though the refcounts are wrong and can be set right: {said}"
            ));
        }
        Verdict::Holds
    }
}

const RUNAWAY: &str = "runaway file: it made a file longer than any repair needs";

/// How long a file of `length` bytes may become: new structures may have to lie behind all that
/// something refers to, also past the end of the file, and QEMU's `tail` puts a refblock into the range
/// that it counts, which may be the one behind that.
fn runaway(length: u64, audit: &Audit) -> u64 {
    let ends = audit.past_end.iter();
    let ends = ends.map(|past| past.offset.saturating_add(past.bytes));
    let range = audit.header.refblock_entries() * audit.header.cluster_size();
    let ranges = ends.fold(length, u64::max).div_ceil(range);
    Limits::for_image(ranges.saturating_mul(range)).file
}

/// Whether there is nothing that anyone could repair.
fn is_healthy(audit: &Audit) -> bool {
    audit.is_clean() && audit.header.incompatible & DIRTY_AND_CORRUPT == 0
}

/// Whether refcounts are not the references, or cannot be read.
pub fn has_wrong_refcounts(audit: &Audit) -> bool {
    audit.qemu.rebuild_needed || audit.qemu.check_errors > 0 || !audit.mismatches.is_empty()
}

/// Whether it says itself that it has repaired what it could.
fn ended_well(repaired: &Repaired) -> bool {
    match (&repaired.said.counters, repaired.said.ended) {
        (Some(_), Ended::Code(_)) | (None, Ended::Code(0)) => true,
        (_, _) => false,
    }
}

/// Whether a second repair by the same subject changes nothing, and whether every checker finds
/// clean what the audit finds clean.
pub fn afterwards<'a>(
    subject: &dyn Subject,
    repaired: &Repaired,
    checkers: impl Iterator<Item = &'a dyn Subject>,
    bench: Bench<'_>,
) -> Result<Vec<(Question, Verdict)>> {
    let Some(audit) = audit::audit(&repaired.image)
        .ok()
        .filter(|_| ended_well(repaired))
    else {
        return Ok(Vec::new());
    };
    let again = subject.run(bench, &repaired.image, Repair::All)?;
    let same = if again.image == repaired.image {
        Verdict::Holds
    } else {
        Verdict::fails(format!("a second repair changes the image: {}", again.said))
    };
    let mut agree = Verdict::NotApplicable;
    for checker in checkers.filter(|_| audit.is_clean()) {
        let said = checker.check(bench, &repaired.image)?;
        agree = agree.and(|| match said.is_clean() {
            _ if is_beyond(&said.stderr) => Verdict::NotApplicable,
            true => Verdict::Holds,
            false => {
                let name = checker.name();
                Verdict::fails(format!("{name} finds the repaired image broken: {said}"))
            }
        });
    }
    Ok(vec![
        (Question::Idempotent, same),
        (Question::OthersAgree, agree),
    ])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use recount_oracle::case::Algorithm;
    use recount_oracle::case::text;

    use super::super::exhibit::Whole;
    use super::super::make::Maker;
    use super::super::subject::Engine;
    use super::*;

    /// Refblocks count 128 MiB, the structures have to be built anew, and a directory of bitmaps is
    /// said to lie past the end of the file.
    const CASE: &str = r#"
version = 1

[case.image.synthetic]
version = 3
cluster_bits = 12
refcount_order = 0
structures = "absent"
allocation = { one-a-range = { place = 3149 } }
guest = [{ clusters = 2, content = "data" }]
bitmaps = [{ granularity_bits = 16, clusters = 0, all_ones = 0 }]

[[case.damage]]

[case.damage.bitmap]
bitmap = 0
becomes = { directory-offset = { past-end = { clusters = 60000 } } }
"#;

    #[test]
    fn a_file_may_grow_behind_what_leads_past_its_end_but_not_without_reason() {
        let case = text::parse(Path::new("case.toml"), CASE).unwrap().case;
        let folder = tempfile::tempdir().unwrap();
        let maker = Maker::new("qemu-img".into(), "qemu-io".into());
        let whole = Whole::make(&case, &maker, folder.path()).unwrap();
        let exhibit = whole.damage(&case.damage);
        let tail = Engine::by(Algorithm::Tail);
        let repaired = tail.run(exhibit.bench, &exhibit.damaged, Repair::All);
        let mut repaired = repaired.unwrap();
        let judged = Judged::new(&exhibit, &repaired).unwrap();
        let grown = repaired.image.len() - exhibit.length();
        assert!(grown > 64 << 20, "only by {grown}");
        assert_eq!(judged.ends(&repaired), Verdict::Holds);
        repaired.image.set_len(judged.runaway);
        assert!(judged.ends(&repaired).is_failure());
        let directory = exhibit.length() + (60_000 << 12);
        let behind = judged.runaway - Limits::for_image(directory).file;
        assert!(behind <= 128 << 20, "{behind}");
    }
}
