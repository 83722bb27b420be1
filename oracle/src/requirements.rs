//! What every program's repair of an image is held to, whoever wrote it and wherever it puts new
//! structures: from the bytes before and after, and from how it ended.

use crate::audit::{self, Audit};
use crate::case::damage::SparseBytes;
use crate::class::{Class, Diagnosis, diagnose};
use crate::disk::Trace;
use crate::guest::GuestData;
use crate::judge::expect;
use crate::properties::reading::Kind;
use crate::properties::{Failure, Property, Verdict, judge, keeps};
use crate::run::{Before, Run};
use crate::subject::{Ask, Done, Stopped};

/// Images with more clusters in use are not judged: every judge reads the whole image once more.
const MOST_CLUSTERS: usize = 50_000;
/// Bits 0 and 1 of the incompatible features (specification, "Header").
const DIRTY_AND_CORRUPT: u64 = 3;

/// Something that a repair must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::Display)]
#[strum(serialize_all = "kebab-case")]
#[non_exhaustive]
pub enum Requirement {
    /// An image with nothing wrong has nothing wrong afterwards, and reads the same.
    HealthyStaysHealthy,
    /// It ends by itself.
    Ends,
    /// It repairs what can be repaired.
    Repairs,
    /// What the guest could read it still can.
    KeepsGuestData,
    /// One of the judge's properties.
    #[strum(to_string = "{0}")]
    Property(Property),
}

/// How a repair ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It said that it has repaired what it could.
    Well,
    /// It said that something stays wrong.
    Partly,
    /// It said that it has failed, or that it does not repair such an image.
    Failed,
    /// It did not end by itself: how it came to an end.
    Broke(String),
}

/// What is asked of every repair that changed something.
const OF_CHANGES: [Property; 4] = [
    Property::NoOverlap,
    Property::LeavesDataAlone,
    Property::KeepsHeaderSettings,
    Property::NoLeaks,
];

/// An image, as every repair of it is judged.
#[derive(Debug)]
pub struct Requirements {
    before: Before,
    diagnosis: Diagnosis,
    guest: GuestData,
    /// Whether nothing is wrong with it.
    healthy: bool,
    /// Whether the refcounts are wrong and right after the repair that the specification asks for.
    repairable: bool,
}

impl Requirements {
    /// `None` where the image is none that anyone could repair, or one that takes a naive judge too
    /// long.
    pub fn of(image: SparseBytes, capacity: Option<u64>) -> Option<Self> {
        let before = Before::new(image, capacity, Kind::Image).ok()?;
        let image = &before.bytes;
        if before.reading.references.len() + before.reading.counts().len() > MOST_CLUSTERS {
            return None;
        }
        let audit = before.reading.audit()?;
        let ask = Ask {
            capacity,
            ..Ask::default()
        };
        let repaired = expect(image, &ask, None).ok().and_then(Result::ok);
        let right = repaired.and_then(|repaired| audit::audit(&repaired.after).ok());
        let right = right.is_some_and(|audit| !has_wrong_refcounts(&audit));
        Some(Self {
            diagnosis: diagnose(image, audit).ok()?,
            guest: GuestData::of(image, audit),
            healthy: is_healthy(audit),
            repairable: right && has_wrong_refcounts(audit),
            before,
        })
    }

    /// What a repair begins with.
    pub const fn before(&self) -> &Before {
        &self.before
    }

    /// Whether nothing is wrong with the image.
    pub const fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// Whether a repair said that it does not repair the image, and left it as it was.
    pub fn is_declined(&self, run: &Run, ended: &Ended) -> bool {
        matches!(ended, Ended::Partly | Ended::Failed) && self.is_unchanged(run)
    }

    /// What is asked of a run, and what is said of it.
    pub fn verdicts(&self, run: &Run, ended: &Ended) -> Vec<(Requirement, Verdict)> {
        let ends = match ended {
            Ended::Broke(how) => Verdict::fails(how),
            _ => Verdict::Holds,
        };
        let mut verdicts = vec![
            (Requirement::KeepsGuestData, self.guest_data(run)),
            (Requirement::Repairs, self.repairs(run, ended)),
            (Requirement::Ends, ends),
        ];
        // What changed nothing has been judged by `repairs`.
        if !run.trace.is_read_only() {
            let mut add = |property, verdict: Verdict| {
                verdicts.push((Requirement::Property(property), verdict));
            };
            if *ended == Ended::Well {
                add(Property::CountsEveryCluster, self.counts(run).into());
            }
            if !self.diagnosis.damage.is_empty() {
                add(Property::KeepsWhatItCannotFollow, self.keeps(run).into());
            }
            // What is kept of a damaged image stays a leak; what stays wrong there the specification
            // says, and a repair that makes it clean has hidden something.
            let sound = self.diagnosis.class == Class::Sound;
            let clean = sound.then_some(Property::CleanAfterwards);
            for property in OF_CHANGES.into_iter().chain(clean) {
                add(property, judge(property, &self.before, run));
            }
        }
        if self.healthy {
            let stays = self.stays_healthy(run);
            verdicts.push((Requirement::HealthyStaysHealthy, stays));
        }
        verdicts
    }

    fn is_unchanged(&self, run: &Run) -> bool {
        run.after == self.before.bytes
    }

    fn stays_healthy(&self, run: &Run) -> Verdict {
        match audit::audit(&run.after) {
            Err(error) => Verdict::fails(format!(
                "an undamaged image cannot be opened any more: {error}"
            )),
            Ok(after) if !after.is_clean() => {
                let wrong = first_wrong(&after);
                Verdict::fails(format!("an undamaged image is broken afterwards: {wrong}"))
            }
            Ok(_) => self.guest_data(run).and(|| Verdict::Holds),
        }
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
        let Diagnosis { kept, damage, .. } = &self.diagnosis;
        let after = run.reading(&self.before)?;
        keeps(&self.before, run, after, kept, damage.first())
    }

    fn guest_data(&self, run: &Run) -> Verdict {
        if self.guest.is_empty() {
            return Verdict::NotApplicable;
        }
        let loss = self.guest.first_loss(&GuestData::read(&run.after));
        loss.map_or(Verdict::Holds, |loss| {
            Verdict::fails(format!("damages data: {loss}"))
        })
    }

    fn repairs(&self, run: &Run, ended: &Ended) -> Verdict {
        match ended {
            Ended::Failed if !self.is_unchanged(run) => {
                Verdict::fails("it changed the image and failed then")
            }
            Ended::Broke(_) => Verdict::NotApplicable,
            _ if !self.repairable => Verdict::NotApplicable,
            _ if self.is_unchanged(run) => Verdict::fails(
                "repairs nothing, though the refcounts are wrong and can be set right",
            ),
            _ => Verdict::Holds,
        }
    }
}

/// What is said of any program's repair that found the bytes `before`, left the bytes `after`, and
/// ended with an exit code as that of `qemu-img check -r all`: 0 where it has repaired what it could, 2
/// or 3 where something stays wrong, any other where it failed, or does not repair such an image and
/// left it alone: then nothing is said. An error where nobody could repair the image, or where it takes
/// a naive judge too long.
pub fn judge_bytes(
    before: &[u8],
    after: &[u8],
    exit: i32,
) -> Result<Vec<(Requirement, Verdict)>, NotJudged> {
    let [before, after] = [before, after].map(|bytes| {
        let mut image = SparseBytes::zeros(bytes.len() as u64);
        image.put(0, bytes);
        image
    });
    let trace = Trace::between(&before, &after);
    let requirements = Requirements::of(before, None).ok_or(NotJudged)?;
    let (ended, outcome) = match exit {
        0 => (Ended::Well, Ok(Done::default())),
        2 | 3 => (
            Ended::Partly,
            Err(Stopped::unknown("something stays wrong")),
        ),
        _ => (Ended::Failed, Err(Stopped::unknown("it failed"))),
    };
    let run = Run::observed(trace, outcome, after);
    if requirements.is_declined(&run, &ended) {
        return Ok(Vec::new());
    }
    Ok(requirements.verdicts(&run, &ended))
}

/// Why a repair is not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no program could repair the image, or it has too many clusters in use to be judged")]
pub struct NotJudged;

/// Whether there is nothing that anyone could repair.
fn is_healthy(audit: &Audit) -> bool {
    audit.is_clean() && audit.header.incompatible & DIRTY_AND_CORRUPT == 0
}

/// Whether refcounts are not the references, or cannot be read.
pub fn has_wrong_refcounts(audit: &Audit) -> bool {
    audit.qemu.rebuild_needed || audit.qemu.check_errors > 0 || !audit.mismatches.is_empty()
}

/// The first thing that is wrong with an image that is not clean, in words.
pub fn first_wrong(audit: &Audit) -> String {
    let corruption = audit.corruptions.first().map(ToString::to_string);
    let count = audit.mismatches.first().map(|one| {
        let (cluster, refcount, references) = (one.cluster, one.on_disk, one.references);
        format!("cluster {cluster} has refcount {refcount} and {references} references")
    });
    let copied = || "a COPIED bit is wrong".to_owned();
    corruption.or(count).unwrap_or_else(copied)
}

/// What failures for one cause have in common: the first line of a message without its numbers.
pub fn cause(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let words = line.split_ascii_whitespace().map(|word| {
        let is_number = word.contains(|one: char| one.is_ascii_digit());
        if is_number { "#" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}
