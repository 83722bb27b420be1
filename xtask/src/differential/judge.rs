//! What each property says of one subject's repair of one image, whoever the subject is: judged from
//! the bytes before and after alone, and from what it said.

use recount_oracle::audit::{self, Audit};
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::observed;
use recount_oracle::crash;
use recount_oracle::disk::Trace;
use recount_oracle::properties::reading::Kind;
use recount_oracle::properties::{Verdict, crash_atomic};
use recount_oracle::requirements::{Ended, Requirements};
use recount_oracle::run::Run;
use recount_oracle::subject::{Done, Stopped};

use super::exhibit::Exhibit;
use super::observe::is_beyond;
use super::question::{Answer, Question};
use super::subject::program::{FILE_SIZE_EXCEEDED, Limits};
use super::subject::{Bench, Repair, Repaired, Subject};
use crate::error::Result;

/// How many states after power cuts are looked at.
const CRASHES: crash::Limits = crash::Limits {
    exhaustive_bits: 6,
    samples: 16,
    seed: 1,
};

/// A damaged image, as everyone is judged by it.
pub struct Judged {
    requirements: Requirements,
    /// A file of so many bytes is longer than any repair in process needs.
    runaway: u64,
}

impl Judged {
    /// `None` where the image is none that anyone could repair, or one that takes a naive judge too
    /// long.
    pub fn new(exhibit: &Exhibit<'_>) -> Option<Self> {
        Some(Self {
            runaway: runaway(exhibit.length(), exhibit.audit.as_ref().ok()?),
            requirements: Requirements::of(exhibit.damaged.clone(), None)?,
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
        let asked = &self.requirements;
        let ended = self.ended(repaired);
        let trace = repaired.trace.clone();
        let trace = trace.unwrap_or_else(|| Trace::between(&asked.before().bytes, &repaired.image));
        let outcome = match ended {
            Ended::Well => Ok(Done::default()),
            _ => Err(Stopped::unknown(&repaired.said)),
        };
        let run = Run::observed(trace, outcome, repaired.image.clone());
        if may_decline && asked.is_declined(&run, &ended) {
            let healthy = asked.is_healthy().then_some(Question::HealthyStaysHealthy);
            let declined = healthy.into_iter().chain([Question::Repairs]);
            return declined.map(|one| (one, Answer::Declined)).collect();
        }
        let mut answers: Vec<(Question, Answer)> = Vec::new();
        for (requirement, verdict) in asked.verdicts(&run, &ended) {
            let mut answer = verdict.into();
            if let Answer::Failed(story) = &mut answer {
                *story = format!("{story}\n    the program: {}", repaired.said);
            }
            answers.push((requirement.into(), answer));
        }
        if crashes && repaired.trace.is_some() {
            let crashes = self.crash_atomic(&run.trace, &repaired.image);
            answers.push((Question::CrashAtomic, crashes.into()));
        }
        answers
    }

    fn ended(&self, repaired: &Repaired) -> Ended {
        // What a program starts may be what is ended by its limit.
        let in_process = repaired.trace.is_some();
        let is_runaway = in_process && repaired.image.len() >= self.runaway;
        Ended::Broke(match repaired.said.ended {
            _ if is_runaway || repaired.is_too_long => RUNAWAY.to_owned(),
            observed::Ended::Signal(FILE_SIZE_EXCEEDED) => RUNAWAY.to_owned(),
            observed::Ended::TimedOut => {
                "timeout: it was ended after the time that a repair may take".to_owned()
            }
            observed::Ended::Signal(signal) => format!("crash: killed by signal {signal}"),
            observed::Ended::Code(_) if ended_well(repaired) => return Ended::Well,
            // As qemu-img says that corruptions or leaks are left.
            observed::Ended::Code(2 | 3) => return Ended::Partly,
            observed::Ended::Code(_) => return Ended::Failed,
        })
    }

    /// What a power cut may leave of a repair with these writes and flushes.
    pub fn crash_atomic(&self, trace: &Trace, after: &SparseBytes) -> Verdict {
        let whole = Kind::Image.read(after).ok();
        let whole = whole.filter(|_| !trace.is_read_only());
        let before = self.requirements.before();
        crash_atomic::judge(before, trace, whole.as_ref(), &CRASHES).1
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

/// Whether it says itself that it has repaired what it could.
fn ended_well(repaired: &Repaired) -> bool {
    match (&repaired.said.counters, repaired.said.ended) {
        (Some(_), observed::Ended::Code(_)) | (None, observed::Ended::Code(0)) => true,
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
    use super::super::subject::{Engine, Maker};
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
        let judged = Judged::new(&exhibit).unwrap();
        let grown = repaired.image.len() - exhibit.length();
        assert!(grown > 64 << 20, "only by {grown}");
        assert_eq!(judged.ended(&repaired), Ended::Well);
        repaired.image.set_len(judged.runaway);
        assert_eq!(judged.ended(&repaired), Ended::Broke(RUNAWAY.to_owned()));
        let directory = exhibit.length() + (60_000 << 12);
        let behind = judged.runaway - Limits::for_image(directory).file;
        assert!(behind <= 128 << 20, "{behind}");
    }
}
