//! One case, from the damaged image to everything that is said of it.

use std::collections::BTreeMap;
use std::path::Path;

use recount_oracle::case::damage::{Applied, Damage, SparseBytes};
use recount_oracle::case::observed::{Ended, Observed};
use recount_oracle::properties::Verdict;

use super::comparison::{Comparison, Ending};
use super::crash_log::crash_atomic;
use super::device::Device;
use super::diagnosis::Patient;
use super::field::Field;
use super::guest::GuestData;
use super::in_use;
use super::judge::{Trial, judge};
use super::observe::observe;
use super::specified::{as_specified, program_agrees};
use super::standing::{Judged, Quality, Standing, afterwards};
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
#[expect(clippy::struct_excessive_bools, reason = "each is a look of its own")]
pub struct Depth {
    /// A second repair, and every checker over every repaired image.
    pub afterwards: bool,
    /// What power cuts may leave of a repair.
    pub power_cuts: bool,
    /// The place of the case in the run, where it is put on a device that cannot grow.
    pub device: Option<u64>,
    /// The repaired images are written to.
    pub in_use: bool,
    /// The program is held against the library.
    pub program: bool,
}

/// Each look is taken at one of so many cases, the last at half as many.
pub const EVERY: u64 = 8;

impl Depth {
    /// All of them.
    pub const fn full(index: u64) -> Self {
        Self {
            afterwards: true,
            power_cuts: true,
            device: Some(index),
            in_use: true,
            program: true,
        }
    }

    /// The one that a property needs, of the case at this place of a run.
    pub fn to_see(what: &str, index: u64) -> Self {
        let full = Self::full(index);
        let is = |quality: Quality| quality.name() == what;
        Self {
            afterwards: is(Quality::OthersAgree) || is(Quality::Idempotent),
            power_cuts: is(Quality::CrashAtomic),
            device: full
                .device
                .filter(|_| is(Quality::FitsWhenPossible) || is(Quality::AsSpecified)),
            in_use: is(Quality::GoodInUse),
            program: is(Quality::ProgramAgrees),
        }
    }

    /// Those of the case at this place of a run: each look at every so many cases.
    pub const fn of(index: u64) -> Self {
        Self {
            afterwards: index % EVERY == 1,
            power_cuts: index % EVERY == 3,
            device: if index % EVERY == 5 {
                Some(index)
            } else {
                None
            },
            in_use: index % EVERY == 7,
            program: index % (2 * EVERY) == 2,
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
    /// Its repair.
    pub after: Repaired,
}

/// What one case gave.
#[derive(Default)]
pub struct Findings {
    /// recount with every qemu-img.
    pub compared: Vec<Compared>,
    /// Every subject by itself.
    pub stood: Vec<Stood>,
    /// How `-r leaks` and `-r all` of each qemu-img ended.
    pub ended: BTreeMap<String, [Ended; 2]>,
}

/// Lets everyone repair the image, compares, and judges.
pub fn examine(field: &Field, exhibit: &Exhibit<'_>, depth: Depth) -> Result<Findings, CaseError> {
    let (bench, damaged) = (exhibit.bench(), exhibit.damaged);
    let patient = Patient::new(damaged);
    let repaired = field.ours.run(bench, damaged, Repair::All)?;
    let mut findings = Findings::default();
    let mut all: Vec<(&dyn Subject, Repaired)> = Vec::new();
    for qemu in &field.theirs {
        let sight = observe(qemu, bench, damaged)?;
        let ended = [sight.observed.leaks.ended, sight.observed.all.ended];
        findings.ended.insert(qemu.name(), ended);
        let endings = judge(&Trial {
            ours: &field.ours,
            repaired: &repaired,
            theirs: Some((qemu, &sight.all.image)),
            observed: &sight.observed,
            bench,
            damaged,
            patient: &patient,
            damage: exhibit.acts,
            whole: exhibit.whole,
        })?;
        all.push((qemu, sight.all));
        findings.add(&qemu.name(), endings);
    }
    all.insert(0, (&field.ours, repaired));
    for engine in &field.engines {
        all.push((engine, engine.run(bench, damaged, Repair::All)?));
    }
    for command in &field.commands {
        all.push((command, command.run(bench, damaged, Repair::All)?));
    }
    let judged = Judged::new(damaged, &patient, &all[0].1);
    for (subject, repaired) in all {
        let mut standing = Standing::new();
        if let Some(judged) = &judged {
            standing = judged.standing(&repaired, depth.power_cuts);
            if depth.afterwards {
                let checkers = field.all().filter(|one| one.is_checker());
                standing.extend(afterwards(subject, &repaired, checkers, bench)?);
            }
            if depth.in_use {
                standing.extend(in_use::use_it(bench, &field.qemu_io, &repaired.image)?);
            }
        }
        findings.stood.push(Stood {
            subject: subject.name(),
            standing,
            after: repaired,
        });
    }
    findings.specified(field, bench, damaged, depth)?;
    if let Some(judged) = &judged {
        findings.look_deeper(field, bench, damaged, judged, depth)?;
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
        ours: &field.ours,
        repaired: &repaired,
        theirs: None,
        observed,
        bench,
        damaged: exhibit.damaged,
        patient: &Patient::new(exhibit.damaged),
        damage: exhibit.acts,
        whole: exhibit.whole,
    })?;
    let mut findings = Findings::default();
    let (major, minor) = observed.qemu;
    findings.add(&format!("qemu-img {major}.{minor}"), endings);
    findings.stood.push(Stood {
        subject: field.ours.name(),
        standing: Standing::new(),
        after: repaired,
    });
    Ok(findings)
}

impl Findings {
    /// Holds recount against the specification, in every way of repair.
    fn specified(
        &mut self,
        field: &Field,
        bench: Bench<'_>,
        damaged: &SparseBytes,
        depth: Depth,
    ) -> Result<(), CaseError> {
        for engine in field.engines.iter().chain([&field.ours]) {
            let name = engine.name();
            let ask = engine.ask(Repair::All, None);
            for stood in self.stood.iter_mut().filter(|one| one.subject == name) {
                let specified = as_specified(damaged, &ask, &stood.after);
                stood.standing.extend(specified);
            }
        }
        let ours = field.ours.name();
        let leaks = field.ours.run(bench, damaged, Repair::Leaks)?;
        let ask = field.ours.ask(Repair::Leaks, None);
        self.extend(&ours, as_specified(damaged, &ask, &leaks));
        let all = field.ours.ask(Repair::All, None);
        if let Some(stood) = self.stood.first_mut().filter(|_| depth.program) {
            let agrees = program_agrees(&field.program, &stood.after, &all, bench, damaged)?;
            stood.standing.extend(agrees);
        }
        Ok(())
    }

    /// Power cuts and devices, of those that they can be had of.
    fn look_deeper(
        &mut self,
        field: &Field,
        bench: Bench<'_>,
        damaged: &SparseBytes,
        judged: &Judged<'_>,
        depth: Depth,
    ) -> Result<(), CaseError> {
        if depth.power_cuts {
            for qemu in &field.theirs {
                let standing = crash_atomic(qemu, bench, judged, damaged)?;
                self.extend(&qemu.name(), standing);
            }
        }
        let Some(device) = depth.device.and_then(|index| Device::of(damaged, index)) else {
            return Ok(());
        };
        self.extend(&field.ours.name(), device.by_engine(field.ours, bench)?);
        for engine in field.engines {
            self.extend(&engine.name(), device.by_engine(engine, bench)?);
        }
        for qemu in &field.theirs {
            self.extend(&qemu.name(), device.by_qemu(qemu, bench)?);
        }
        Ok(())
    }

    fn extend(&mut self, subject: &str, standing: Standing) {
        let mut stood = self.stood.iter_mut();
        if let Some(stood) = stood.find(|stood| stood.subject == subject) {
            stood.standing.extend(standing);
        }
    }

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
        let ours = self.stood.first().map(|stood| &stood.after.image);
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
                        Some(&one.after.image),
                    )),
                    _ => None,
                })
        });
        compared.chain(stood)
    }
}
