//! Any program that checks an image, or repairs it in place, as the user writes it:
//! `NAME='command {image}'`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use recount_oracle::case::Algorithm;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::observed::Said;

use super::program::{self, Allowance, Limits, Output};
use super::{Bench, Repair, Repaired, Subject, qemu_img, said};
use crate::error::Result;
use crate::process::which;

/// What stands for the image's path.
const PLACE: &str = "{image}";
/// What stands for the name of an algorithm of recount, where the program has them all.
const ALGORITHM: &str = "{algorithm}";
/// The file that the program works on.
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

/// A command with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    name: String,
    /// As it is written.
    program: PathBuf,
    /// Where it is: programs run in folders of their own.
    found: PathBuf,
    arguments: Vec<String>,
}

impl FromStr for CommandLine {
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
            found: PathBuf::new(),
            arguments: words,
        })
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.program.to_string_lossy();
        let words = self.arguments.iter().map(String::as_str);
        let words = std::iter::once(&*program).chain(words);
        let command = shlex::try_join(words).unwrap_or_default();
        write!(f, "{}={command}", self.name)
    }
}

impl CommandLine {
    /// The program, found now rather than in every case.
    fn find(self) -> Result<Self> {
        let found = which(&self.program, Path::new(""))?;
        Ok(Self { found, ..self })
    }

    /// One for each algorithm, by its name, where the command asks for one.
    fn by_algorithm(&self) -> Vec<Self> {
        if !self.arguments.iter().any(|word| word.contains(ALGORITHM)) {
            return vec![self.clone()];
        }
        let all = [Algorithm::Planned, Algorithm::FirstFit, Algorithm::Tail];
        let by = |algorithm: Algorithm| {
            let algorithm = algorithm.to_string();
            let words = self.arguments.iter();
            let words = words.map(|word| word.replace(ALGORITHM, &algorithm));
            Self {
                name: format!("{} {algorithm}", self.name),
                arguments: words.collect(),
                ..self.clone()
            }
        };
        all.map(by).into()
    }

    /// The words after the program, for an image at this path.
    fn arguments(&self, image: &str) -> impl Iterator<Item = String> {
        let words = self.arguments.iter();
        words.map(move |word| word.replace(PLACE, image))
    }

    fn run(&self, path: &Path, directory: &Path, limits: &Limits) -> Result<Output> {
        let arguments = self.arguments(&path.to_string_lossy()).collect::<Vec<_>>();
        program::run(&self.found, arguments, directory, limits)
    }
}

/// A program that repairs images in place, or checks them, or has a command for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    name: String,
    repair: Option<CommandLine>,
    check: Option<CommandLine>,
    allowance: Allowance,
}

impl Command {
    /// Those of the command line, found now rather than in every case: a check belongs to the repair
    /// of the same name.
    pub fn gather(
        repairs: &[CommandLine],
        checks: &[CommandLine],
        allowance: Allowance,
    ) -> Result<Vec<Self>> {
        let mut commands = Vec::new();
        let named = |name: &str| Self {
            name: name.to_owned(),
            repair: None,
            check: None,
            allowance,
        };
        for line in repairs.iter().flat_map(CommandLine::by_algorithm) {
            commands.push(Self {
                repair: Some(line.clone().find()?),
                ..named(&line.name)
            });
        }
        for line in checks {
            let same = commands.iter_mut().find(|one| one.name == line.name);
            let check = Some(line.clone().find()?);
            match same {
                Some(Self { check: Some(_), .. }) => {
                    return Err(format!("two checks have the name `{}`", line.name).into());
                }
                Some(one) => one.check = check,
                None => commands.push(Self {
                    check,
                    ..named(&line.name)
                }),
            }
        }
        Ok(commands)
    }

    /// Whether it repairs.
    pub const fn repairs(&self) -> bool {
        self.repair.is_some()
    }

    /// Whether it checks.
    pub const fn checks(&self) -> bool {
        self.check.is_some()
    }

    /// Its check alone.
    pub fn checker(self) -> Self {
        let repair = None;
        Self { repair, ..self }
    }

    /// What is typed to have it repair the image at this path; to check it, where it only checks.
    pub fn line(&self, image: &str) -> String {
        let line = self.repair.iter().chain(&self.check).next();
        let words = line.into_iter().flat_map(|line| {
            let program = line.program.to_string_lossy().into_owned();
            std::iter::once(program).chain(line.arguments(image))
        });
        shell_line(words)
    }

    /// The options of the command line that bring it in.
    pub fn options(&self) -> Vec<(&'static str, String)> {
        let line = |line: &Option<CommandLine>| line.as_ref().map(ToString::to_string);
        let repair = line(&self.repair).map(|line| ("--subject", line));
        let check = line(&self.check).map(|line| ("--subject-check", line));
        repair.into_iter().chain(check).collect()
    }

    /// Repairs what is at a path, as a device or a file that is watched is: how that ended, if it
    /// repairs.
    pub fn repair_at(
        &self,
        path: &Path,
        bench: Bench<'_>,
        limits: &Limits,
    ) -> Result<Option<Said>> {
        let repair = self.repair.as_ref();
        let output = repair.map(|line| line.run(path, bench.directory, limits));
        Ok(output.transpose()?.map(in_either))
    }

    /// What it may use up over an image of so many bytes.
    pub const fn limits(&self, length: u64) -> Limits {
        self.allowance.for_image(length)
    }
}

/// What is for people may be in either.
fn in_either(output: Output) -> Said {
    said(output.ended, output.stdout + &output.stderr)
}

impl Subject for Command {
    fn name(&self) -> String {
        self.name.clone()
    }

    /// What its check is worth is what is judged, and judges nobody.
    fn is_checker(&self) -> bool {
        false
    }

    fn run(&self, bench: Bench<'_>, image: &SparseBytes, repair: Repair) -> Result<Repaired> {
        let limits = self.limits(SparseBytes::len(image));
        let line = match repair {
            Repair::None => &self.check,
            _ => &self.repair,
        };
        let path = bench.directory.join(FILE);
        bench.in_file(FILE, image, &limits, || {
            let line = line.as_ref().ok_or("it has no command for this")?;
            let output = line.run(&path, bench.directory, &limits)?;
            Ok(match repair {
                Repair::None => qemu_img::said(output),
                _ => in_either(output),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_split_as_a_shell_splits_it() {
        let command: CommandLine = "mine=tool --repair 'a b' x{image}".parse().unwrap();
        assert_eq!(command.name, "mine");
        assert_eq!(command.program, Path::new("tool"));
        assert_eq!(command.arguments, ["--repair", "a b", "x{image}"]);
        assert_eq!(command.to_string().parse(), Ok(command));
    }

    #[test]
    fn what_is_typed_is_quoted_where_it_has_to_be() {
        let line = "mine=/bin/sh of={image} 'a b' \"it's\"".parse().unwrap();
        let commands = Command::gather(&[line], &[], Allowance::DEFAULT).unwrap();
        let line = commands[0].line("x.qcow2");
        assert_eq!(line, "/bin/sh of=x.qcow2 'a b' \"it's\"");
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
            let refused = text.parse::<CommandLine>().unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }

    #[test]
    fn a_program_is_found_before_it_is_run() {
        let gathered = |text: &str| {
            let line = text.parse().unwrap();
            Command::gather(&[line], &[], Allowance::DEFAULT)
        };
        let found = gathered("a=sh -c true {image}").unwrap();
        assert!(found[0].repair.as_ref().unwrap().found.ends_with("sh"));
        for missing in [
            "a=no-such-tool {image}",
            "a=./no-such {image}",
            "a=/ {image}",
        ] {
            assert!(gathered(missing).is_err());
        }
    }

    #[test]
    fn a_check_goes_with_the_repair_of_its_name_and_an_algorithm_makes_three_of_one() {
        let lines = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let repairs: Vec<_> = lines(&["a=sh -c true {image}", "b=sh {algorithm} {image}"]);
        let checks: Vec<_> = lines(&["a=sh -c false {image}", "c=sh {image}"]);
        let found = Command::gather(&repairs, &checks, Allowance::DEFAULT).unwrap();
        let seen = found
            .iter()
            .map(|one| (&*one.name, one.repairs(), one.checks()));
        let expected = [
            ("a", true, true),
            ("b planned", true, false),
            ("b first-fit", true, false),
            ("b tail", true, false),
            ("c", false, true),
        ];
        assert!(seen.eq(expected));
        let (option, line) = &found[3].options()[0];
        assert_eq!(*option, "--subject");
        assert_eq!(line, "b tail=sh tail '{image}'");
        assert!(Command::gather(&[], &lines(&["c=sh {image}"; 2]), Allowance::DEFAULT).is_err());
    }
}
