//! One case, from the damaged image to everything that is said of it.

use std::collections::BTreeMap;

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::observed::{Ended, Observed};

use super::check::checks_rightly;
use super::comparison::{Trial, compare};
use super::crash_log::{crash_atomic, crash_atomic_of_qemu};
use super::device::Device;
use super::exhibit::Exhibit;
use super::field::Field;
use super::in_use;
use super::judge::{Judged, afterwards};
use super::observe::observe;
use super::question::{Answer, Finding, Question};
use super::specified::{as_specified, program_agrees, undo_restores};
use super::subject::{Bench, Repair, Repaired, Subject};
use crate::error::Result;

/// One of the slower looks at a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// A second repair, and every checker over every repaired image.
    Afterwards,
    /// What power cuts may leave of a repair.
    PowerCuts,
    /// The image is put on a device that cannot grow.
    Device,
    /// The repaired images are written to.
    InUse,
    /// The program is held against the library, and its repair is undone.
    Program,
}

/// Which of the slower looks are taken at a case.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    /// The place of the case in the run.
    index: u64,
    looks: &'static [Look],
}

/// Each look is taken at one of so many cases, the last at half as many.
pub const EVERY: u64 = 8;

impl Depth {
    pub const fn full(index: u64) -> Self {
        use Look::{Afterwards, Device, InUse, PowerCuts, Program};
        Self {
            index,
            looks: &[Afterwards, PowerCuts, Device, InUse, Program],
        }
    }

    /// The one that a question needs, of the case at this place of a run.
    pub const fn to_see(question: Question, index: u64) -> Self {
        let looks: &[Look] = match question {
            Question::OthersAgree | Question::Idempotent => &[Look::Afterwards],
            Question::CrashAtomic => &[Look::PowerCuts],
            Question::FitsWhenPossible | Question::AsSpecified => &[Look::Device],
            Question::GoodInUse => &[Look::InUse],
            Question::ProgramAgrees | Question::UndoRestores => &[Look::Program],
            _ => &[],
        };
        Self { index, looks }
    }

    /// Those of the case at this place of a run: each look at every so many cases.
    pub const fn of(index: u64) -> Self {
        let looks: &[Look] = match index % EVERY {
            1 => &[Look::Afterwards],
            3 => &[Look::PowerCuts],
            5 => &[Look::Device],
            7 => &[Look::InUse],
            2 if index % (2 * EVERY) == 2 => &[Look::Program],
            _ => &[],
        };
        Self { index, looks }
    }

    fn takes(self, look: Look) -> bool {
        self.looks.contains(&look)
    }
}

/// What one case gave.
#[derive(Default)]
pub struct Findings {
    pub all: Vec<Finding>,
    /// What each subject made of the image with `-r all`, recount first.
    pub repairs: Vec<(String, Repaired)>,
    /// What each command that checks made of it, and said.
    pub checks: Vec<(String, Repaired)>,
    /// Whether the image takes the audit too long, so that next to nothing was asked.
    pub too_much: bool,
    /// How `-r leaks` and `-r all` of each qemu-img ended.
    pub ended: BTreeMap<String, [Ended; 2]>,
}

/// Lets everyone repair the image, compares, and judges.
pub fn examine(field: &Field, exhibit: &Exhibit<'_>, depth: Depth) -> Result<Findings> {
    let (bench, damaged) = (exhibit.bench, &exhibit.damaged);
    let mut findings = Findings::of(exhibit);
    let mut repairs: Vec<(&dyn Subject, Repaired)> = Vec::new();
    for engine in &field.engines {
        repairs.push((engine, engine.run(bench, damaged, Repair::All)?));
    }
    for qemu in &field.theirs {
        let (observed, repaired) = observe(qemu, bench, damaged)?;
        let ended = [observed.leaks.ended, observed.all.ended];
        findings.ended.insert(qemu.name(), ended);
        if let Some(ours) = field.engines.first() {
            let answers = compare(&Trial {
                ours,
                repaired: &repairs[0].1,
                theirs: Some((qemu, &repaired.image)),
                observed: &observed,
                exhibit,
            })?;
            findings.extend(&qemu.name(), answers);
        }
        repairs.push((qemu, repaired));
    }
    for command in field.commands.iter().filter(|one| one.repairs()) {
        repairs.push((command, command.run(bench, damaged, Repair::All)?));
    }
    for command in field.commands.iter().filter(|one| one.checks()) {
        let checked = command.run(bench, damaged, Repair::None)?;
        let answer = checks_rightly(exhibit, &checked, field.may_decline(&command.name()));
        findings.add(&command.name(), Question::ChecksRightly, answer);
        findings.checks.push((command.name(), checked));
    }
    if let Some(judged) = Judged::new(exhibit) {
        for (subject, repaired) in &repairs {
            let name = subject.name();
            findings.extend(
                &name,
                judged.answers(
                    repaired,
                    field.may_decline(&name),
                    depth.takes(Look::PowerCuts),
                ),
            );
            if depth.takes(Look::Afterwards) {
                let checkers = field.all().filter(|one| one.is_checker());
                findings.extend(&name, afterwards(*subject, repaired, checkers, bench)?);
            }
            if depth.takes(Look::InUse) {
                let good = in_use::use_it(bench, &field.qemu_io, &repaired.image)?;
                findings.add(&name, Question::GoodInUse, good);
            }
        }
        for (subject, repaired) in &repairs[field.engines.len() + field.theirs.len()..] {
            findings.show_consequence(field, &subject.name(), bench, &repaired.image)?;
        }
        if depth.takes(Look::PowerCuts) {
            for qemu in &field.theirs {
                let verdict = crash_atomic_of_qemu(qemu, &judged, exhibit)?;
                findings.add(&qemu.name(), Question::CrashAtomic, verdict);
            }
            let logged = field.commands.iter().filter(|_| field.logs);
            for command in logged.filter(|one| one.repairs()) {
                let verdict = crash_atomic(command, &judged, exhibit)?;
                findings.add(&command.name(), Question::CrashAtomic, verdict);
            }
        }
        if depth.takes(Look::Device) {
            findings.of_devices(field, exhibit, depth.index)?;
        }
    }
    let owned = |(subject, repaired): (&dyn Subject, _)| (subject.name(), repaired);
    findings.repairs = repairs.into_iter().map(owned).collect();
    findings.specified(field, exhibit, depth)?;
    Ok(findings)
}

/// Compares recount with a recorded verdict.
pub fn examine_recorded(
    field: &Field,
    exhibit: &Exhibit<'_>,
    observed: &Observed,
) -> Result<Findings> {
    let mut findings = Findings::of(exhibit);
    let Some(ours) = field.engines.first() else {
        return Ok(findings);
    };
    let repaired = ours.run(exhibit.bench, &exhibit.damaged, Repair::All)?;
    let answers = compare(&Trial {
        ours,
        repaired: &repaired,
        theirs: None,
        observed,
        exhibit,
    })?;
    let (major, minor) = observed.qemu;
    findings.extend(&format!("qemu-img {major}.{minor}"), answers);
    findings.repairs.push((ours.name(), repaired));
    Ok(findings)
}

impl Findings {
    fn of(exhibit: &Exhibit<'_>) -> Self {
        Self {
            too_much: exhibit.is_too_much(),
            ..Self::default()
        }
    }

    /// Holds recount against the specification, in every way of repair.
    fn specified(&mut self, field: &Field, exhibit: &Exhibit<'_>, depth: Depth) -> Result<()> {
        let damaged = &exhibit.damaged;
        for (number, engine) in field.engines.iter().enumerate() {
            let ask = engine.ask(Repair::All, None);
            let verdict = as_specified(damaged, &ask, &self.repairs[number].1);
            self.add(&engine.name(), Question::AsSpecified, verdict);
        }
        let Some(ours) = field.engines.first() else {
            return Ok(());
        };
        let leaks = ours.run(exhibit.bench, damaged, Repair::Leaks)?;
        let verdict = as_specified(damaged, &ours.ask(Repair::Leaks, None), &leaks);
        self.add(&ours.name(), Question::AsSpecified, verdict);
        if let Some(program) = field
            .program
            .as_ref()
            .filter(|_| depth.takes(Look::Program))
        {
            let ask = ours.ask(Repair::All, None);
            let verdict = program_agrees(program, &self.repairs[0].1, &ask, exhibit)?;
            self.add(&ours.name(), Question::ProgramAgrees, verdict);
            let verdict = undo_restores(program, exhibit)?;
            self.add(&ours.name(), Question::UndoRestores, verdict);
        }
        Ok(())
    }

    /// Adds to the story of wrong refcounts what the next guest destroys through them.
    fn show_consequence(
        &mut self,
        field: &Field,
        subject: &str,
        bench: Bench<'_>,
        image: &SparseBytes,
    ) -> Result<()> {
        let mut all = self.all.iter_mut();
        let counts = |one: &&mut Finding| {
            one.subject == subject && one.question == Question::CountsEveryCluster
        };
        let Some(Answer::Failed(story)) = all.find(counts).map(|one| &mut one.answer) else {
            return Ok(());
        };
        if let Some(loss) = in_use::consequence(bench, &field.qemu_io, image)? {
            story.push_str("\n    once qemu-io has written to the image: ");
            story.push_str(&loss.loss);
        }
        Ok(())
    }

    /// The image on devices that cannot grow.
    fn of_devices(&mut self, field: &Field, exhibit: &Exhibit<'_>, index: u64) -> Result<()> {
        let Some(device) = Device::of(exhibit, index) else {
            return Ok(());
        };
        for engine in &field.engines {
            self.extend(&engine.name(), device.by_engine(*engine)?);
        }
        for command in field.commands.iter().filter(|_| field.devices) {
            let fits = device.by_command(command)?;
            self.add(&command.name(), Question::FitsWhenPossible, fits);
        }
        for qemu in &field.theirs {
            self.add(
                &qemu.name(),
                Question::FitsWhenPossible,
                device.by_qemu(qemu)?,
            );
        }
        Ok(())
    }

    /// Adds an answer; a property that says nothing is left out.
    fn add(&mut self, subject: &str, question: Question, answer: impl Into<Answer>) {
        let answer = answer.into();
        if question.is_comparison() || answer != Answer::NotApplicable {
            self.all.push(Finding {
                subject: subject.to_owned(),
                question,
                answer,
            });
        }
    }

    fn extend<T: Into<Answer>>(
        &mut self,
        subject: &str,
        answers: impl IntoIterator<Item = (Question, T)>,
    ) {
        for (question, answer) in answers {
            self.add(subject, question, answer);
        }
    }

    /// How a subject fails, where it does.
    pub fn failure(&self, subject: &str, question: Question) -> Option<&str> {
        let mut asked = self.all.iter();
        let fails = |one: &Finding| one.subject == subject && one.question == question;
        asked.find_map(|one| one.failure().filter(|_| fails(one)))
    }

    /// The image that a finding is about: after the subject's repair; in a comparison, after
    /// recount's.
    pub fn after(&self, finding: &Finding) -> Option<&SparseBytes> {
        let work = match self.repairs.first() {
            Some((_, ours)) if finding.question.is_comparison() => Some(ours),
            _ => self.work_of(&finding.subject, finding.question),
        };
        work.map(|work| &work.image)
    }

    /// What a subject did that a question is about.
    pub fn work_of(&self, subject: &str, question: Question) -> Option<&Repaired> {
        let all = match question {
            Question::ChecksRightly => &self.checks,
            _ => &self.repairs,
        };
        let work = all.iter().find(|(name, _)| name == subject);
        work.map(|(_, work)| work)
    }
}
