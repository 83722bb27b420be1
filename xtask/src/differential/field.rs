//! Everyone who takes part in a run.

use std::path::PathBuf;

use recount_oracle::case::Algorithm;

use super::question::Question;
use super::subject::{Checker, Command, Engine, Subject};
use super::{Args, run};
use crate::error::{At as _, Result};

/// The subjects of a run.
pub struct Field {
    pub program: Checker,
    /// recount in process: by itself, then by the algorithms that reproduce qemu-img's.
    pub engines: [Engine; 3],
    /// Every qemu-img that is there.
    pub theirs: Vec<Checker>,
    pub commands: Vec<Command>,
    /// What writes to repaired images.
    pub qemu_io: PathBuf,
    /// Whether a command may not decline an image.
    must_repair: bool,
}

impl Field {
    /// Finds every program before the first case is run.
    pub fn gather(args: &Args, theirs: Vec<Checker>) -> Result<Self> {
        let commands = args.subjects.iter().cloned();
        let commands =
            commands.map(|command| command.find(args.subject_time, args.subject_memory << 20));
        let commands = commands
            .collect::<Result<Vec<_>>>()
            .at("a subject cannot take part")?;
        require_different_names(&theirs, &commands)?;
        let program = match &args.recount {
            Some(path) => path.clone(),
            None => run::build_recount()?,
        };
        Ok(Self {
            program: Checker::find(&program)?,
            engines: [Algorithm::Planned, Algorithm::FirstFit, Algorithm::Tail].map(Engine::by),
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
        let [ours, others @ ..] = &self.engines;
        question.is_comparison()
            || subject == ours.name()
            || others.iter().any(|one| one.name() == subject) && !question.is_of_placement()
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
