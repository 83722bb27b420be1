//! Any program that repairs an image in place, as the user writes it: `NAME='command {image}'`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use recount_oracle::case::damage::{ReadWriteAt, SparseBytes};

use super::program::{self, CannotRun, Limits};
use super::{Bench, CaseError, Repair, Repaired, Subject, said};

/// What stands for the image's path.
const PLACE: &str = "{image}";
/// The file that the program repairs.
const FILE: &str = "subject.qcow2";

/// A program that repairs an image in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    time: Duration,
}

/// Why a text names no subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotASubject {
    /// There is no name before a command.
    #[error("`{0}` has no name: write NAME='command {PLACE}'")]
    NoName(String),
    /// There is no place for the image.
    #[error("`{0}` does not say where the image goes: write {PLACE} there")]
    NoPlace(String),
    /// Quotes that do not end.
    #[error("`{0}` has a quote that does not end")]
    Quotes(String),
}

impl FromStr for Command {
    type Err = NotASubject;

    fn from_str(text: &str) -> Result<Self, NotASubject> {
        let (name, command) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| NotASubject::NoName(text.to_owned()))?;
        let mut words =
            shlex::split(command).ok_or_else(|| NotASubject::Quotes(text.to_owned()))?;
        if !words.iter().any(|word| word.contains(PLACE)) || words[0].contains(PLACE) {
            return Err(NotASubject::NoPlace(text.to_owned()));
        }
        Ok(Self {
            name: name.to_owned(),
            program: PathBuf::from(words.remove(0)),
            arguments: words,
            time: program::TIME,
        })
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.program.to_string_lossy();
        let words = self.arguments.iter().map(String::as_str);
        let words = std::iter::once(&*program).chain(words);
        let command = shlex::try_join(words).unwrap_or_default();
        write!(f, "{}={command}", self.name)
    }
}

impl Command {
    /// The same, but it may take so long.
    pub fn within(self, time: Duration) -> Self {
        Self { time, ..self }
    }

    /// The program, found now rather than in every case.
    pub fn find(mut self) -> Result<Self, CannotRun> {
        let missing = |source: io::Error| CannotRun {
            program: self.program.clone(),
            source,
        };
        self.program = program::which(&self.program, Path::new("")).map_err(missing)?;
        Ok(self)
    }
}

impl Subject for Command {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn is_checker(&self) -> bool {
        false
    }

    fn run(
        &self,
        bench: Bench<'_>,
        image: &SparseBytes,
        _repair: Repair,
    ) -> Result<Repaired, CaseError> {
        let limits = Limits::for_image(ReadWriteAt::len(image)).within(self.time);
        let path = bench.directory.join(FILE);
        let path = path.to_string_lossy();
        let words = self.arguments.iter();
        let arguments = words.map(|word| word.replace(PLACE, &path));
        bench.in_file(FILE, image, || {
            let output = program::run(&self.program, arguments, bench.directory, &limits)?;
            Ok(said(output.ended, output.stderr))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_split_as_a_shell_splits_it() {
        let command: Command = "mine=tool --repair 'a b' x{image}".parse().unwrap();
        assert_eq!(command.name(), "mine");
        assert_eq!(command.program, Path::new("tool"));
        assert_eq!(command.arguments, ["--repair", "a b", "x{image}"]);
        assert_eq!(command.to_string().parse(), Ok(command));
    }

    #[test]
    fn what_is_no_subject_is_refused_with_the_reason() {
        let refused = |text: &str| text.parse::<Command>().unwrap_err();
        assert!(matches!(refused("tool {image}"), NotASubject::NoName(_)));
        assert!(matches!(refused("=tool {image}"), NotASubject::NoName(_)));
        assert!(matches!(refused("a=tool"), NotASubject::NoPlace(_)));
        assert!(matches!(refused("a={image}"), NotASubject::NoPlace(_)));
        assert!(matches!(
            refused("a=tool 'x {image}"),
            NotASubject::Quotes(_)
        ));
    }

    #[test]
    fn a_program_is_found_before_it_is_run() {
        let found: Command = "a=sh -c true {image}".parse().unwrap();
        assert!(found.find().unwrap().program.ends_with("sh"));
        for missing in [
            "a=no-such-tool {image}",
            "a=./no-such {image}",
            "a=/ {image}",
        ] {
            let missing: Command = missing.parse().unwrap();
            assert!(missing.find().is_err());
        }
    }
}
