//! `cargo xtask fuzz`: runs the fuzz targets, minimises and stores what they find, and measures
//! them.

pub mod finding;
mod progress;
mod rate;
pub mod tools;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use recount_oracle::fuzz::{Target, Use};
use recount_subjects::Recount;

use crate::error::{At as _, Result};
use tools::{Fuzzer, Stretch};

pub use progress::Progress;

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct Args {
    /// The target: crash, fault, image or rebuild.
    #[arg(required_unless_present_any = ["all", "rate"])]
    target: Option<Target>,
    /// Every target, one after the other, each for the time given.
    #[arg(long, conflicts_with = "target")]
    all: bool,
    #[command(flatten)]
    stretch: Stretch,
    /// Measure executions a second and memory instead, from the committed corpus.
    #[arg(long)]
    rate: bool,
    /// Judge one input, without libFuzzer, and say what is wrong with it.
    #[arg(long, value_name = "FILE", requires = "target")]
    replay: Option<PathBuf>,
    /// Store an input that was found elsewhere, on a fleet, like one found here.
    #[arg(
        long,
        value_name = "FILE",
        requires = "target",
        conflicts_with = "replay"
    )]
    store: Option<PathBuf>,
}

/// Time for each target where none is given.
const MINUTE: Duration = Duration::from_secs(60);

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode> {
    let targets = match args.target {
        Some(target) => vec![target],
        None => Target::ALL.to_vec(),
    };
    if let (Some(file), Some(target)) = (&args.replay, args.target) {
        return replay(target, file);
    }
    if let (Some(file), Some(target)) = (&args.store, args.target) {
        return finding::store(target, file).map(|()| ExitCode::SUCCESS);
    }
    let fuzzer = Fuzzer::ready()?;
    if args.rate {
        return rate::measure(&fuzzer, &targets, args.stretch.time);
    }
    let mut stretch = args.stretch;
    if args.all && stretch.runs.is_none() {
        stretch.time.get_or_insert(MINUTE);
    }
    let mut totals = Vec::new();
    for target in targets {
        let (progress, findings) = search(&fuzzer, target, &stretch)?;
        totals.push((target, progress, findings));
    }
    print_totals(&totals);
    let found = totals.iter().any(|(_, _, findings)| *findings > 0);
    Ok(ExitCode::from(u8::from(found)))
}

/// Builds a target, runs it, and stores what it finds: how far it came, and how many findings.
pub fn search(fuzzer: &Fuzzer, target: Target, stretch: &Stretch) -> Result<(Progress, usize)> {
    fuzzer.build(target)?;
    let ran = fuzzer.run(target, stretch)?;
    let distinct = finding::distinct(target, ran.artifacts)?;
    for artifact in &distinct {
        if stretch.no_store {
            let message = finding::message(target, &std::fs::read(artifact)?);
            println!(
                "finding after {} executions: {message}",
                ran.progress.executions
            );
            std::fs::remove_file(artifact)?;
            continue;
        }
        let artifact = fuzzer.minimize(target, artifact.clone())?;
        finding::store(target, &artifact)?;
    }
    Ok((ran.progress, distinct.len()))
}

fn print_totals(totals: &[(Target, Progress, usize)]) {
    println!("target    executions  coverage  features  inputs  findings");
    for (target, progress, findings) in totals {
        println!("{target:8} {progress} {findings:>9}");
    }
}

fn replay(target: Target, file: &PathBuf) -> Result<ExitCode> {
    let input = std::fs::read(file).at(file.display())?;
    match target.judge(&Recount, &input) {
        Ok(Use::Judged | Use::Costly) => {
            println!("nothing is wrong");
            Ok(ExitCode::SUCCESS)
        }
        Ok(Use::TooMuchWork) => {
            println!("it takes the audit too long: what the specification says was not asked");
            Ok(ExitCode::SUCCESS)
        }
        Ok(Use::Refused) => {
            let why = finding::why_refused(target, &input);
            Err(format!("{}: {why}", file.display()).into())
        }
        Err(broken) => {
            println!("{broken}");
            Ok(ExitCode::FAILURE)
        }
    }
}
