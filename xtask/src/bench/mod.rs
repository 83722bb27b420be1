//! `cargo xtask bench`: exact counts, and times against another revision.

mod counts;

use std::process::ExitCode;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Writes benches/counts.toml anew and prints what changed.
    #[arg(long)]
    counts: bool,
}

/// Does what is asked for.
pub fn run(args: &Args) -> Result<ExitCode, Box<dyn std::error::Error>> {
    if args.counts {
        counts::write()?;
    }
    Ok(ExitCode::SUCCESS)
}
