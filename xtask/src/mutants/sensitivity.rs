//! `cargo xtask mutants --fuzz`: how soon the fuzz targets see each mistake, each on one core from
//! the committed corpus.

use std::fmt;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use recount_oracle::fuzz::Target;

use super::list::Mutant;
use super::scratch::Scratch;
use crate::error::Result;
use crate::fuzz::finding::store_input;
use crate::fuzz::tools::{Fuzzer, files, seeds};
use crate::process::wait;

/// How much longer than its time a target may take to end by itself.
const GRACE: Duration = Duration::from_secs(60);

/// What saw a mistake, how soon, as what, and the input that shows it unless it is one without end.
struct Found {
    target: Target,
    after: Duration,
    what: String,
    input: Option<Vec<u8>>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (target, seconds) = (self.target, self.after.as_secs_f64());
        write!(f, "{target:8} {seconds:5.1} s  {}", self.what)
    }
}

/// Lets the targets look for each mutant, one after the other for so long. Exit code 1 when they see
/// fewer than nine of ten.
pub fn measure(mutants: &[&Mutant], scratch: &Scratch, time: Duration) -> Result<ExitCode> {
    let fuzzer = Fuzzer::ready()?.of_copy(scratch.top().to_owned(), scratch.target());
    println!("the engine as it is");
    for target in Target::ALL {
        fuzzer.build(target)?;
        // What is found there would be taken for each of the mistakes.
        if let Some(found) = look(&fuzzer, target, time)? {
            if let Some(input) = &found.input {
                store_input(target, input)?;
            }
            return Err(format!("the engine unbroken fails already: {found}").into());
        }
    }
    let total = mutants.len();
    let mut seen = 0;
    for (number, mutant) in (1..).zip(mutants) {
        let found = scratch.broken(mutant, || find(&fuzzer, &mutant.file, time))?;
        let in_time = found.as_ref().is_some_and(|found| found.after <= time);
        seen += usize::from(in_time);
        let shown = found.map_or("not seen".to_owned(), |found| found.to_string());
        println!("{number:2}/{total} {:44} {shown}", mutant.name);
    }
    let seconds = time.as_secs();
    println!("{seen} of {total} seen by some target within {seconds} s");
    Ok(ExitCode::from(u8::from(seen * 10 < total * 9)))
}

fn find(fuzzer: &Fuzzer, file: &str, time: Duration) -> Result<Option<Found>> {
    for target in order(file) {
        fuzzer.build(target)?;
        let found = look(fuzzer, target, time)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// What a target finds within the time.
fn look(fuzzer: &Fuzzer, target: Target, time: Duration) -> Result<Option<Found>> {
    let scratch = tempfile::tempdir()?;
    let (learned, artifacts) = (scratch.path().join("learned"), scratch.path().join("found"));
    std::fs::create_dir(&learned)?;
    std::fs::create_dir(&artifacts)?;
    let output = scratch.path().join("output");
    let began = Instant::now();
    let mut child = fuzzer
        .command(target)
        .arg(format!("-max_total_time={}", time.as_secs()))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(learned)
        .arg(seeds(target))
        .stdout(Stdio::null())
        .stderr(File::create(&output)?)
        .process_group(0)
        .spawn()?;
    let ended = wait(&mut child, time + GRACE)?;
    let after = began.elapsed();
    let artifact = files(&artifacts)?.into_iter().next();
    let what = if ended.is_none() {
        "does not end".to_owned()
    } else if artifact.is_some() {
        what_broke(&String::from_utf8_lossy(&std::fs::read(&output)?))
    } else if ended.is_some_and(|status| !status.success()) {
        return Err(format!("{target} failed").into());
    } else {
        return Ok(None);
    };
    Ok(Some(Found {
        target,
        after,
        what,
        input: artifact.map(std::fs::read).transpose()?,
    }))
}

/// The promise that a panic names first, or else what libFuzzer calls the finding.
fn what_broke(output: &str) -> String {
    let mut lines = output.lines();
    if lines.any(|line| line.contains("panicked at")) {
        let message = lines.next().unwrap_or_default();
        let promise = message.split_once(':').map_or(message, |(name, _)| name);
        return promise.chars().take(60).collect();
    }
    let summary = output
        .lines()
        .find_map(|line| line.split_once("libFuzzer: "));
    summary.map_or("a crash", |(_, what)| what).to_owned()
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

#[cfg(test)]
mod tests {
    use super::what_broke;

    #[test]
    fn a_finding_is_named_by_its_promise() {
        let panic = "#7 NEW\nthread 'main' panicked at fuzz_targets/image.rs:13:24:\n\
                     no-leaks: Mismatch { cluster: 7 }\nnote: run with\n";
        assert_eq!(what_broke(panic), "no-leaks");
        let hang =
            "==1== ERROR: libFuzzer: timeout after 11 seconds\nSUMMARY: libFuzzer: timeout\n";
        assert_eq!(what_broke(hang), "timeout after 11 seconds");
        assert_eq!(what_broke("Segmentation fault"), "a crash");
    }
}
