//! Who may see a mistake: sets of tests, the comparison with qemu-img, fuzz targets. All are run in
//! the copy, and say in the same way what failed.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use recount_oracle::properties::Property;

use super::scratch::Scratch;
use crate::CANNOT_RUN;
use crate::error::Result;
use crate::process::cargo;
use recount_subjects::process::wait;

/// What may see a mistake.
#[derive(Clone, Copy, Debug)]
pub struct Detector {
    pub name: &'static str,
    /// Options for `cargo test`; or a command of the harness, which is built with the tests.
    words: &'static str,
}

/// All of them, the quickest first. What they try is the same every time. Where none names a
/// package, all are built with the same features, and share what they are built from.
pub const DETECTORS: [Detector; 12] = [
    // The explorer within small bounds.
    detector("model", "--test model"),
    // Small images, repaired from end to end.
    detector("images", "--test images --test again"),
    detector("engine", "-p recount --lib --test rebuild"),
    // Exact counts of reads, writes, flushes, tries and memory: what gives the right result at a
    // higher price is seen by nothing else.
    detector("counts", "--test counts"),
    // The specification over the corpus and its cases, and the corpus as the fuzz targets judge it.
    detector(
        "corpus",
        "--test spec --test fixed_cases --test fuzz_corpus",
    ),
    // Of proptests/.
    detector(
        "properties",
        "--test cases --test checks --test fixed_storage --test interrupted --test keeping \
         --test repairs --test shortcomings --test used_again",
    ),
    detector(
        "differential",
        "differential --require-qemu --cases 1000 --seed 1 --fail-fast --recount ../target/debug/recount",
    ),
    detector("image", "fuzz image --runs 20000 --seed 1 --no-store"),
    detector("rebuild", "fuzz rebuild --runs 200000 --seed 1 --no-store"),
    detector("crash", "fuzz crash --runs 40000 --seed 1 --no-store"),
    detector("fault", "fuzz fault --runs 40000 --seed 1 --no-store"),
    // The explorer within its usual bounds.
    detector("bounds", "model"),
];

const fn detector(name: &'static str, words: &'static str) -> Detector {
    Detector { name, words }
}

/// Tests with which the programs `recount` and `xtask` are built.
const PROGRAMS: &str = "--test command --test exit_codes";
/// How long a build may take.
const BUILD: Duration = Duration::from_secs(3600);

impl Detector {
    /// The one of this name.
    pub fn of(name: &str) -> Result<Self, String> {
        let found = DETECTORS.into_iter().find(|one| one.name == name);
        let names = DETECTORS.map(|one| one.name).join(", ");
        found.ok_or_else(|| format!("the detectors are {names}"))
    }

    /// Builds and runs it: after how much of its work it saw something, and what; `None` where it saw
    /// nothing. A copy that does not build is an error.
    pub fn look(self, scratch: &Scratch, limit: Duration) -> Result<Option<String>> {
        let Self { name, words } = self;
        let is_tests = words.starts_with('-');
        let tests = if is_tests { words } else { PROGRAMS };
        let build = format!("test --quiet --no-run {tests}");
        let (built, messages) = finish(scratch, cargo(), &build, BUILD)?;
        if !built.is_some_and(|status| status.success()) {
            return Err(format!("the copy does not build:\n{messages}").into());
        }
        let began = Instant::now();
        let (ended, output) = if is_tests {
            finish(scratch, cargo(), &format!("test --quiet {tests}"), limit)?
        } else {
            let program = Command::new(scratch.target().join("debug/xtask"));
            finish(scratch, program, words, limit)?
        };
        let seconds = format!("{} s", began.elapsed().as_secs());
        match ended {
            None => Ok(Some(format!("{seconds}: does not end"))),
            Some(status) if status.success() => Ok(None),
            Some(status) if !is_tests && status.code() == Some(CANNOT_RUN.into()) => {
                Err(format!("{name} cannot run:\n{output}").into())
            }
            Some(_) => Ok(Some(failed(&output, &seconds))),
        }
    }
}

/// Runs a program in the copy: how it ended, `None` where it had to be ended, and its output.
fn finish(
    scratch: &Scratch,
    mut program: Command,
    words: &str,
    limit: Duration,
) -> Result<(Option<ExitStatus>, String)> {
    let path = scratch.top().with_file_name("output.txt");
    let output = File::create(&path)?;
    let mut child = program
        .args(words.split(' '))
        .current_dir(scratch.top())
        .env("CARGO_TARGET_DIR", scratch.target())
        .env("CARGO_INCREMENTAL", "1")
        .env("PROPTEST_RNG_SEED", "1")
        .env("RUST_BACKTRACE", "0")
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0)
        .spawn()?;
    let ended = wait(&mut child, limit)?;
    let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
    Ok((ended, text))
}

/// What an output says that failed, and after how many cases or executions, or else seconds.
fn failed(output: &str, seconds: &str) -> String {
    let finding = |line: &str| {
        let (after, message) = line.strip_prefix("finding after ")?.split_once(": ")?;
        Some(format!("{after}: {}", message.split(':').next()?))
    };
    // A property says more than the name of the test that asks for it.
    output.lines().find_map(finding).unwrap_or_else(|| {
        let what = output.lines().find_map(property);
        let what = what.or_else(|| output.lines().find_map(test));
        format!("{seconds}: {}", what.unwrap_or("an error"))
    })
}

/// A test that failed.
fn test(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

/// A property that the explorer or a judge names, behind the algorithm that fails it.
fn property(line: &str) -> Option<&str> {
    ["planned", "first-fit", "tail"]
        .into_iter()
        .find_map(|name| {
            let rest = &line[line.find(&format!("{name} fails "))?..];
            let property = rest.split([':', ' ']).nth(2)?;
            let length = name.len() + " fails ".len() + property.len();
            property.parse::<Property>().ok().map(|_| &rest[..length])
        })
}

#[cfg(test)]
mod tests {
    use super::failed;

    #[test]
    fn what_failed_is_found_in_the_output_of_every_detector() {
        let test = "---- some_test stdout ----\npanicked\n";
        let property = "failed: planned fails crash-atomic: after a power cut\n";
        let finding = "#2 NEW\nfinding after 300 executions: no-leaks: Mismatch { cluster: 7 }\n";
        for (output, expected) in [
            (test.to_owned(), "7 s: some_test"),
            (
                format!("{test}{property}"),
                "7 s: planned fails crash-atomic",
            ),
            (format!("{test}{finding}"), "300 executions: no-leaks"),
        ] {
            assert_eq!(failed(&output, "7 s"), expected);
        }
    }
}
