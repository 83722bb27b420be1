//! `cargo xtask mutants`: breaks the engine on purpose, one plausible mistake at a time, and shows
//! which property or test sees it, and how soon.

mod detect;
mod list;
pub mod random;
mod scratch;
mod sensitivity;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use strum::VariantArray as _;

use crate::error::Result;
use detect::{Detector, DoesNotBuild};
use list::Mutant;
use scratch::Scratch;

/// Options of `cargo xtask mutants`.
#[derive(clap::Args)]
pub struct Args {
    /// Only the mutants whose name contains this, or one of these if it is given more than once.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Print the list, with what each mutant stands for, and run nothing.
    #[arg(long)]
    list: bool,
    /// Seconds, or minutes with an m, after which a test run is ended: a mutant may never end.
    #[arg(long, default_value = "5m", value_parser = crate::duration::parse)]
    limit: Duration,
    /// Let the fuzz targets look for the mistakes instead, each for the time given.
    #[arg(long)]
    fuzz: bool,
    /// With --fuzz: how long each target looks: 90, 90s, 5m.
    #[arg(long, default_value = "60s", value_parser = crate::duration::parse)]
    time: Duration,
    /// Try so many random mutants of cargo-mutants instead, with the tests of the engine, the oracle
    /// and the properties.
    #[arg(long, value_name = "N", conflicts_with_all = ["only", "list", "fuzz"])]
    random: Option<usize>,
    /// With --random: which ones; a fresh seed each time unless given. It is printed.
    #[arg(long, requires = "random")]
    seed: Option<u64>,
}

/// Runs all mutants, or a random sample of those that cargo-mutants makes. Exit code 1 when one of them is not seen.
pub fn run(args: &Args) -> Result<ExitCode> {
    if let Some(count) = args.random {
        let seed = args.seed.unwrap_or_else(|| rand::random::<u32>().into());
        let outcome = random::run(count, seed, None)?;
        return Ok(ExitCode::from(u8::from(!outcome.survivors.is_empty())));
    }
    let mutants = list::mutants()?;
    let chosen = |mutant: &&Mutant| {
        args.only.is_empty() || args.only.iter().any(|text| mutant.name.contains(text))
    };
    let mutants: Vec<&Mutant> = mutants.iter().filter(chosen).collect();
    if args.list {
        for mutant in mutants {
            println!("{}: {} ({})", mutant.name, mutant.why, mutant.file);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let scratch = Scratch::copy()?;
    if args.fuzz {
        return sensitivity::measure(&mutants, &scratch, args.time);
    }
    println!("the engine as it is");
    for &detector in Detector::VARIANTS {
        let found = detect::run(detector, &scratch, args.limit)?;
        if let Some(caught) = found {
            return Err(format!("the engine unbroken fails already: {caught}").into());
        }
    }
    let mut missed = 0_usize;
    let total = mutants.len();
    for (number, mutant) in (1..).zip(mutants) {
        let began = Instant::now();
        let caught = try_mutant(mutant, &scratch, args.limit);
        let seconds = began.elapsed().as_secs();
        let (found, seen) = match caught {
            Ok(Some(caught)) => (true, caught),
            Ok(None) => (false, "NOT SEEN".to_owned()),
            // The others are tried all the same.
            Err(error) if error.is::<DoesNotBuild>() => (false, "DOES NOT BUILD".to_owned()),
            Err(error) => return Err(error),
        };
        missed += usize::from(!found);
        println!("{number}/{total} {:44} {seconds:4} s  {seen}", mutant.name);
    }
    println!("{} of {total} seen", total - missed);
    Ok(ExitCode::from(u8::from(missed > 0)))
}

/// Who sees a mistake first.
fn try_mutant(mutant: &Mutant, scratch: &Scratch, limit: Duration) -> Result<Option<String>> {
    scratch.broken(mutant, || {
        for detector in Detector::for_file(&mutant.file) {
            let caught = detect::run(detector, scratch, limit)?;
            if caught.is_some() {
                return Ok(caught);
            }
        }
        Ok(None)
    })
}
