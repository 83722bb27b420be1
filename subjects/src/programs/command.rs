//! Any program that repairs an image in place, as the user writes it: `NAME='command {image}'`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use recount_oracle::case::damage::SparseBytes;

use super::program::{self, Limits};
use super::{Bench, Repair, Repaired, Subject, said};
use crate::error::Result;
use crate::process::which;

/// What stands for the image's path.
const PLACE: &str = "{image}";
/// The file that the program repairs.
const FILE: &str = "subject.qcow2";

/// Words as a person types them into a shell: quoted where they have to be.
pub fn shell_line(words: impl IntoIterator<Item = String>) -> String {
    let is_plain = |one: char| one.is_ascii_alphanumeric() || "_-./=,:+@%".contains(one);
    let quoted = words.into_iter().map(|word| {
        if !word.is_empty() && !word.starts_with('=') && word.chars().all(is_plain) {
            return word;
        }
        // A program is given no word with a NUL in it.
        shlex::try_quote(&word).unwrap_or_default().into_owned()
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// A program that repairs an image in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    time: Duration,
    /// In bytes.
    memory: u64,
}

impl FromStr for Command {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, command) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| format!("`{text}` has no name: write NAME='command {PLACE}'"))?;
        let mut words = shlex::split(command)
            .ok_or_else(|| format!("`{text}` has a quote that does not end"))?;
        if !words.iter().any(|word| word.contains(PLACE)) || words[0].contains(PLACE) {
            return Err(format!(
                "`{text}` does not say where the image goes: write {PLACE} there"
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            program: PathBuf::from(words.remove(0)),
            arguments: words,
            time: program::TIME,
            memory: program::MEMORY,
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
    /// What is typed to have it repair this file.
    pub fn line(&self, image: &str) -> String {
        let words = self.arguments.iter().map(|word| word.replace(PLACE, image));
        let program = self.program.to_string_lossy().into_owned();
        shell_line(std::iter::once(program).chain(words))
    }

    /// The program, found now rather than in every case, which may take so long and so much memory, in
    /// bytes.
    pub fn find(self, time: Duration, memory: u64) -> Result<Self> {
        let program = which(&self.program, Path::new(""))?;
        Ok(Self {
            program,
            time,
            memory,
            ..self
        })
    }
}

impl Subject for Command {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn is_checker(&self) -> bool {
        false
    }

    fn run(&self, bench: Bench<'_>, image: &SparseBytes, _repair: Repair) -> Result<Repaired> {
        let limits = Limits {
            time: self.time,
            memory: self.memory,
            ..Limits::for_image(SparseBytes::len(image))
        };
        let path = bench.directory.join(FILE);
        let path = path.to_string_lossy();
        let words = self.arguments.iter();
        let arguments = words.map(|word| word.replace(PLACE, &path));
        bench.in_file(FILE, image, || {
            let output = program::run(&self.program, arguments, bench.directory, &limits)?;
            // What is for people may be in either.
            Ok(said(output.ended, output.stdout + &output.stderr))
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
    fn what_is_typed_is_quoted_where_it_has_to_be() {
        let command: Command = "mine=tool of={image} 'a b' \"it's\"".parse().unwrap();
        let line = command.line("x.qcow2");
        assert_eq!(line, "tool of=x.qcow2 'a b' \"it's\"");
    }

    #[test]
    fn what_is_no_subject_is_refused_with_the_reason() {
        for (text, why) in [
            ("tool {image}", "no name"),
            ("=tool {image}", "no name"),
            ("a=tool", "where the image goes"),
            ("a={image}", "where the image goes"),
            ("a=tool 'x {image}", "quote"),
        ] {
            let refused = text.parse::<Command>().unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }

    #[test]
    fn a_program_is_found_before_it_is_run() {
        let found: Command = "a=sh -c true {image}".parse().unwrap();
        assert!(
            found
                .find(program::TIME, program::MEMORY)
                .unwrap()
                .program
                .ends_with("sh")
        );
        for missing in [
            "a=no-such-tool {image}",
            "a=./no-such {image}",
            "a=/ {image}",
        ] {
            let missing: Command = missing.parse().unwrap();
            assert!(missing.find(program::TIME, program::MEMORY).is_err());
        }
    }
}
