//! `cargo xtask explore`: fresh cases for a given time, of everything that looks for mistakes at
//! random. The gate, .ci/run, has fixed cases, so that it says the same of a commit every time.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use recount_oracle::fuzz::Target;

use crate::CANNOT_RUN;
use crate::error::Result;
use crate::fuzz::tools::{Fuzzer, Stretch};
use crate::mutants::random;
use crate::report::model::Report;

/// More cases than there is time for.
const ENDLESS: u64 = 1_000_000;
/// A mutant takes longer to build and test, in seconds.
const MUTANT: u64 = 60;

/// Options of `cargo xtask explore`.
#[derive(clap::Args)]
pub struct Args {
    /// How long altogether, without building: 90s, 5m, 1h. Each part has its share.
    #[arg(long, value_parser = humantime::parse_duration)]
    time: Duration,
    /// Where random numbers begin; a fresh one each time unless given. It is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Random mutants of the engine as well: a survivor is a finding.
    #[arg(long)]
    mutants: bool,
    /// Processes of a fuzz target that share what they learn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    jobs: u32,
}

/// What a part came to.
struct Row {
    name: String,
    took: Duration,
    /// Cases, executions or mutants, and findings; or why it could not run.
    outcome: Result<(u64, usize), String>,
}

/// Runs it. Exit code 1 where anything was found.
pub fn run(args: &Args) -> Result<ExitCode> {
    let seed = args.seed.unwrap_or_else(|| rand::random::<u32>().into());
    println!("seed {seed}");
    let share = args.time / if args.mutants { 3 } else { 2 };
    let mut rows = vec![part("differential", || differential(seed, share))];
    let each = share / u32::try_from(Target::ALL.len())?;
    for target in Target::ALL {
        let name = format!("fuzz {target}");
        rows.push(part(&name, || fuzz(target, seed, each, args.jobs)));
    }
    if args.mutants {
        rows.push(part("mutants", || {
            let enough = usize::try_from(share.as_secs() / MUTANT + 1)?;
            let outcome = random::run(enough, seed, Some(share))?;
            Ok((outcome.tried as u64, outcome.survivors.len()))
        }));
    }
    print(seed, &rows);
    Ok(ExitCode::from(exit_code(&rows)))
}

fn part(name: &str, work: impl FnOnce() -> Result<(u64, usize)>) -> Row {
    println!("\n=== {name}");
    let began = Instant::now();
    let outcome = work().map_err(|error| error.to_string());
    Row {
        name: name.to_owned(),
        took: began.elapsed(),
        outcome,
    }
}

/// In a process of its own, which an interrupt ends in good order. Its report stays, with a smaller
/// case for each failure.
fn differential(seed: u64, time: Duration) -> Result<(u64, usize)> {
    let folder = PathBuf::from(format!("target/explore/{seed}"));
    let status = Command::new(std::env::current_exe()?)
        .args(["differential", "--require-qemu", "--overwrite"])
        .arg(format!("--seed={seed}"))
        .arg(format!("--cases={ENDLESS}"))
        .arg(format!("--time={}", time.as_secs()))
        .arg("--report")
        .arg(&folder)
        .status()?;
    if !matches!(status.code(), Some(0 | 1)) {
        return Err("cannot run; its messages are above".into());
    }
    let report = Report::load(&folder)?;
    Ok((report.cases, report.counting()))
}

/// What it finds is stored in the corpus.
fn fuzz(target: Target, seed: u64, time: Duration, jobs: u32) -> Result<(u64, usize)> {
    let stretch = Stretch {
        time: Some(time),
        runs: None,
        seed: Some(seed),
        jobs,
        go_on: true,
        no_store: false,
    };
    let (progress, findings) = crate::fuzz::search(&Fuzzer::ready()?, target, &stretch)?;
    Ok((progress.executions, findings))
}

fn print(seed: u64, rows: &[Row]) {
    println!("\nseed {seed}\npart            seconds  cases or executions  findings");
    for row in rows {
        let (name, seconds) = (&row.name, row.took.as_secs());
        match &row.outcome {
            Ok((ran, findings)) => println!("{name:14} {seconds:8} {ran:20} {findings:9}"),
            Err(error) => println!("{name:14} {seconds:8}  {error}"),
        }
    }
}

/// A finding goes before what could not run.
fn exit_code(rows: &[Row]) -> u8 {
    let found = |row: &Row| matches!(row.outcome, Ok((_, 1..)));
    match rows.iter().any(found) {
        true => 1,
        false if rows.iter().any(|row| row.outcome.is_err()) => CANNOT_RUN,
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(outcome: Result<(u64, usize), &str>) -> Row {
        Row {
            name: String::new(),
            took: Duration::ZERO,
            outcome: outcome.map_err(str::to_owned),
        }
    }

    #[test]
    fn a_finding_decides_the_exit_code_then_what_could_not_run() {
        assert_eq!(exit_code(&[row(Ok((9, 0)))]), 0);
        assert_eq!(exit_code(&[row(Ok((9, 0))), row(Err("no qemu-img"))]), 2);
        assert_eq!(exit_code(&[row(Err("no qemu-img")), row(Ok((9, 1)))]), 1);
    }
}
