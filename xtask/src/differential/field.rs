//! Everyone who takes part in a run.

use std::path::PathBuf;

use super::run::RunError;
use super::standing::Quality;
use super::subject::{Checker, Command, Engine, Subject};
use super::{Args, run};

/// The subjects of a run.
pub struct Field {
    /// recount, in process.
    pub ours: Engine,
    /// recount, the program.
    pub program: Checker,
    /// The algorithms that reproduce qemu-img's.
    pub engines: [Engine; 2],
    /// Every qemu-img that is there.
    pub theirs: Vec<Checker>,
    /// The user's programs.
    pub commands: Vec<Command>,
    /// What writes to repaired images.
    pub qemu_io: PathBuf,
}

impl Field {
    /// Finds every program before the first case is run.
    pub fn gather(args: &Args, theirs: Vec<Checker>) -> Result<Self, RunError> {
        let commands = args.subjects.iter().cloned();
        let commands = commands.map(|command| command.within(args.subject_time).find());
        let commands = commands
            .collect::<Result<Vec<_>, _>>()
            .map_err(RunError::NoSubject)?;
        require_different_names(&theirs, &commands)?;
        let program = match &args.recount {
            Some(path) => path.clone(),
            None => run::build_recount()?,
        };
        Ok(Self {
            ours: Engine::by(recount::Algorithm::Planned),
            program: Checker::find(&program).map_err(RunError::NoRecount)?,
            engines: [
                Engine::by(recount::Algorithm::FirstFit),
                Engine::by(recount::Algorithm::Tail),
            ],
            theirs,
            qemu_io: PathBuf::from("qemu-io"),
            commands,
        })
    }

    /// All of them, in the order of the report.
    pub fn all(&self) -> impl Iterator<Item = &dyn Subject> {
        let ours = std::iter::once(&self.ours).map(|one| -> &dyn Subject { one });
        let engines = self.engines.iter().map(|one| -> &dyn Subject { one });
        let theirs = self.theirs.iter().map(|one| -> &dyn Subject { one });
        let commands = self.commands.iter().map(|one| -> &dyn Subject { one });
        ours.chain(engines).chain(theirs).chain(commands)
    }

    /// Whether a run fails where this property of a subject does. What qemu-img is seen to do is
    /// reported only; recount has to have every property, by QEMU's algorithms those that placement
    /// has no part in; a user's program those without which the image is not safe.
    pub fn answers(&self, subject: &str, what: &str) -> bool {
        let is_engine = self.engines.iter().any(|one| one.name() == subject);
        let is_theirs = self.commands.iter().any(|one| one.name() == subject);
        subject == self.ours.name()
            || is_engine && !Quality::is_of_placement_name(what)
            || is_theirs && Quality::is_required_name(what)
    }
}

fn require_different_names(theirs: &[Checker], commands: &[Command]) -> Result<(), RunError> {
    let own = ["recount", "recount first-fit", "recount tail"];
    let own = own.into_iter().map(str::to_owned);
    let others = theirs.iter().map(Subject::name);
    let commands = commands.iter().map(Subject::name);
    let mut names: Vec<_> = own.chain(others).chain(commands).collect();
    names.sort();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(RunError::SameName(pair[0].clone())),
        None => Ok(()),
    }
}
