//! Everyone who takes part in a run.

use std::path::PathBuf;

use recount_oracle::case::Algorithm;

use super::crash_log::cannot_log;
use super::question::Question;
use super::subject::program::Allowance;
use super::subject::{Checker, Command, Engine, Subject};
use super::{Args, run};
use crate::error::{At as _, Result};

/// The subjects of a run.
#[derive(Clone)]
pub struct Field {
    /// The program `recount`; none where only others are judged.
    pub program: Option<Checker>,
    /// recount in process: by itself, then by the algorithms that reproduce qemu-img's. None where only
    /// others are judged.
    pub engines: Vec<Engine>,
    /// Every qemu-img that is there.
    pub theirs: Vec<Checker>,
    pub commands: Vec<Command>,
    /// Whether the commands are given a device too.
    pub devices: bool,
    /// Whether the writes of the commands can be logged.
    pub logs: bool,
    /// What writes to repaired images.
    pub qemu_io: PathBuf,
    /// Whether a command may not decline an image.
    must_repair: bool,
}

/// recount, and what its other algorithms reproduce.
const ENGINES: [Algorithm; 3] = [Algorithm::Planned, Algorithm::FirstFit, Algorithm::Tail];

impl Field {
    /// Finds every program before the first case is run.
    pub fn gather(args: &Args, theirs: Vec<Checker>) -> Result<Self> {
        let allowance = Allowance {
            time: args.subject_time,
            memory: args.subject_memory << 20,
            growth: args.subject_growth << 20,
        };
        let commands = Command::gather(&args.subjects, &args.checks, allowance)
            .at("a subject cannot take part")?;
        require_different_names(&theirs, &commands)?;
        let repairs = commands.iter().any(Command::repairs);
        let cannot_log = repairs.then(cannot_log).transpose()?.flatten();
        if let Some(why) = &cannot_log {
            let why = why.lines().next().unwrap_or_default();
            println!("what power cuts leave of a subject's repair is not asked: {why}");
        }
        let program = match &args.recount {
            _ if args.only_subject => None,
            Some(path) => Some(path.clone()),
            None => Some(run::build_recount()?),
        };
        Ok(Self {
            program: program.map(|path| Checker::find(&path)).transpose()?,
            engines: if args.only_subject {
                Vec::new()
            } else {
                ENGINES.map(Engine::by).into()
            },
            devices: args.subject_device,
            logs: repairs && cannot_log.is_none(),
            theirs,
            qemu_io: PathBuf::from("qemu-io"),
            commands,
            must_repair: args.must_repair,
        })
    }

    /// Whether a subject may say of an image that it does not repair it.
    pub fn may_decline(&self, subject: &str) -> bool {
        !self.must_repair && self.commands.iter().any(|one| one.name() == subject)
    }

    /// Without those whose doings the answer of one subject does not depend on.
    pub fn without_others(&self, subject: &str, question: Question) -> Self {
        let mut field = self.clone();
        if !question.is_comparison() && question != Question::OthersAgree {
            field.theirs.retain(|one| one.name() == subject);
            field.commands.retain(|one| one.name() == subject);
            if !self.engines.iter().any(|one| one.name() == subject) {
                field.engines.clear();
            }
        }
        field
    }

    /// All of them, in the order of the report.
    pub fn all(&self) -> impl Iterator<Item = &dyn Subject> {
        let engines = self.engines.iter().map(|one| -> &dyn Subject { one });
        let theirs = self.theirs.iter().map(|one| -> &dyn Subject { one });
        let commands = self.commands.iter().map(|one| -> &dyn Subject { one });
        engines.chain(theirs).chain(commands)
    }

    /// Whether a run fails where this is so of a subject. What qemu-img is seen to do is reported
    /// only; recount has to have every property, by QEMU's algorithms those that placement has no
    /// part in; a user's program those without which the image is not safe. Every comparison counts.
    pub fn answers(&self, subject: &str, question: Question) -> bool {
        let mut engines = self.engines.iter().map(Subject::name);
        question.is_comparison()
            || engines.next().is_some_and(|ours| subject == ours)
            || engines.any(|other| subject == other) && !question.is_of_placement()
            || self.commands.iter().any(|one| one.name() == subject) && question.is_required()
    }
}

fn require_different_names(theirs: &[Checker], commands: &[Command]) -> Result<()> {
    let own = ["recount", "recount first-fit", "recount tail"];
    let own = own.into_iter().map(str::to_owned);
    let others = theirs.iter().map(Subject::name);
    let commands = commands.iter().map(Subject::name);
    let mut names: Vec<_> = own.chain(others).chain(commands).collect();
    names.sort();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("two subjects have the name `{}`", pair[0]).into()),
        None => Ok(()),
    }
}
