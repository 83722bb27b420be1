//! Runs a property over many cases. A failure shrinks, ends in a case file and prints the one line
//! that replays it.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestError, TestRunner};
use recount_oracle::case::Case;
use recount_oracle::case::text::{CaseFile, print};

/// Steps of shrinking, at most: each runs the whole property once more.
const SHRINKS_MAX: u32 = 3000;
/// Time for shrinking, at most, in milliseconds.
const SHRINKING_MAX: u32 = 15_000;
/// The directory that failing cases are written to, instead of `target/failures`.
const FAILURES: &str = "RECOUNT_FAILURES";

/// What became of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The property was asked and holds.
    Judged,
    /// It says nothing of such a case: nobody opens the image, or it has nothing to repair.
    Nothing,
}

/// Holds a property against cases of a strategy, `cases` of them or as many as `PROPTEST_CASES`
/// says. `name` is the test's; `regressions` the file that remembers seeds that once failed.
///
/// # Panics
///
/// When the property fails for a case; the message says how to replay the smallest one found. And
/// when it was asked of fewer than a third of them.
pub fn check(
    name: &str,
    regressions: Option<&'static str>,
    cases: u32,
    strategy: impl Strategy<Value = Case>,
    property: impl Fn(&Case) -> Result<Asked, TestCaseError>,
) {
    let asked = std::env::var("PROPTEST_CASES").ok();
    let config = Config {
        cases: asked.and_then(|cases| cases.parse().ok()).unwrap_or(cases),
        failure_persistence: regressions
            .map(|file| Box::new(FileFailurePersistence::Direct(file)) as Box<_>),
        max_shrink_iters: SHRINKS_MAX,
        max_shrink_time: SHRINKING_MAX,
        max_global_rejects: 1 << 20,
        ..Config::default()
    };
    let least = config.cases / 3;
    let mut runner = TestRunner::new(config);
    let judged = Cell::new(0);
    let property = |case| {
        if property(&case)? == Asked::Judged {
            judged.set(judged.get() + 1);
        }
        Ok(())
    };
    match runner.run(&strategy, property) {
        Ok(()) => assert!(judged.get() >= least, "{name}: only {} asked", judged.get()),
        Err(TestError::Abort(reason)) => panic!("{name}: {reason}"),
        Err(TestError::Fail(reason, case)) => {
            let file = keep(name, &reason.to_string(), case);
            panic!(
                "{name}: {reason}\n\n    cargo xtask replay {}\n",
                file.display()
            );
        }
    }
}

/// Writes a case to a file of its own.
fn keep(name: &str, reason: &str, case: Case) -> PathBuf {
    let directory = std::env::var_os(FAILURES).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/failures"),
        PathBuf::from,
    );
    let file = directory.join(format!("{name}.toml"));
    let text = print(&CaseFile {
        story: Some(reason.to_owned()),
        ..case.into()
    });
    // A failure to write must not hide the one that is being told.
    match fs::create_dir_all(&directory).and_then(|()| fs::write(&file, &text)) {
        Ok(()) => file.canonicalize().unwrap_or(file),
        Err(error) => panic!(
            "{name}: {reason}\n{}: {error}; the case:\n{text}",
            file.display()
        ),
    }
}
