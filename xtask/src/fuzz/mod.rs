//! `cargo xtask fuzz`: runs the fuzz targets, minimises and stores what they find, and measures
//! them.

pub mod finding;
mod progress;
mod rate;
pub mod tools;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use recount_oracle::fuzz::{Target, Use, encoding};

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
    /// How long: 90, 90s, 5m. By default until Ctrl-C, with --all a minute each.
    #[arg(long, value_parser = crate::duration::parse)]
    time: Option<Duration>,
    /// How many executions instead, from the committed corpus alone: with --seed, the same every time.
    #[arg(long, value_name = "N", conflicts_with_all = ["time", "rate", "jobs"])]
    runs: Option<u64>,
    /// Processes that share what they learn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "rate")]
    jobs: u32,
    /// Go on behind a finding until the time is up, and store the smallest of each kind.
    #[arg(long, requires = "time", conflicts_with = "rate")]
    go_on: bool,
    /// Where libFuzzer's random numbers begin; a fresh one each time unless given.
    #[arg(long, conflicts_with = "rate")]
    seed: Option<u64>,
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
        return rate::measure(&fuzzer, &targets, args.time);
    }
    let stretch = Stretch {
        time: args
            .time
            .or((args.all && args.runs.is_none()).then_some(MINUTE)),
        runs: args.runs,
        seed: args.seed,
        jobs: args.jobs,
        goes_on: args.go_on,
    };
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
    match target.judge(&input) {
        Ok(Use::Judged | Use::Costly) => {
            println!("nothing is wrong");
            Ok(ExitCode::SUCCESS)
        }
        Ok(Use::Refused) => Err(match encoding::decode(target, &input) {
            Err(error) => format!("{}: {error}", file.display()),
            Ok(_) => format!("{}: nothing in it can be run", file.display()),
        }
        .into()),
        Err(broken) => {
            println!("{broken}");
            Ok(ExitCode::FAILURE)
        }
    }
}
