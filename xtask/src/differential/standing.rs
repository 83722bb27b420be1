//! What each property says of one subject's repair of one image, whoever the subject is: judged from
//! the bytes before and after alone, and from what it said.

use recount::{RepairError, RepairFailure};
use recount_oracle::audit::{self, Audit, Unreadable, Wrong, audit_beside_the_header};
use recount_oracle::case::damage::bytes::PAGE;
use recount_oracle::case::damage::{ReadWriteAt, SparseBytes};
use recount_oracle::class::{Class, Diagnosis};
use recount_oracle::crash::Limits;
use recount_oracle::disk::{Event, Trace};
use recount_oracle::properties::reading::{Kind, Reading};
use recount_oracle::properties::{
    Verdict, clean_afterwards, crash_atomic, leaves_data_alone, no_overlap_bytes,
};
use recount_oracle::run::{Before, Done, Run, Stopped};

use super::diagnosis::Patient;
use super::guest::GuestData;
use super::observe::is_beyond;
pub use super::quality::Quality;
use super::subject::{Bench, CaseError, Conduct, Repair, Repaired, Subject};
use recount_oracle::case::observed::Ended;

/// What each property says; those that say nothing are left out.
pub type Standing = Vec<(Quality, Verdict)>;

/// A property of the judge, of the bytes before and after.
type Judge = fn(&Before, &Run) -> Verdict;

/// A damaged image, as everyone is judged by it.
pub struct Judged<'a> {
    before: Before,
    diagnosis: &'a Diagnosis,
    guest: GuestData,
    /// Whether recount repairs it: the refcounts are right afterwards, and were not before.
    repairable: bool,
}

impl<'a> Judged<'a> {
    /// `None` where the image is none that anyone could repair, or one that takes a naive judge too
    /// long. `reference` is what recount makes of it.
    pub fn new(damaged: &SparseBytes, patient: &'a Patient, reference: &Repaired) -> Option<Self> {
        let before = Before::new(damaged.clone(), SECTOR, None, Kind::Image).ok()?;
        let size = before.reading.references.len() + before.reading.counts().len();
        if size > MOST_CLUSTERS {
            return None;
        }
        let after = Kind::Image.read(&reference.image).ok();
        let wrong = before.reading.audit().is_some_and(has_wrong_refcounts);
        let right = after.and_then(|after| after.audit().map(|audit| !has_wrong_refcounts(audit)));
        Some(Self {
            guest: GuestData::read(damaged),
            diagnosis: patient.diagnosis.as_ref()?,
            repairable: wrong && right.unwrap_or(false),
            before,
        })
    }

    /// What the bytes say of one repair; of power cuts only with `crashes`.
    pub fn standing(&self, repaired: &Repaired, crashes: bool) -> Standing {
        let conduct = self.conduct(repaired);
        let mut standing = vec![(Quality::Ends, ends(conduct, repaired))];
        standing.push((Quality::GuestData, self.guest_data(repaired)));
        let (trace, known) = match &repaired.trace {
            Some(trace) => (trace.clone(), true),
            None => (difference(&self.before.bytes, &repaired.image), false),
        };
        let outcome = if conduct == Conduct::Ended && ended_well(repaired) {
            Ok(Done::Image(Box::default()))
        } else {
            let error = RepairError::NeedsRebuild;
            let done = Vec::new();
            Err(Stopped::Repair(RepairFailure {
                error,
                has_written: !done.is_empty(),
                done,
            }))
        };
        let run = Run::observed(trace, outcome, repaired.image.clone());
        standing.push((Quality::Repairs, self.repairs(conduct, repaired, &run)));
        let judges: [(Quality, Judge); 3] = [
            (Quality::NoOverlap, no_overlap_bytes::judge),
            (Quality::LeavesDataAlone, leaves_data_alone::judge),
            (Quality::CleanAfterwards, clean_afterwards::judge),
        ];
        // What changed nothing has been judged by `repairs`.
        if !run.trace.is_read_only() {
            let judged = judges.map(|(quality, judge)| (quality, judge(&self.before, &run)));
            // What is kept of a damaged image stays a leak; what stays wrong there the specification
            // says, and a subject that makes it clean has hidden something.
            let sound = self.diagnosis.class == Class::Sound;
            let applies =
                |(quality, _): &(Quality, Verdict)| sound || *quality != Quality::CleanAfterwards;
            standing.extend(judged.into_iter().filter(applies));
            standing.push((Quality::CountsEveryCluster, self.counts(&run)));
            standing.push((Quality::Keeps, self.keeps(&run)));
            standing.push((Quality::NoLeaks, self.no_leaks(&run)));
        }
        if known && crashes {
            let crashes = self.crash_atomic(&run.trace, &repaired.image);
            standing.push((Quality::CrashAtomic, crashes));
        }
        standing.retain(|(_, verdict)| *verdict != Verdict::NotApplicable);
        standing
    }

    /// How it ended; a file may grow by as much as leads past its end.
    fn conduct(&self, repaired: &Repaired) -> Conduct {
        let corruptions = self.before.reading.audit().map(|audit| &audit.corruptions);
        let corruptions = corruptions.into_iter().flatten();
        let past_end = corruptions.filter_map(|corruption| match corruption.wrong {
            Wrong::PastTheEnd { bytes, .. } => Some(bytes),
            _ => None,
        });
        let past_end = past_end.fold(0, u64::saturating_add);
        repaired.conduct(ReadWriteAt::len(&self.before.bytes), past_end)
    }

    /// What a power cut may leave of a repair with these writes and flushes.
    pub fn crash_atomic(&self, trace: &Trace, after: &SparseBytes) -> Verdict {
        let whole = Kind::Image.read(after).ok();
        let whole = whole.filter(|_| !trace.is_read_only());
        crash_atomic::judge(&self.before, trace, whole.as_ref(), &CRASHES)
    }

    /// Every cluster counts as often as it is referred to, or as much as is kept.
    fn counts(&self, run: &Run) -> Verdict {
        if run.outcome.is_err() {
            return Verdict::NotApplicable;
        }
        let after = match seen_after(run) {
            Ok(after) => after,
            Err(error) => return Verdict::fails(format!("after the repair, {error}")),
        };
        for (&cluster, &references) in &after.references {
            let due = references.min(after.max_refcount);
            let kept = self.diagnosis.kept.get(&cluster).copied().unwrap_or(0);
            let count = after.count(cluster).unwrap_or(0);
            if count != due && (count < due || count > kept) {
                let by = after.referrers(cluster);
                return Verdict::fails(format!(
                    "the refcount of cluster {cluster} is {count} after the repair; it should be \
                     {due}: {by}"
                ));
            }
        }
        Verdict::Holds
    }

    /// Nothing that is kept is released or written over.
    fn keeps(&self, run: &Run) -> Verdict {
        let Diagnosis { kept, damage, .. } = self.diagnosis;
        let Some(damage) = damage.first() else {
            return Verdict::NotApplicable;
        };
        let after = match seen_after(run) {
            Ok(after) => after,
            Err(error) => return Verdict::fails(format!("after the repair, {error}")),
        };
        let size = 1 << self.before.reading.cluster_bits;
        for (&cluster, &said) in kept {
            if let Some(now) = after.count(cluster).filter(|&now| now < said) {
                return Verdict::fails(format!(
                    "cluster {cluster} had refcount {said} and has {now}, despite {damage:?}"
                ));
            }
            // What happens to clusters with references is the matter of leaves-data-alone.
            let start = cluster << self.before.reading.cluster_bits;
            let changed = || run.after.bytes(start, size) != self.before.bytes.bytes(start, size);
            if self.before.reading.references_to(cluster) == 0 && changed() {
                return Verdict::fails(format!(
                    "cluster {cluster} was allocated and is written over, despite {damage:?}"
                ));
            }
        }
        Verdict::Holds
    }

    /// Nothing is allocated without a reference but what is kept.
    fn no_leaks(&self, run: &Run) -> Verdict {
        if run.outcome.is_err() {
            return Verdict::NotApplicable;
        }
        let after = match seen_after(run) {
            Ok(after) => after,
            Err(error) => return Verdict::fails(format!("after the repair, {error}")),
        };
        let mut leaked = after.counts().iter().filter(|&(&cluster, &count)| {
            let kept = self
                .diagnosis
                .kept
                .get(&cluster)
                .is_some_and(|&kept| count <= kept);
            after.references_to(cluster) == 0 && after.is_checked(cluster) && !kept
        });
        match leaked.next() {
            None => Verdict::Holds,
            Some((cluster, count)) => Verdict::fails(format!(
                "cluster {cluster} has refcount {count} after the repair, and nothing refers to it"
            )),
        }
    }

    fn guest_data(&self, repaired: &Repaired) -> Verdict {
        if self.guest.readable() == 0 {
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

    fn repairs(&self, conduct: Conduct, repaired: &Repaired, run: &Run) -> Verdict {
        if !self.repairable || conduct != Conduct::Ended {
            return Verdict::NotApplicable;
        }
        if run.trace.is_read_only() || repaired.image == self.before.bytes {
            let said = &repaired.said;
            return Verdict::fails(format!(
                "repairs nothing, though the refcounts are wrong and can be set right: {said}"
            ));
        }
        Verdict::Holds
    }
}

/// The image after a repair, as a repair sees it: what the header says as a table has changed.
fn seen_after(run: &Run) -> Result<Reading, Unreadable> {
    Reading::of_image(audit_beside_the_header(&run.after)?, &run.after)
}

/// Images with more clusters in use are not judged: every judge reads the whole image once more.
const MOST_CLUSTERS: usize = 50_000;
/// Sectors of the disks that are looked at.
const SECTOR: u64 = 512;
/// How many states after power cuts are looked at.
const CRASHES: Limits = Limits {
    exhaustive_bits: 6,
    samples: 16,
    seed: 1,
};

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

fn ends(conduct: Conduct, repaired: &Repaired) -> Verdict {
    let how = match conduct {
        Conduct::Ended => return Verdict::Holds,
        Conduct::TimedOut => {
            "timeout: it was ended after the time that a repair may take".to_owned()
        }
        Conduct::Crashed(signal) => format!("crash: killed by signal {signal}"),
        Conduct::RunawayFile => {
            "runaway file: it made a file longer than any repair needs".to_owned()
        }
    };
    Verdict::fails(format!("{how}\n    it said: {}", repaired.said))
}

/// Two images' difference as writes.
pub fn difference(before: &SparseBytes, after: &SparseBytes) -> Trace {
    let (old, new) = (ReadWriteAt::len(before), ReadWriteAt::len(after));
    let mut trace = Trace::default();
    if old != new {
        trace.push(Event::SetLen { length: new });
    }
    let mut at: Vec<u64> = before
        .pages()
        .chain(after.pages())
        .map(|(at, _)| at)
        .collect();
    at.sort_unstable();
    at.dedup();
    for offset in at.into_iter().filter(|offset| *offset < new) {
        let inside = usize::try_from(new - offset).map_or(PAGE, |left| left.min(PAGE));
        let bytes = after.bytes(offset, inside);
        if bytes != before.bytes(offset, inside) {
            trace.push(Event::Write {
                offset,
                bytes: bytes.into(),
                durable: false,
            });
        }
    }
    trace
}

/// Whether a second repair by the same subject changes nothing, and whether every checker finds
/// clean what the audit finds clean.
pub fn afterwards<'a>(
    subject: &dyn Subject,
    repaired: &Repaired,
    checkers: impl Iterator<Item = &'a dyn Subject>,
    bench: Bench<'_>,
) -> Result<Standing, CaseError> {
    let Ok(audit) = audit::audit(&repaired.image) else {
        return Ok(Standing::new());
    };
    if !ended_well(repaired) {
        return Ok(Standing::new());
    }
    let again = subject.run(bench, &repaired.image, Repair::All)?;
    let same = if again.image == repaired.image {
        Verdict::Holds
    } else {
        Verdict::fails(format!("a second repair changes the image: {}", again.said))
    };
    let mut agree = Verdict::NotApplicable;
    for checker in checkers.filter(|_| audit.is_clean()) {
        let said = checker.check(bench, &repaired.image)?;
        agree = agree.and(|| {
            if is_beyond(&said.stderr) {
                return Verdict::NotApplicable;
            }
            if said.is_clean() {
                return Verdict::Holds;
            }
            let name = checker.name();
            Verdict::fails(format!("{name} finds the repaired image broken: {said}"))
        });
    }
    let mut standing = vec![(Quality::Idempotent, same), (Quality::OthersAgree, agree)];
    standing.retain(|(_, verdict)| *verdict != Verdict::NotApplicable);
    Ok(standing)
}
