//! `cargo xtask mutants`: breaks the engine on purpose, one plausible mistake at a time, and shows
//! which property or test sees it, and how soon.

mod detect;
mod list;
pub mod random;
mod scratch;
mod table;

use std::process::ExitCode;
use std::time::Duration;

use crate::error::Result;
use detect::{DETECTORS, Detector};
use list::Mutant;
use scratch::Scratch;
use table::Table;

/// Options of `cargo xtask mutants`.
#[derive(clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Args {
    /// Only the mutants whose name contains this, or one of these if it is given more than once.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Only those that every detector should see: one for each rule of what a repair is, and mistakes
    /// that were made before.
    #[arg(long)]
    rules: bool,
    /// Ask only this detector; may be repeated.
    #[arg(long = "detector", value_name = "NAME", value_parser = Detector::of)]
    detectors: Vec<Detector>,
    /// Print the list, with what each mutant stands for, and run nothing.
    #[arg(long)]
    list: bool,
    /// Ask all detectors about each mutant, not only until one sees it, and print a table.
    #[arg(long)]
    table: bool,
    /// Write what is found into the table of docs/mutants.md, after each mutant; what it says of other
    /// mutants and detectors stays.
    #[arg(long, requires = "table")]
    write: bool,
    /// How long a detector may take: a mutant may never end.
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration)]
    limit: Duration,
    /// Try so many random mutants of cargo-mutants instead, with the tests of the engine, the oracle
    /// and the properties.
    #[arg(long, value_name = "N", conflicts_with_all = ["only", "rules", "detectors", "list", "table"])]
    random: Option<usize>,
    /// With --random: which ones; a fresh seed each time unless given. It is printed.
    #[arg(long, requires = "random")]
    seed: Option<u64>,
}

/// Runs all mutants, or a random sample of those that cargo-mutants makes. Exit code 1 when one of
/// them is not seen.
pub fn run(args: &Args) -> Result<ExitCode> {
    if let Some(count) = args.random {
        let seed = args.seed.unwrap_or_else(|| rand::random::<u32>().into());
        let outcome = random::run(count, seed, None)?;
        return Ok(ExitCode::from(u8::from(!outcome.survivors.is_empty())));
    }
    let mutants = list::mutants()?;
    let is_named = |name: &str| args.only.iter().any(|text| name.contains(text));
    let mut chosen: Vec<&Mutant> = mutants.iter().collect();
    chosen.retain(|mutant| args.only.is_empty() || is_named(&mutant.name));
    chosen.retain(|mutant| !args.rules || mutant.is_of_rules());
    if chosen.is_empty() {
        let names = args.only.join(", ");
        return Err(format!("no mutant is named like {names}; --list shows all").into());
    }
    if args.list {
        for mutant in chosen {
            println!("{}: {} ({})", mutant.name, mutant.why, mutant.file);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut detectors = args.detectors.clone();
    if detectors.is_empty() {
        detectors.extend(DETECTORS);
    }
    let scratch = Scratch::copy()?;
    println!("the engine as it is");
    for detector in &detectors {
        // What is found there would be taken for each of the mistakes.
        if let Some(seen) = detector.look(&scratch, args.limit)? {
            let name = detector.name;
            return Err(format!("the engine unbroken fails already: {name}, {seen}").into());
        }
    }
    let mut table = Table::read()?;
    if args.table {
        println!("{}", table::head(&detectors));
    }
    let mut missed = chosen.len();
    for mutant in &chosen {
        let mut first = None;
        let asked = scratch.broken(mutant, || {
            for &detector in &detectors {
                let seen = detector.look(&scratch, args.limit)?;
                table.set(mutant, detector, seen.as_deref());
                let seen = seen.map(|seen| format!("{}, {seen}", detector.name));
                first = first.take().or(seen);
                if first.is_some() && !args.table {
                    break;
                }
            }
            Ok(())
        });
        if args.write {
            table.write(&mutants)?;
        }
        missed -= usize::from(first.is_some());
        let seen = first.unwrap_or("NOT SEEN".to_owned());
        match asked {
            // The others are tried all the same.
            Err(error) => println!("{:44} {error}", mutant.name),
            Ok(()) if args.table => println!("{}", table.row(mutant, &detectors)),
            Ok(()) => println!("{:44} {seen}", mutant.name),
        }
    }
    println!("{missed} of {} not seen", chosen.len());
    Ok(ExitCode::from(u8::from(missed > 0)))
}
