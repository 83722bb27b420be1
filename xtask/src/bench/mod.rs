//! `cargo xtask bench`: exact counts, and times against another revision.

mod compare;
mod counts;
mod revision;
mod statistics;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ArgGroup;

use crate::error::Result;
use crate::process::build_release;
use crate::versus::images::ImageKind;
use crate::versus::measure::Subject;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
#[group(skip)]
#[command(group = ArgGroup::new("what").required(true).multiple(true)
    .args(["counts", "against"]))]
pub struct Args {
    /// Writes benches/counts.toml anew and prints what changed.
    #[arg(long)]
    counts: bool,
    /// Compares with another revision; exit code 1 when this tree is slower.
    #[arg(long, value_name = "REV")]
    against: Option<String>,
    /// Only these kinds of images (several times).
    #[arg(long, value_name = "KIND")]
    only: Vec<ImageKind>,
    /// Series of a comparison; a regression is one in each of them.
    #[arg(long, default_value_t = 3, value_name = "N")]
    series: usize,
    /// Runs of each revision in a series.
    #[arg(long, default_value_t = 15, value_name = "N", value_parser = at_least_five)]
    runs: usize,
    /// Percent below which a difference is no regression.
    #[arg(long, default_value_t = 5.0, value_name = "PERCENT")]
    threshold: f64,
    /// The qemu-img that makes the images.
    #[arg(long, default_value = "qemu-img", value_name = "PATH")]
    qemu_img: PathBuf,
}

/// Kinds that a comparison runs on unless told otherwise: quickly made, and each stands for
/// another way through the engine.
const KINDS: [ImageKind; 4] = [
    ImageKind::SmallClusters,
    ImageKind::SmallestClusters,
    ImageKind::Snapshots,
    ImageKind::Compressed,
];

/// Does what is asked for.
pub fn run(args: &Args) -> Result<ExitCode> {
    if args.counts {
        counts::write()?;
    }
    let Some(revision) = &args.against else {
        return Ok(ExitCode::SUCCESS);
    };
    let kinds: &[ImageKind] = if args.only.is_empty() {
        &KINDS
    } else {
        &args.only
    };
    let present = Subject::new("this tree", build_release()?);
    let before = Subject::new("before", revision::build(revision)?);
    let rows = compare::all(args, kinds, &before, &present)?;
    print!("{}", compare::table(&rows, args.threshold));
    let is_slower = rows.iter().any(|row| row.is_regression(args.threshold));
    Ok(ExitCode::from(u8::from(is_slower)))
}

/// An interval around the median of fewer runs says nothing.
fn at_least_five(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(runs) if runs >= 5 => Ok(runs),
        Ok(_) => Err("at least 5 are needed for an interval".to_owned()),
        Err(error) => Err(format!("{error}")),
    }
}
