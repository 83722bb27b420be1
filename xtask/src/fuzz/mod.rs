//! `cargo xtask fuzz`: runs the fuzz targets, minimises and stores what they find, and measures
//! them.

pub mod finding;
mod progress;
mod rate;
pub mod tools;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use recount_oracle::fuzz::{Target, Use, encoding};

use tools::Fuzzer;

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
    /// Processes that share what they learn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "rate")]
    jobs: u32,
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
pub fn run(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
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
    let time = args.time.or(args.all.then_some(MINUTE));
    let mut totals = Vec::new();
    for target in targets {
        fuzzer.build(target)?;
        let (artifact, progress) = fuzzer.run(target, time, args.seed, args.jobs)?;
        if let Some(artifact) = &artifact {
            let artifact = fuzzer.minimize(target, artifact.clone())?;
            finding::store(target, &artifact)?;
        }
        totals.push((target, progress, artifact.is_some()));
    }
    println!("target    executions  coverage  features  inputs  finding");
    for (target, progress, found) in &totals {
        let found = if *found { "yes" } else { "none" };
        println!("{target:8} {progress} {found:>8}");
    }
    let found = totals.iter().any(|(_, _, found)| *found);
    Ok(ExitCode::from(u8::from(found)))
}

fn replay(target: Target, file: &PathBuf) -> Result<ExitCode, Box<dyn Error>> {
    let input = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
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
