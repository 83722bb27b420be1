//! `cargo xtask mutants --fuzz`: how soon the fuzz targets see each mistake, each on one core from
//! the committed corpus.

use std::error::Error;
use std::fmt;
use std::os::unix::process::CommandExt as _;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use recount_oracle::fuzz::Target;

use super::detect::wait;
use super::list::Mutant;
use super::scratch::Scratch;
use crate::fuzz::tools::{Fuzzer, ToolError, files, seeds};

/// How much longer than its time a target may take to end by itself.
const GRACE: Duration = Duration::from_secs(60);

/// What saw a mistake, and how soon.
struct Found {
    target: Target,
    after: Duration,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8} {:5.1} s", self.target, self.after.as_secs_f64())
    }
}

/// Lets the targets look for each mutant, one after the other for so long. Exit code 1 when they see
/// fewer than nine of ten.
pub fn measure(
    mutants: &[&Mutant],
    scratch: &Scratch,
    time: Duration,
) -> Result<ExitCode, Box<dyn Error>> {
    let fuzzer = Fuzzer::ready()?.of_copy(scratch.top().to_owned(), scratch.target());
    let total = mutants.len();
    let mut seen = 0;
    for (number, mutant) in (1..).zip(mutants) {
        let original = scratch.read(&mutant.file)?;
        scratch.write(&mutant.file, &mutant.apply(&original)?)?;
        let found = find(&fuzzer, &mutant.file, time);
        scratch.write(&mutant.file, &original)?;
        let found = found?;
        seen += usize::from(found.is_some());
        let shown = found.map_or("not seen".to_owned(), |found| found.to_string());
        println!("{number:2}/{total} {:44} {shown}", mutant.name);
    }
    let seconds = time.as_secs();
    println!("{seen} of {total} seen by some target within {seconds} s");
    Ok(ExitCode::from(u8::from(seen * 10 < total * 9)))
}

fn find(fuzzer: &Fuzzer, file: &str, time: Duration) -> Result<Option<Found>, Box<dyn Error>> {
    for target in order(file) {
        fuzzer.build(target)?;
        let (learned, artifacts) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let began = Instant::now();
        let mut child = fuzzer
            .command(target)
            .arg(format!("-max_total_time={}", time.as_secs()))
            .arg(format!("-artifact_prefix={}/", artifacts.path().display()))
            .arg(learned.path())
            .arg(seeds(target))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let ended = wait(&mut child, time + GRACE)?;
        let after = began.elapsed();
        if !files(artifacts.path())?.is_empty() || ended.is_none() {
            return Ok(Some(Found { target, after }));
        }
        if ended == Some(false) {
            return Err(ToolError::Failed(target.name().to_owned()).into());
        }
    }
    Ok(None)
}

/// The targets, the most likely one first.
fn order(file: &str) -> [Target; 4] {
    let (rebuild, image) = (Target::Rebuild, Target::Image);
    if file.ends_with("/commit.rs") {
        [Target::Crash, Target::Fault, rebuild, image]
    } else if file.contains("/rebuild/") || file.contains("/table/") {
        [rebuild, Target::Crash, Target::Fault, image]
    } else {
        [image, rebuild, Target::Crash, Target::Fault]
    }
}
