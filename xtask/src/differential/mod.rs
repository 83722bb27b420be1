//! `cargo xtask differential`: makes real images with qemu-img and qemu-io, damages them, and
//! compares what recount and qemu-img say and do, check by check.

mod cases;
mod comparison;
mod disk;
mod guest;
mod judge;
mod make;
mod nowhere;
mod observe;
mod program;
mod record;
mod recorder;
mod run;
mod session;
mod tally;
mod tools;

use std::path::PathBuf;
use std::time::Duration;

pub use run::run;

/// Options of `cargo xtask differential`.
#[derive(clap::Args)]
pub struct Args {
    /// How many cases to run.
    #[arg(long, default_value_t = 400)]
    cases: u64,
    /// Where the random cases begin; a fresh one each time unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Stop after so many seconds, or minutes with an m: 90, 90s, 5m.
    #[arg(long, value_parser = duration, conflicts_with = "only")]
    time: Option<Duration>,
    /// How many cases to run at a time; by default, one for each processor.
    #[arg(long)]
    jobs: Option<usize>,
    /// The qemu-img to compare with.
    #[arg(long, value_name = "PATH", default_value = "qemu-img")]
    qemu_img: PathBuf,
    /// The recount to compare; built by cargo unless given.
    #[arg(long, value_name = "PATH")]
    recount: Option<PathBuf>,
    /// Fail when qemu-img is not installed, instead of comparing with recorded verdicts.
    #[arg(long)]
    require_qemu: bool,
    /// Run this one case, as printed for a mismatch.
    #[arg(long, value_name = "SEED:INDEX")]
    only: Option<cases::CaseId>,
    /// Run this recorded case against its recorded verdicts.
    #[arg(long, value_name = "FILE", conflicts_with = "only")]
    case: Option<PathBuf>,
    /// With --only or --case: leave the case's files in this folder.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Write what qemu-img says into corpus/cases/ instead of comparing: its verdict on every case
    /// that is there, and such cases of the seed as show something new.
    #[arg(long, conflicts_with_all = ["only", "case", "time"])]
    record: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let number = number.parse::<u64>();
    let seconds = number.ok().and_then(|number| number.checked_mul(unit));
    let seconds = seconds.ok_or_else(|| format!("`{text}` is not a time such as 90s or 5m"))?;
    Ok(Duration::from_secs(seconds))
}
