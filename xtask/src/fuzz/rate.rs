//! Executions a second and memory of the targets, on one core, from the committed corpus. Seconds
//! are those of the processor, so that what else the machine does is left out.

use std::io::{Read as _, Seek as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use recount_oracle::fuzz::Target;
use wait4::Wait4 as _;

use super::tools::{Fuzzer, files, seeds};
use crate::error::Result;

/// libFuzzer's name of the number of executions.
pub const EXECUTIONS: &str = "number_of_executed_units";
/// The same of the peak of memory, in MiB.
const PEAK: &str = "peak_rss_mb";
/// How long a target is measured where no time is given.
const TIME: Duration = Duration::from_secs(20);
/// How long it runs before that.
const WARM_UP: Duration = Duration::from_secs(60);
/// How often all inputs are judged again to see whether memory stays flat.
const PASSES: u64 = 16;

/// The least executions a second; none where nothing is promised.
const fn goal(target: Target) -> u64 {
    match target {
        Target::Rebuild => 10_000,
        Target::Image => 3_000,
        Target::Crash | Target::Fault => 0,
    }
}

/// Measures and prints; exit code 1 where a target is too slow, or its memory grows.
pub fn measure(fuzzer: &Fuzzer, targets: &[Target], time: Option<Duration>) -> Result<ExitCode> {
    let time = time.unwrap_or(TIME);
    let mut failed = false;
    let mut rows = Vec::new();
    for &target in targets {
        fuzzer.build(target)?;
        // What is learned meanwhile is written, hashed and weighed: that is no measure of a run of
        // hours, and gets a column of its own.
        let learned = tempfile::tempdir()?;
        let lasts = |time: Duration| format!("-max_total_time={}", time.as_secs());
        let first = run(fuzzer, target, learned.path(), &lasts(WARM_UP))?;
        let loading = run(fuzzer, target, learned.path(), "-runs=0")?;
        let last = run(fuzzer, target, learned.path(), &lasts(time))?;
        let steady = last.after(&loading);
        // libFuzzer holds every input that it learns; what the target itself holds is what is more
        // after many passes over the same ones.
        let once = peak(fuzzer, target, learned.path(), 1)?;
        let often = peak(fuzzer, target, learned.path(), PASSES)?;
        failed |= steady.rate() < goal(target) || grows(once, often);
        rows.push(format!(
            "{target:8}{:8}{:7}{:7}{:12}{:6}{once:6}{often:6}",
            first.rate(),
            steady.rate(),
            goal(target),
            steady.executions,
            last.memory,
        ));
    }
    println!(
        "{} s each, after {} s from the seeds alone; address sanitizer; memory in MiB at the end, with all \
         inputs that were learned, and of one and of {PASSES} passes over these",
        time.as_secs(),
        WARM_UP.as_secs()
    );
    println!("target   seeds/s rate/s   goal  executions   MiB  once {PASSES:3} x");
    for row in rows {
        println!("{row}");
    }
    Ok(ExitCode::from(u8::from(failed)))
}

/// What a run came to.
struct Measured {
    executions: u64,
    /// Of the processor.
    seconds: f64,
    /// Peak, in MiB.
    memory: u64,
}

impl Measured {
    /// What came after another run, which only loaded the inputs.
    const fn after(&self, loading: &Self) -> Self {
        Self {
            executions: self.executions.saturating_sub(loading.executions),
            seconds: self.seconds - loading.seconds,
            memory: self.memory,
        }
    }

    /// Executions a second.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a rate is printed in whole executions"
    )]
    fn rate(&self) -> u64 {
        (self.executions as f64 / self.seconds.max(0.01)) as u64
    }
}

/// Runs a target until an option of libFuzzer says that it is enough; what it learns goes to a
/// folder.
fn run(fuzzer: &Fuzzer, target: Target, learned: &Path, enough: &str) -> Result<Measured> {
    let mut command = fuzzer.command(target);
    command
        .arg(enough)
        .arg("-artifact_prefix=target/fuzz-")
        .arg(learned)
        .arg(seeds(target));
    measured(target, &mut command)
}

/// The peak of memory, in MiB, of judging each input so often, those learned and the committed ones.
fn peak(fuzzer: &Fuzzer, target: Target, learned: &Path, passes: u64) -> Result<u64> {
    let mut command = fuzzer.command(target);
    command
        .arg(format!("-runs={passes}"))
        .args(files(learned)?)
        .args(files(&seeds(target))?);
    Ok(measured(target, &mut command)?.memory)
}

fn measured(target: Target, command: &mut Command) -> Result<Measured> {
    let mut said = tempfile::tempfile()?;
    let mut child = command
        .arg("-print_final_stats=1")
        .stdout(Stdio::null())
        .stderr(said.try_clone()?)
        .spawn()?;
    let used = child.wait4()?;
    let mut text = Vec::new();
    said.rewind()?;
    said.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    // A run that ends by a finding has its statistics too.
    let tell = |name| statistic(&text, name).filter(|_| used.status.success());
    let ended_early = || format!("{target} ended early:\n{text}");
    Ok(Measured {
        executions: tell(EXECUTIONS).ok_or_else(ended_early)?,
        seconds: (used.rusage.utime + used.rusage.stime).as_secs_f64(),
        memory: tell(PEAK).ok_or_else(ended_early)?,
    })
}

/// Whether memory is not flat: it grows by more than a quarter.
const fn grows(once: u64, often: u64) -> bool {
    often.saturating_mul(4) > once.saturating_mul(5)
}

/// A figure of libFuzzer's final statistics.
pub fn statistic(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains(name))?;
    line.split_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_flat_within_a_quarter() {
        assert!(!grows(48, 48));
        assert!(!grows(48, 60));
        assert!(grows(48, 61));
    }
}
