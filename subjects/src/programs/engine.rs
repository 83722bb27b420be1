//! recount in process: no program to start, no file to write, and every write is seen.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::engine::{self, Lent};
use recount::{Access, Action, FileStorage, Finding, Observer, OpenError, Report, Storage};
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::observed::{Counters, Ended, Said};
use recount_oracle::case::{Algorithm, Fault, FaultKind, Operation, Times};
use recount_oracle::disk::SimulatedDisk;
use recount_oracle::subject::{Ask, Done, Options, Outcome, Stopped};

use super::program::TIME;
use super::{Bench, Repair, Repaired, Subject, said};
use crate::error::Result;

/// Reads, and writes, after which none works any more, so that a repair that would never end does:
/// far more than any needs.
const ENDLESS: u32 = 1 << 24;
/// The signal of a program that panics with `panic = "abort"`.
const ABORT: i32 = 6;
/// How long to wait for a device that is busy.
const BUSY: Duration = Duration::from_millis(5);
/// So many messages are kept for a story.
const MESSAGES: usize = 40;

/// The engine, with an algorithm.
#[derive(Clone, Copy, Debug)]
pub struct Engine {
    algorithm: Algorithm,
}

impl Engine {
    /// By this algorithm, on storage that can grow.
    pub const fn by(algorithm: Algorithm) -> Self {
        Self { algorithm }
    }

    /// Repairs a block device.
    pub fn on_block_device(self, device: &Path) -> Said {
        let deadline = Instant::now() + TIME;
        loop {
            match FileStorage::open(device, Access::Write) {
                Ok(mut storage) => return self.work(&mut storage, Repair::All).0,
                // A program that starts in another thread has a copy of the descriptor that was
                // closed before until it has been loaded.
                Err(OpenError::Busy { .. }) if Instant::now() < deadline => {
                    std::thread::sleep(BUSY);
                }
                Err(error) => {
                    return said(Ended::Code(1), error.to_string());
                }
            }
        }
    }

    /// Repairs an image on storage that can grow, or a device of so many bytes.
    pub fn on(self, image: &SparseBytes, capacity: Option<u64>, repair: Repair) -> Repaired {
        let endless = [Operation::Read, Operation::Write].map(|operation| Fault {
            operation,
            nth: ENDLESS,
            error: FaultKind::Io,
            times: Times::Forever,
        });
        let disk = SimulatedDisk::new(image.clone(), capacity);
        let mut disk = disk.with_faults(&endless);
        let work = || self.work(&mut Lent::Whole(&mut disk), repair);
        let worked = catch_unwind(AssertUnwindSafe(work));
        let (mut said, outcome) = worked.unwrap_or_else(|_| {
            let said = said(Ended::Signal(ABORT), "panicked".to_owned());
            (said, Err(Stopped::unknown("panicked")))
        });
        if disk.asked().faults_hit > 0 {
            said.ended = Ended::TimedOut;
        }
        let (image, trace) = disk.into_parts();
        Repaired {
            said,
            image,
            is_too_long: false,
            trace: Some(trace),
            outcome: Some(outcome),
        }
    }

    /// What the specification is asked about a repair.
    pub fn ask(self, repair: Repair, capacity: Option<u64>) -> Ask {
        let options = self.options(repair);
        Ask { options, capacity }
    }

    fn options(self, repair: Repair) -> Options {
        Options {
            only_leaks: repair == Repair::Leaks,
            algorithm: match repair {
                Repair::Alike(algorithm) => algorithm,
                _ => self.algorithm,
            },
            ..Options::default()
        }
    }

    fn work(self, disk: &mut dyn Storage, repair: Repair) -> (Said, Outcome) {
        let mut messages = Messages::default();
        let (result, how) = if repair == Repair::None {
            let checked = recount::check(disk, &mut messages);
            let checked = checked.map(|report| counters(&report, 0, 0));
            (
                checked.map_err(|error| error.to_string()),
                Ok(Done::default()),
            )
        } else {
            let options = engine::options(&self.options(repair));
            let outcome = recount::repair(disk, &options, &mut messages);
            let how = engine::outcome(&outcome);
            let counted = outcome.map(|recount::Outcome { report, fixed, .. }| {
                counters(&report, fixed.corruptions, fixed.leaks)
            });
            (counted.map_err(|failure| failure.to_string()), how)
        };
        let (ended, counters) = match result {
            Ok((code, counters)) => (Ended::Code(code), Some(counters)),
            Err(error) => {
                // However many came before.
                messages.0.push(error);
                (Ended::Code(1), None)
            }
        };
        let said = said(ended, messages.0.join("\n"));
        (Said { counters, ..said }, how)
    }
}

impl Subject for Engine {
    fn name(&self) -> String {
        match self.algorithm {
            Algorithm::Planned => "recount",
            Algorithm::FirstFit => "recount first-fit",
            Algorithm::Tail => "recount tail",
        }
        .to_owned()
    }

    fn run(&self, _bench: Bench<'_>, image: &SparseBytes, repair: Repair) -> Result<Repaired> {
        Ok(self.on(image, None, repair))
    }
}

/// Exit code and counters as the command prints them: those that are 0 are left out, but for
/// check-errors.
fn counters(report: &Report, corruptions_fixed: u64, leaks_fixed: u64) -> (i32, Counters) {
    let figures = engine::counters(report);
    let fixed = [
        ("corruptions-fixed", corruptions_fixed),
        ("leaks-fixed", leaks_fixed),
    ];
    let all = figures.named().into_iter().chain(fixed);
    let some = all.filter(|(name, count)| *count > 0 || *name == "check-errors");
    // As they come back from JSON: a number that is no i64 is left out.
    let counted = some.filter_map(|(name, count)| Some((name.to_owned(), count.try_into().ok()?)));
    (figures.exit_code(), counted.collect())
}

/// The first messages, for the story of a mismatch.
#[derive(Default)]
struct Messages(Vec<String>);

impl Observer for Messages {
    fn finding(&mut self, finding: &Finding, action: Action) {
        if self.0.len() < MESSAGES {
            let repaired = action == Action::Repaired;
            let done = if repaired { "repairing" } else { "ERROR" };
            self.0.push(format!("{done} {finding}"));
        }
    }
}
