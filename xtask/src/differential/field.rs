//! Everyone who takes part in a run.

use std::path::PathBuf;

use super::run::RunError;
use super::standing::Quality;
use super::subject::{Checker, Command, Engine, Subject};
use super::{Args, run};

/// The subjects of a run.
pub struct Field {
    /// recount as it is compared: in process, or the program that was named.
    pub ours: Box<dyn Subject>,
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
        let ours: Box<dyn Subject> = match &args.recount {
            Some(path) => Box::new(Checker::find(path).map_err(RunError::NoRecount)?),
            None if args.program => {
                let built = run::build_recount()?;
                Box::new(Checker::find(&built).map_err(RunError::NoRecount)?)
            }
            None => Box::new(Engine::by(recount::Algorithm::Planned)),
        };
        let commands = args.subjects.iter().cloned();
        let commands = commands.map(|command| command.within(args.subject_time).find());
        let field = Self {
            ours,
            engines: [
                Engine::by(recount::Algorithm::FirstFit),
                Engine::by(recount::Algorithm::Tail),
            ],
            theirs,
            qemu_io: PathBuf::from("qemu-io"),
            commands: commands
                .collect::<Result<_, _>>()
                .map_err(RunError::NoSubject)?,
        };
        field.require_different_names()?;
        Ok(field)
    }

    /// All of them, in the order of the report.
    pub fn all(&self) -> impl Iterator<Item = &dyn Subject> {
        let ours = std::iter::once(&*self.ours);
        let engines = self.engines.iter().map(|one| -> &dyn Subject { one });
        let theirs = self.theirs.iter().map(|one| -> &dyn Subject { one });
        let commands = self.commands.iter().map(|one| -> &dyn Subject { one });
        ours.chain(engines).chain(theirs).chain(commands)
    }

    /// Whether a run fails where this property of a subject does. What qemu-img is seen to do, and so
    /// do the algorithms that reproduce it, is reported only; recount has to have every property; a
    /// user's program those without which the image is not safe.
    pub fn answers(&self, subject: &str, what: &str) -> bool {
        let is_theirs = self
            .commands
            .iter()
            .any(|command| command.name() == subject);
        subject == self.ours.name() || is_theirs && Quality::is_required_name(what)
    }

    fn require_different_names(&self) -> Result<(), RunError> {
        let mut names: Vec<_> = self.all().map(Subject::name).collect();
        names.sort();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(RunError::SameName(pair[0].clone())),
            None => Ok(()),
        }
    }
}
