//! One case, from the damaged image to everything that is said of it.

use std::path::Path;

use recount_oracle::case::damage::{Applied, Damage, SparseBytes};
use recount_oracle::case::observed::Observed;
use recount_oracle::properties::Verdict;

use super::comparison::{Comparison, Ending};
use super::field::Field;
use super::guest::GuestData;
use super::judge::{Trial, judge};
use super::observe::observe;
use super::standing::{Judged, Standing, afterwards};
use super::subject::{Bench, CaseError, Repair, Repaired, Subject};

/// A damaged image, ready.
pub struct Exhibit<'a> {
    /// The folder with its backing or data file.
    pub directory: &'a Path,
    /// Whether qemu-img needs the key.
    pub encrypted: bool,
    /// The image.
    pub damaged: &'a SparseBytes,
    /// The acts of damage, and the bytes that each changed.
    pub acts: &'a [(Damage, Applied)],
    /// What the guest saw before the damage.
    pub whole: &'a GuestData,
}

impl Exhibit<'_> {
    /// Where to work at it.
    pub const fn bench(&self) -> Bench<'_> {
        Bench {
            directory: self.directory,
            encrypted: self.encrypted,
        }
    }
}

/// Which of the slower looks are taken at a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// A second repair, and every checker over every repaired image.
    pub afterwards: bool,
}

impl Depth {
    /// All of them.
    pub const FULL: Self = Self { afterwards: true };

    /// Those of the case at this place of a run: each look at every so many cases.
    pub const fn of(index: u64) -> Self {
        Self {
            afterwards: index.is_multiple_of(8),
        }
    }
}

/// What one comparison gave.
pub struct Compared {
    /// The qemu-img.
    pub qemu: String,
    /// Which comparison.
    pub comparison: Comparison,
    /// How it ended.
    pub ending: Ending,
}

/// What is said of one subject.
pub struct Stood {
    /// Its name.
    pub subject: String,
    /// What each property says.
    pub standing: Standing,
    /// The image after its repair.
    pub after: SparseBytes,
}

/// What one case gave.
#[derive(Default)]
pub struct Findings {
    /// recount with every qemu-img.
    pub compared: Vec<Compared>,
    /// Every subject by itself.
    pub stood: Vec<Stood>,
}

/// Lets everyone repair the image, compares, and judges.
pub fn examine(field: &Field, exhibit: &Exhibit<'_>, depth: Depth) -> Result<Findings, CaseError> {
    let (bench, damaged) = (exhibit.bench(), exhibit.damaged);
    let repaired = field.ours.run(bench, damaged, Repair::All)?;
    let mut findings = Findings::default();
    let mut all: Vec<(&dyn Subject, Repaired)> = Vec::new();
    for qemu in &field.theirs {
        let endings = match observe(qemu, bench, damaged)? {
            None => not_applicable(),
            Some(sight) => {
                let trial = Trial {
                    ours: &*field.ours,
                    repaired: &repaired,
                    theirs: Some((qemu, &sight.all.image)),
                    observed: &sight.observed,
                    bench,
                    damaged,
                    damage: exhibit.acts,
                    whole: exhibit.whole,
                };
                let endings = judge(&trial)?;
                all.push((qemu, sight.all));
                endings
            }
        };
        findings.add(&qemu.name(), endings);
    }
    let judged = Judged::new(damaged, &repaired);
    all.insert(0, (&*field.ours, repaired));
    if let Some(judged) = judged {
        for engine in &field.engines {
            all.push((engine, engine.run(bench, damaged, Repair::All)?));
        }
        for command in &field.commands {
            all.push((command, command.run(bench, damaged, Repair::All)?));
        }
        for (subject, repaired) in all {
            let mut standing = judged.standing(&repaired);
            if depth.afterwards {
                let checkers = field.all().filter(|one| one.is_checker());
                standing.extend(afterwards(subject, &repaired, checkers, bench)?);
            }
            findings.stood.push(Stood {
                subject: subject.name(),
                standing,
                after: repaired.image,
            });
        }
    }
    Ok(findings)
}

/// Compares recount with a recorded verdict.
pub fn examine_recorded(
    field: &Field,
    exhibit: &Exhibit<'_>,
    observed: &Observed,
) -> Result<Findings, CaseError> {
    let bench = exhibit.bench();
    let repaired = field.ours.run(bench, exhibit.damaged, Repair::All)?;
    let endings = judge(&Trial {
        ours: &*field.ours,
        repaired: &repaired,
        theirs: None,
        observed,
        bench,
        damaged: exhibit.damaged,
        damage: exhibit.acts,
        whole: exhibit.whole,
    })?;
    let mut findings = Findings::default();
    let (major, minor) = observed.qemu;
    findings.add(&format!("qemu-img {major}.{minor}"), endings);
    findings.stood.push(Stood {
        subject: field.ours.name(),
        standing: Standing::new(),
        after: repaired.image,
    });
    Ok(findings)
}

impl Findings {
    fn add(&mut self, qemu: &str, endings: Vec<(Comparison, Ending)>) {
        let compared = endings.into_iter().map(|(comparison, ending)| Compared {
            qemu: qemu.to_owned(),
            comparison,
            ending,
        });
        self.compared.extend(compared);
    }

    /// Everything that failed: who, what, how, and the image after the repair.
    pub fn failures(&self) -> impl Iterator<Item = (&str, String, &str, Option<&SparseBytes>)> {
        let ours = self.stood.first().map(|stood| &stood.after);
        let compared = self
            .compared
            .iter()
            .filter_map(move |one| match &one.ending {
                Ending::Failed(story) => Some((
                    one.qemu.as_str(),
                    one.comparison.to_string(),
                    story.as_str(),
                    ours,
                )),
                _ => None,
            });
        let stood = self.stood.iter().flat_map(|one| {
            one.standing
                .iter()
                .filter_map(move |(quality, verdict)| match verdict {
                    Verdict::Fails(failure) => Some((
                        one.subject.as_str(),
                        quality.to_string(),
                        failure.message.as_str(),
                        Some(&one.after),
                    )),
                    _ => None,
                })
        });
        compared.chain(stood)
    }
}

fn not_applicable() -> Vec<(Comparison, Ending)> {
    let all = Comparison::ALL.into_iter();
    all.map(|one| (one, Ending::NotApplicable)).collect()
}
