//! Executions a second and memory of the targets, on one core, from the committed corpus. Seconds
//! are those of the processor, so that what else the machine does is left out.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use recount_oracle::fuzz::Target;

use super::tools::{Fuzzer, seeds};

/// How long a target is measured where no time is given.
const TIME: Duration = Duration::from_secs(20);

/// The least executions a second; none where nothing is promised.
const fn goal(target: Target) -> u64 {
    match target {
        Target::Rebuild => 10_000,
        Target::Image => 3_000,
        Target::Crash | Target::Fault => 0,
    }
}

/// Measures and prints; exit code 1 where a target is too slow.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a rate is printed in whole executions"
)]
pub fn measure(
    fuzzer: &Fuzzer,
    targets: &[Target],
    time: Option<Duration>,
) -> Result<ExitCode, Box<dyn Error>> {
    let time = time.unwrap_or(TIME).as_secs();
    let sanitizer = if fuzzer.nightly {
        "address sanitizer"
    } else {
        "no sanitizer"
    };
    let mut slow = false;
    let mut rows = Vec::new();
    for &target in targets {
        fuzzer.build(target)?;
        let mut command = fuzzer.command(target);
        let command = command
            .arg(format!("-max_total_time={time}"))
            .arg("-print_final_stats=1")
            .arg("-artifact_prefix=target/fuzz-")
            .arg(tempfile::tempdir()?.keep())
            .arg(seeds(target));
        let before = processor_seconds()?;
        let output = command.output()?;
        let seconds = processor_seconds()? - before;
        let text = String::from_utf8_lossy(&output.stderr);
        let count = statistic(&text, "number_of_executed_units");
        let count = count.ok_or_else(|| format!("{target} ended early:\n{text}"))?;
        let rate = (count as f64 / seconds.max(0.01)) as u64;
        slow |= rate < goal(target);
        let (first, last) = memory(&text);
        rows.push(format!(
            "{target:8} {rate:8} {:8} {count:12} {first:9} {last:9}",
            goal(target)
        ));
    }
    println!("{time} s each, {sanitizer}; memory in MiB after the seeds and at the end");
    println!("target    rate/s     goal   executions    memory       end");
    for row in rows {
        println!("{row}");
    }
    Ok(ExitCode::from(u8::from(slow)))
}

/// Processor time, in seconds, of all children that have ended (proc(5): fields 16 and 17 of
/// /proc/self/stat, in ticks of 10 ms).
fn processor_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The second field, the program's name in parentheses, may have spaces.
    let (_, fields) = stat
        .rsplit_once(") ")
        .ok_or("/proc/self/stat has no name")?;
    let ticks = fields.split_whitespace().skip(13).take(2);
    let ticks: u32 = ticks
        .map(str::parse::<u32>)
        .sum::<Result<u32, std::num::ParseIntError>>()?;
    Ok(f64::from(ticks) / 100.0)
}

/// A figure of libFuzzer's final statistics.
fn statistic(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains(name))?;
    line.split_whitespace().last()?.parse().ok()
}

/// The first and the last of the memory sizes that libFuzzer's status lines tell.
fn memory(text: &str) -> (u64, u64) {
    let sizes = text.lines().filter_map(|line| {
        let (_, size) = line.split_once("rss: ")?;
        size.split("Mb").next()?.parse().ok()
    });
    let sizes: Vec<u64> = sizes.collect();
    (
        sizes.first().copied().unwrap_or(0),
        sizes.last().copied().unwrap_or(0),
    )
}
