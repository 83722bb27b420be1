//! What a run found, as `report.json` has it. The form is described in docs/report.md, where a
//! change to it has to be told; [`VERSION`] goes up when a reader of the old form would be wrong.

use std::collections::BTreeMap;

use recount_subjects::findings::verdict::{self, Asked, Sentence};
use serde::{Deserialize, Serialize};

use super::picture::Picture;
use super::question::rank;

/// The version of the form.
pub const VERSION: u32 = 3;

/// Of so many causes of failure of each subject's property, and of each comparison, the first case is
/// told with pictures.
pub const TOLD: usize = 8;

/// Everything.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// The runs that it came from: one, or one for each shard that was merged.
    pub runs: Vec<Run>,
    pub cases: u64,
    /// Those of them with a synthetic image.
    pub synthetic: u64,
    /// Those that take the audit too long: only what a check says was compared.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub too_much: u64,
    pub subjects: Vec<SubjectReport>,
    /// By qemu-img, by comparison of recount with it.
    pub comparisons: Counts,
    /// Documented differences from qemu-img, and how often each was met.
    pub on_purpose: BTreeMap<String, u64>,
    /// By subject, by property.
    pub properties: Counts,
    pub failures: Vec<Failure>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    pub seed: u64,
    /// Which shard of how many, from 1.
    pub shard: (u64, u64),
    /// Percent of the images that are synthetic.
    pub synthetic_share: u32,
    /// Seconds that it took.
    pub seconds: f64,
    /// Groups of cases that are done: from, to (exclusive).
    pub done: Vec<(u64, u64)>,
}

/// A subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectReport {
    pub name: String,
    /// Whether its failures make the run fail.
    pub answerable: bool,
}

/// How often something ended which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    pub passed: u64,
    /// Otherwise.
    pub failed: u64,
    /// Otherwise, as documented.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub on_purpose: u64,
    /// The subject said that it does not repair such an image, and left it as it was.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub declined: u64,
    /// It said nothing of the case.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub not_applicable: u64,
}

impl Count {
    /// How many cases it said anything of.
    pub const fn said(&self) -> u64 {
        self.passed + self.failed + self.on_purpose
    }
}

pub const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Something that failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The case: `SEED:INDEX`, or a file.
    pub case: String,
    /// Who failed; in a comparison, the qemu-img that recount differs from.
    pub subject: String,
    /// The property or comparison.
    pub what: String,
    /// Whether it makes the run fail.
    pub counts: bool,
    pub rerun: String,
    /// What happened.
    pub story: String,
    /// What failures for the same cause have in common.
    pub cause: String,
    /// Whether it has no pictures, as another one for the same cause, or enough others, have them.
    pub brief: bool,
    /// A smaller case that fails in the same way: a file beside the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimal: Option<String>,
    /// A folder that tells of it without recount, of those of all findings beside the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<String>,
    /// The image as it was damaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Picture>,
    /// After the subject's repair; in a comparison, after recount's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Picture>,
}

impl Failure {
    /// Whether another one is of the same kind, and for the same cause.
    pub fn is_alike(&self, other: &Self) -> bool {
        let same = |one: fn(&Self) -> &str| one(self) == one(other);
        self.counts == other.counts
            && same(|it| &it.subject)
            && same(|it| &it.what)
            && same(|it| &it.cause)
    }
}

impl Report {
    pub fn new(run: Run, subjects: Vec<SubjectReport>) -> Self {
        Self {
            version: VERSION,
            runs: vec![run],
            subjects,
            ..Self::default()
        }
    }

    /// Failures that make the run fail.
    pub fn counting(&self) -> usize {
        let failures = self.failures.iter();
        failures.filter(|failure| failure.counts).count()
    }

    /// What came of each subject that answers for what it does.
    pub fn verdicts(&self) -> impl Iterator<Item = Sentence> {
        let answerable = self.subjects.iter().filter(|subject| subject.answerable);
        answerable.filter_map(|SubjectReport { name, .. }| {
            let its = |one: &&Failure| one.counts && one.subject == *name;
            let its = self.failures.iter().filter(its);
            let asked = self
                .properties
                .get(name)?
                .iter()
                .map(|(property, count)| Asked {
                    property,
                    failed: its.clone().filter(|one| one.what == *property).count() as u64,
                    said: count.said(),
                    declined: count.declined,
                });
            Some(verdict::sentence(name, &asked.collect::<Vec<_>>()))
        })
    }

    /// Whether one more failure of this kind is told with pictures.
    pub fn tells(&self, subject: &str, what: &str, cause: &str) -> bool {
        let same = |failure: &&Failure| failure.subject == subject && failure.what == what;
        let told = self.failures.iter().filter(same).filter(|one| !one.brief);
        told.clone().count() < TOLD && told.clone().all(|one| one.cause != cause)
    }

    /// Cases a second, of all runs side by side.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate is shown with two digits"
    )]
    pub fn rate(&self) -> f64 {
        match self.seconds() {
            0.0 => 0.0,
            seconds => self.cases as f64 / seconds,
        }
    }

    /// Seconds of the longest run.
    pub fn seconds(&self) -> f64 {
        self.runs.iter().map(|run| run.seconds).fold(0.0, f64::max)
    }

    pub fn add(&mut self, other: Self) {
        self.runs.extend(other.runs);
        self.cases += other.cases;
        self.synthetic += other.synthetic;
        self.too_much += other.too_much;
        for subject in other.subjects {
            if !self.subjects.contains(&subject) {
                self.subjects.push(subject);
            }
        }
        add_counts(&mut self.comparisons, other.comparisons);
        add_counts(&mut self.properties, other.properties);
        for (purpose, times) in other.on_purpose {
            *self.on_purpose.entry(purpose).or_default() += times;
        }
        self.failures.extend(other.failures);
        self.sort();
    }

    /// Puts the failures into the order of the report: those that count first, those for one cause
    /// together.
    pub fn sort(&mut self) {
        self.failures.sort_by_cached_key(|one| {
            let (subject, what) = (one.subject.clone(), one.what.clone());
            let (cause, case) = (one.cause.clone(), one.case.clone());
            (
                !one.counts,
                subject,
                rank(&what),
                what,
                cause,
                one.brief,
                case,
            )
        });
    }
}

/// By two names.
pub type Counts = BTreeMap<String, BTreeMap<String, Count>>;

fn add_counts(counts: &mut Counts, others: Counts) {
    for (outer, inner) in others {
        let known = counts.entry(outer).or_default();
        for (name, other) in inner {
            let count = known.entry(name).or_default();
            count.passed += other.passed;
            count.failed += other.failed;
            count.on_purpose += other.on_purpose;
            count.declined += other.declined;
            count.not_applicable += other.not_applicable;
        }
    }
}
