//! The commands of the harness: `cargo xtask …`.

mod differential;
mod duration;
mod model;
mod versus;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// Times recount and qemu-img on the same large images, in turn.
    Versus(versus::Args),
}

fn main() -> ExitCode {
    // An unknown command ends here, with exit code 2.
    let outcome: Result<_, Box<dyn std::error::Error>> = match Cli::parse().command {
        Command::Differential(args) => differential::run(&args).map_err(Into::into),
        Command::Model(args) => model::run(&args),
        Command::Versus(args) => versus::run(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(CANNOT_RUN)
    })
}
