//! `cargo xtask corpus`: makes, minimises and verifies the seeds of the fuzz targets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{ExitCode, Stdio};

use recount_oracle::fuzz::{Target, Use};
use recount_subjects::{Recount, arms, seeds};

use crate::error::Result;
use crate::fuzz::finding::{name_of, why_refused};
use crate::fuzz::tools::{Fuzzer, files, learned, seeds as folder_of};

/// Options of `cargo xtask corpus`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Writes the seeds anew: the same ones in every run. What fuzzing added stays.
    Generate(Which),
    /// Adds what fuzzing found on this machine, and removes what adds no coverage.
    Minimize(Which),
    /// Says which file adds no coverage and which no longer decodes.
    Verify(Which),
    /// Lists how many images reach each arm of the walk.
    Arms,
}

#[derive(clap::Args)]
struct Which {
    /// Only this target.
    target: Option<Target>,
}

impl Which {
    fn each(&self) -> Vec<Target> {
        self.target.map_or(Target::ALL.to_vec(), |one| vec![one])
    }
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut bad = 0;
    match &args.command {
        Command::Generate(which) => which.each().into_iter().try_for_each(generate)?,
        Command::Minimize(which) => {
            let fuzzer = Fuzzer::ready()?;
            for target in which.each() {
                minimize(&fuzzer, target)?;
            }
        }
        Command::Verify(which) => {
            let fuzzer = Fuzzer::ready()?;
            for target in which.each() {
                bad += verify(&fuzzer, target)?;
            }
        }
        Command::Arms => bad = list_arms()?,
    }
    Ok(ExitCode::from(u8::from(bad > 0)))
}

/// What the names of generated inputs begin with.
const SEED: &str = "seed-";

fn is_named(file: &Path, prefix: &str) -> bool {
    let name = file.file_name().map(|name| name.to_string_lossy());
    name.is_some_and(|name| name.starts_with(prefix))
}

fn generate(target: Target) -> Result<()> {
    let folder = folder_of(target);
    std::fs::create_dir_all(&folder)?;
    let inputs = seeds::generate_seeds(target);
    for old in files(&folder)? {
        if is_named(&old, SEED) {
            std::fs::remove_file(old)?;
        }
    }
    for input in &inputs {
        std::fs::write(folder.join(format!("{SEED}{}", name_of(input))), input)?;
    }
    println!("{target}: {} seeds", inputs.len());
    Ok(())
}

/// The inputs that together reach all that `inputs` reach, the smallest first, by their content.
fn merged(fuzzer: &Fuzzer, target: Target, inputs: &[&Path]) -> Result<BTreeSet<Vec<u8>>> {
    fuzzer.build(target)?;
    let kept = tempfile::tempdir()?;
    let mut command = fuzzer.command(target);
    command.arg("-merge=1").arg(kept.path()).args(inputs);
    let status = command.stderr(Stdio::null()).status()?;
    if !status.success() {
        return Err(format!("merging the corpus of {target} failed").into());
    }
    let files = files(kept.path())?;
    Ok(files.iter().map(std::fs::read).collect::<Result<_, _>>()?)
}

fn minimize(fuzzer: &Fuzzer, target: Target) -> Result<()> {
    let (folder, learned) = (folder_of(target), learned(target)?);
    let mut kept = merged(fuzzer, target, &[&folder, &learned])?;
    let (mut removed, mut arms_kept) = (0, BTreeSet::new());
    for input in &kept {
        arms_kept.extend(arms_of(target, input));
    }
    for file in files(&folder)? {
        let input = std::fs::read(&file)?;
        // Coverage of the code does not tell all kinds of findings apart.
        let needed = arms_of(target, &input)
            .difference(&arms_kept)
            .next()
            .is_some();
        let finding = is_named(&file, "finding-");
        if !kept.remove(&input) && !needed && !finding {
            std::fs::remove_file(&file)?;
            removed += 1;
        }
        if needed {
            arms_kept.extend(arms_of(target, &input));
        }
    }
    for input in &kept {
        std::fs::write(folder.join(format!("found-{}", name_of(input))), input)?;
    }
    println!("{target}: {} added, {removed} removed", kept.len());
    Ok(())
}

fn arms_of(target: Target, input: &[u8]) -> BTreeSet<String> {
    match target {
        Target::Image => arms::reached(input),
        Target::Crash | Target::Fault | Target::Rebuild => BTreeSet::new(),
    }
}

/// How many are broken.
fn verify(fuzzer: &Fuzzer, target: Target) -> Result<usize> {
    let folder = folder_of(target);
    let useful = merged(fuzzer, target, &[&folder])?;
    let (mut refused, mut idle) = (0, 0);
    for file in files(&folder)? {
        let input = std::fs::read(&file)?;
        match target.judge(&Recount, &input) {
            Ok(Use::Refused) => {
                let why = why_refused(target, &input);
                println!("{}: no longer decodes: {why}", file.display());
                refused += 1;
            }
            Err(broken) => {
                println!("{}: {broken}", file.display());
                refused += 1;
            }
            Ok(_) if !useful.contains(&input) => {
                println!("{}: adds no coverage of code", file.display());
                idle += 1;
            }
            Ok(_) => (),
        }
    }
    println!(
        "{target}: {} add coverage, {idle} do not, {refused} fail",
        useful.len()
    );
    Ok(refused)
}

/// How many are not reached.
fn list_arms() -> Result<usize> {
    let none = arms::all().map(|arm| (arm.to_owned(), 0));
    let mut counts: BTreeMap<String, u64> = none.collect();
    for file in files(&folder_of(Target::Image))? {
        for arm in arms::reached(&std::fs::read(file)?) {
            *counts.entry(arm).or_default() += 1;
        }
    }
    println!("images  arm");
    for (arm, images) in &counts {
        println!("{images:6}  {arm}");
    }
    let missing = counts.values().filter(|images| **images == 0).count();
    println!("{} arms, {missing} of them not reached", counts.len());
    Ok(missing)
}
