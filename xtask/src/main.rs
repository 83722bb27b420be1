//! The commands of the harness: `cargo xtask …`.

mod bench;
mod columns;
mod corpus;
mod differential;
mod explore;
mod fuzz;
mod model;
mod mutants;
mod process;
mod replay;
mod report;
mod versus;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use error::Result;
use recount_subjects::error;

/// The exit code of a command that could not run, as against one that found something.
const CANNOT_RUN: u8 = 2;

/// The commands of the harness.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Damages real images and compares recount with qemu-img, check by check.
    Differential(differential::Args),
    /// Looks at every small case there is: which properties hold for which algorithm.
    Model(model::Args),
    /// Counts what the engine does, exactly, and times it against another revision.
    Bench(bench::Args),
    /// Times recount and qemu-img on the same large images, in turn.
    Versus(versus::Args),
    /// Breaks the engine on purpose and shows which property or test sees it.
    Mutants(mutants::Args),
    /// Runs one case again and tells the whole story.
    Replay(replay::Args),
    /// Runs the fuzz targets, and keeps what they find.
    Fuzz(fuzz::Args),
    /// Looks for mistakes with fresh cases for a given time: differential, fuzz targets, mutants.
    Explore(explore::Args),
    /// Works with the reports of `cargo xtask differential`.
    Report(report::Args),
    /// Makes, minimises and verifies the seeds of the fuzz targets.
    Corpus(corpus::Args),
}

impl Command {
    fn run(&self) -> Result<ExitCode> {
        match self {
            Self::Bench(args) => bench::run(args),
            Self::Corpus(args) => corpus::run(args),
            Self::Differential(args) => differential::run(args),
            Self::Explore(args) => explore::run(args),
            Self::Fuzz(args) => fuzz::run(args),
            Self::Model(args) => model::run(args),
            Self::Mutants(args) => mutants::run(args),
            Self::Replay(args) => replay::run(args),
            Self::Report(args) => report::run(args),
            Self::Versus(args) => versus::run(args),
        }
    }
}

fn main() -> ExitCode {
    // An unknown command ends here, with exit code 2.
    Cli::parse().command.run().unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(CANNOT_RUN)
    })
}
