//! `cargo xtask mutants --random`: a seeded sample of the mutants that cargo-mutants makes of the
//! engine, each against the tests of the engine, the oracle and the properties.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::Value;

use super::list::{self, Equivalent};
use crate::error::Result;
use crate::process::{check, have, output};
use recount_subjects::process::wait;

/// The files that are changed.
const FILES: &str = "engine/src/**";
/// Whose tests are run.
const PACKAGES: [&str; 4] = [
    "recount",
    "recount-oracle",
    "recount-subjects",
    "recount-proptests",
];
/// Where cargo-mutants keeps its copy and leaves its results.
const FOLDER: &str = "target/mutants/random";
/// Longer than any sample takes.
const EVER: Duration = Duration::from_secs(1 << 32);
/// How much longer than without a mutant, and how much more than that, the tests may take.
const SLOWER: u32 = 3;
const GRACE: Duration = Duration::from_secs(60);
/// How cargo-mutants ends when all were caught, some were missed, or some did not end. Otherwise it
/// has not tried them.
const TRIED: [i32; 3] = [0, 2, 3];

/// A mutant, as `cargo mutants --list --json` has it.
#[derive(Clone, Debug, Deserialize)]
pub struct Listed {
    /// File, line, column and what is changed.
    pub name: String,
    /// From the top of the tree.
    pub file: String,
    span: Value,
}

impl Listed {
    /// What is changed, without the place.
    pub fn change(&self) -> &str {
        self.name
            .split_once(": ")
            .map_or(&self.name, |(_, change)| change)
    }

    /// The line that is changed.
    pub fn code(&self) -> Result<String> {
        let text = fs::read_to_string(&self.file)?;
        let number = self.span["start"]["line"].as_u64().unwrap_or_default() as usize;
        let line = text.lines().nth(number.saturating_sub(1));
        Ok(line.unwrap_or_default().trim().to_owned())
    }
}

/// What came of a sample.
pub struct Outcome {
    /// Mutants that were built and tested.
    pub tried: usize,
    /// Those that no test saw and that are not known to be equivalent.
    pub survivors: Vec<String>,
}

/// Tries a sample of so many mutants, for no longer than the time given, and prints the survivors.
pub fn run(count: usize, seed: u64, time: Option<Duration>) -> Result<Outcome> {
    have("mutants")?;
    let all = listed()?;
    let sample = sample(&all, count, seed);
    println!(
        "{} of {} mutants of {FILES}, seed {seed}",
        sample.len(),
        all.len()
    );
    let results = Path::new(FOLDER).join("mutants.out");
    leave_out(&all, &sample, &results)?;
    try_all(time_of_tests()? * SLOWER + GRACE, seed, time)?;
    let missed = names(&results.join("missed.txt"));
    let caught = names(&results.join("caught.txt"));
    let seen = caught.len() + names(&results.join("timeout.txt")).len();
    let known = list::equivalent()?;
    let survived = sample.iter().filter(|mutant| missed.contains(&mutant.name));
    let survivors = report(survived, &known)?;
    println!(
        "{} tried, {seen} seen, {} survivors",
        seen + missed.len(),
        survivors.len()
    );
    Ok(Outcome {
        tried: seen + missed.len(),
        survivors,
    })
}

fn listed() -> Result<Vec<Listed>> {
    let list = "mutants --list --json --no-config --file";
    let mut command = Command::new("cargo");
    command.args(list.split(' ')).arg(FILES);
    Ok(serde_json::from_str(&output(&mut command)?)?)
}

/// So many of them, chosen by the seed, in the order of the list.
fn sample(all: &[Listed], count: usize, seed: u64) -> Vec<&Listed> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let chosen = rand::seq::index::sample(&mut rng, all.len(), count.min(all.len()));
    let mut chosen = chosen.into_vec();
    chosen.sort_unstable();
    chosen.into_iter().map(|index| &all[index]).collect()
}

/// Has cargo-mutants leave out all others: it goes on from a run in which they were caught. Its
/// filter by name lets some kinds of mutants through.
fn leave_out(all: &[Listed], sample: &[&Listed], results: &Path) -> Result<()> {
    if results.exists() {
        fs::remove_dir_all(results)?;
    }
    fs::create_dir_all(results)?;
    let wanted: BTreeSet<&str> = sample.iter().map(|mutant| &*mutant.name).collect();
    let others = all.iter().map(|mutant| &*mutant.name);
    let others: Vec<&str> = others.filter(|name| !wanted.contains(name)).collect();
    Ok(fs::write(
        results.join("caught.txt"),
        others.join("\n") + "\n",
    )?)
}

/// How long the tests take on the engine as it is. cargo-mutants would only look at its own tests.
fn time_of_tests() -> Result<Duration> {
    println!("the engine as it is");
    let tests = || {
        let mut command = Command::new("cargo");
        command.args(["test", "--quiet"]).stdout(Stdio::null());
        command.args(PACKAGES.map(|package| format!("--package={package}")));
        command
    };
    check(tests().arg("--no-run"))?;
    let began = Instant::now();
    check(&mut tests())?;
    Ok(began.elapsed())
}

/// Lets cargo-mutants try them in a copy of the tree, until all are tried or the time is up.
fn try_all(limit: Duration, seed: u64, time: Option<Duration>) -> Result<()> {
    // The copy goes there, and away with it where the time runs out.
    let copies = tempfile::tempdir_in(FOLDER)?;
    let mut command = Command::new("cargo");
    command
        .args(["mutants", "--no-config", "--iterate", "--file", FILES])
        .args(["--output", FOLDER, "--baseline", "skip"])
        .arg(format!("--timeout={}", limit.as_secs()))
        .arg(format!("--test-package={}", PACKAGES.join(",")))
        .env("TMPDIR", fs::canonicalize(copies.path())?)
        .env("PROPTEST_RNG_SEED", seed.to_string())
        .env_remove("CARGO_TARGET_DIR")
        .process_group(0);
    let mut child = command.spawn()?;
    let ended = wait(&mut child, time.unwrap_or(EVER))?;
    let tried = |status: ExitStatus| status.code().is_some_and(|code| TRIED.contains(&code));
    if !ended.is_none_or(tried) {
        return Err("cargo mutants could not try the mutants; its messages are above".into());
    }
    Ok(())
}

/// The lines of a result; none where the time was up before there was one.
fn names(file: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Prints those that no test saw; those that are not known to be equivalent.
fn report<'a>(
    survived: impl Iterator<Item = &'a &'a Listed>,
    known: &[Equivalent],
) -> Result<Vec<String>> {
    let mut survivors = Vec::new();
    for mutant in survived {
        let code = mutant.code()?;
        let known = known.iter().find(|known| {
            known.file == mutant.file && known.mutant == mutant.change() && known.code == code
        });
        if let Some(known) = known {
            println!("equivalent: {}\n    {}", mutant.name, known.why);
        } else {
            println!("SURVIVES: {}\n    {code}", mutant.name);
            survivors.push(mutant.name.clone());
        }
    }
    Ok(survivors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(number: usize) -> Listed {
        Listed {
            name: format!("engine/src/a.rs:{number}:5: replace << with >> in f"),
            file: "engine/src/a.rs".to_owned(),
            span: serde_json::json!({"start": {"line": number}}),
        }
    }

    #[test]
    fn a_seed_chooses_the_same_mutants_every_time_and_another_one_others() {
        let all: Vec<Listed> = (0..500).map(mutant).collect();
        let names = |seed| -> Vec<&str> {
            let sample = sample(&all, 10, seed);
            sample.into_iter().map(|mutant| &*mutant.name).collect()
        };
        assert_eq!(names(1), names(1));
        assert_ne!(names(1), names(2));
        assert_eq!(names(1).len(), 10);
        assert_eq!(sample(&all, 1000, 1).len(), 500);
    }

    #[test]
    fn the_place_is_no_part_of_the_change() {
        assert_eq!(mutant(7).change(), "replace << with >> in f");
    }

    #[test]
    fn all_but_the_sample_are_left_out() {
        let all: Vec<Listed> = (0..9).map(mutant).collect();
        let folder = tempfile::tempdir().unwrap();
        let results = folder.path().join("mutants.out");
        leave_out(&all, &sample(&all, 2, 1), &results).unwrap();
        assert_eq!(names(&results.join("caught.txt")).len(), 7);
    }
}
