//! The results of a run: how often each comparison passed, and every mismatch.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cases::CaseName;
use super::comparison::{Comparison, Ending, Purpose};

/// So many mismatches of each comparison are told in full; the others are named.
const TOLD: usize = 5;

/// How often a comparison ended which way.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    passed: u64,
    failed: u64,
    on_purpose: u64,
    not_applicable: u64,
}

/// A case, what differed, and how.
type Mismatch = (CaseName, Comparison, String);

/// The results so far.
#[derive(Debug, Default)]
pub struct Tally {
    cases: u64,
    counts: BTreeMap<Comparison, Count>,
    purposes: BTreeMap<Purpose, u64>,
    mismatches: Vec<Mismatch>,
}

impl Tally {
    /// Adds what one case gave.
    pub fn add(&mut self, case: &CaseName, endings: Vec<(Comparison, Ending)>) {
        self.cases += 1;
        for (comparison, ending) in endings {
            let count = self.counts.entry(comparison).or_default();
            match ending {
                Ending::Passed => count.passed += 1,
                Ending::NotApplicable => count.not_applicable += 1,
                Ending::OnPurpose(purpose) => {
                    count.on_purpose += 1;
                    *self.purposes.entry(purpose).or_default() += 1;
                }
                Ending::Failed(story) => {
                    count.failed += 1;
                    self.mismatches.push((case.clone(), comparison, story));
                }
            }
        }
    }

    /// Cases run.
    pub const fn cases(&self) -> u64 {
        self.cases
    }

    /// Mismatches found.
    pub const fn mismatches(&self) -> usize {
        self.mismatches.len()
    }

    /// Prints the mismatches and the table.
    pub fn print(&mut self, elapsed: Duration, rerun: impl Fn(&CaseName) -> String) {
        self.mismatches
            .sort_by(|(case, comparison, _), (other_case, other, _)| {
                (comparison, case).cmp(&(other, other_case))
            });
        for mismatches in self.mismatches.chunk_by(|left, right| left.1 == right.1) {
            for (index, (case, comparison, story)) in mismatches.iter().enumerate() {
                let rerun = rerun(case);
                if index < TOLD {
                    println!("case {case}: {comparison}\n    {story}\n    rerun: {rerun}\n");
                } else {
                    println!("case {case}: {comparison}: {rerun}");
                }
            }
            println!();
        }
        let head = ["passed", "failed", "on purpose", "n/a"];
        println!(
            "{:<28}{:>9}{:>9}{:>12}{:>9}",
            "", head[0], head[1], head[2], head[3]
        );
        for comparison in Comparison::ALL {
            let count = self.counts.get(&comparison).copied().unwrap_or_default();
            println!(
                "{comparison:<28}{:>9}{:>9}{:>12}{:>9}",
                count.passed, count.failed, count.on_purpose, count.not_applicable
            );
        }
        for (purpose, times) in &self.purposes {
            println!("differs on purpose: {purpose}: {times}");
        }
        let seconds = elapsed.as_secs_f64();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a rate is printed with one decimal"
        )]
        let rate = self.cases as f64 / seconds;
        println!("{} cases in {seconds:.1} s, {rate:.1} a second", self.cases);
    }
}
