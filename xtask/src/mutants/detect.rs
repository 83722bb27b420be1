//! Running tests on the copy, and telling what failed.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use recount_oracle::properties::Property;

use super::scratch::Scratch;
use crate::error::Result;
use crate::process::{cargo, wait};

/// Some tests that may see a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::VariantArray)]
pub enum Detector {
    /// The explorer within small bounds.
    Model,
    Engine,
    /// Small images, repaired from end to end.
    Images,
    /// Exact counts of reads, writes, flushes, tries and memory.
    Counts,
    Properties,
    /// The explorer within the bounds of `cargo xtask model`.
    Bounds,
}

impl Detector {
    /// All of them, the most likely and quickest first.
    pub fn for_file(file: &str) -> [Self; 6] {
        let [first, second, third] = if file.contains("/rebuild/") {
            [Self::Model, Self::Engine, Self::Images]
        } else if file.contains("/table/") || file.contains("/format/") {
            [Self::Engine, Self::Model, Self::Images]
        } else {
            [Self::Images, Self::Engine, Self::Model]
        };
        // What gives the right result at a higher price is seen by nothing but the counts.
        let [counts, properties, bounds] = [Self::Counts, Self::Properties, Self::Bounds];
        [first, second, third, counts, properties, bounds]
    }

    /// What cargo is asked, to build and to run it.
    fn tasks(self) -> [String; 2] {
        let tests = match self {
            Self::Model => "-p recount-oracle --test model --test doubtful",
            Self::Engine => "-p recount --lib --test rebuild",
            Self::Images => "-p recount-oracle --test images",
            Self::Counts => "-p recount-benches --test counts",
            Self::Properties => "-p recount-proptests",
            Self::Bounds => {
                let [build, run] =
                    ["build", "run"].map(|task| format!("{task} --quiet --release -p xtask"));
                return [build, run + " -- model"];
            }
        };
        ["test --quiet --no-run", "test --quiet"].map(|task| format!("{task} {tests}"))
    }
}

/// The copy does not build.
#[derive(Debug, thiserror::Error)]
#[error("the copy does not build:\n{0}")]
pub struct DoesNotBuild(String);

/// Runs the tests; a property of an algorithm, or a test, that failed, if any did. A copy that does
/// not build is an error.
pub fn run(detector: Detector, scratch: &Scratch, limit: Duration) -> Result<Option<String>> {
    let [build, run] = detector.tasks();
    let (built, messages) = finish(scratch, &build, Duration::from_secs(3600))?;
    if built != Some(true) {
        return Err(DoesNotBuild(messages).into());
    }
    let (passed, output) = finish(scratch, &run, limit)?;
    Ok(match passed {
        Some(true) => None,
        Some(false) => Some(failed(&output)),
        None => Some(format!(
            "{detector:?}: does not end within {} s",
            limit.as_secs()
        )),
    })
}

/// Runs cargo to the end: whether that was a success, and the output; `None` when it had to be ended.
fn finish(scratch: &Scratch, task: &str, limit: Duration) -> Result<(Option<bool>, String)> {
    let path = scratch.top().with_file_name("output.txt");
    let output = File::create(&path)?;
    let mut child = cargo()
        .args(task.split(' '))
        .current_dir(scratch.top())
        .env("CARGO_TARGET_DIR", scratch.target())
        .env("RUST_BACKTRACE", "0")
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0)
        .spawn()?;
    let ended = wait(&mut child, limit)?;
    let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
    Ok((ended.map(|status| status.success()), text))
}

/// The property that the explorer or a judge names, else the first failing test.
fn failed(output: &str) -> String {
    let property = output.lines().find_map(|line| {
        let named = |algorithm: &str| {
            let (_, rest) = line.split_once(&format!("{algorithm} fails "))?;
            let property: Property = rest.split([':', ' ']).next()?.parse().ok()?;
            Some(format!("{algorithm} fails {property}"))
        };
        ["planned", "first-fit", "tail"].into_iter().find_map(named)
    });
    let test = output.lines().find_map(|line| {
        let name = line.strip_prefix("---- ")?.strip_suffix(" stdout ----")?;
        Some(name.to_owned())
    });
    match (property, test) {
        (Some(property), _) => property,
        (None, Some(test)) => format!("test {test}"),
        (None, None) => "a test run that ended with an error".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failing_property_is_named_rather_than_the_test() {
        let output = "---- the_explorer stdout ----\n\
                      assertion failed: planned fails crash-atomic: after a power cut";
        assert_eq!(failed(output), "planned fails crash-atomic");
        assert_eq!(
            failed("---- some_test stdout ----\npanicked"),
            "test some_test"
        );
    }
}
