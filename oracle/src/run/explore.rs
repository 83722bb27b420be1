//! Everything that may go wrong with one repair: each crash state, each single fault, pairs of
//! faults; and what the properties say.

use super::{Before, Repair, Run, run};
use crate::case::{Fault, FaultKind, Operation, Times};
use crate::crash::Limits;
use crate::disk::Trace;
use crate::properties::reading::Reading;
use crate::properties::{Property, Verdict, crash_atomic, fault_safe, judge_all, undo_restores};

/// How much is explored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Crash states.
    pub crashes: Limits,
    /// Most operations of a kind that are made to fail, evenly spread over all there are.
    pub faults_of_a_kind: u32,
    /// Most pairs of faults.
    pub pairs: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            crashes: Limits::default(),
            faults_of_a_kind: u32::MAX,
            pairs: 64,
        }
    }
}

/// What was found.
#[derive(Debug)]
pub struct Explored {
    /// The run in which nothing went wrong.
    pub quiet: Run,
    /// What each property says, in the order of the verdict table.
    pub verdicts: Vec<(Property, Verdict)>,
    /// The first schedule of faults that breaks `fault-safe`.
    pub faults: Vec<Fault>,
    /// Crash states that were looked at.
    pub states: u64,
    /// Runs with faults.
    pub runs: u64,
}

impl Explored {
    /// What a property says; not applicable where it was not asked.
    #[must_use]
    pub fn verdict(&self, property: Property) -> Verdict {
        let mut verdicts = self.verdicts.iter();
        let found = verdicts.find(|(asked, _)| *asked == property);
        found.map_or(Verdict::NotApplicable, |(_, verdict)| verdict.clone())
    }
}

/// Runs one repair in every way there is.
pub fn explore_one(repair: &dyn Repair, before: &Before, bounds: &Bounds) -> Explored {
    let quiet = run(repair, before, &[]);
    let whole = quiet.reading(before).ok();
    let whole = whole.filter(|_| !quiet.trace.is_read_only());
    let (states, crash) = crash_atomic::explore(before, &quiet.trace, whole, &bounds.crashes);
    let mut faults = Faults {
        repair,
        before,
        bounds,
        whole,
        states,
        runs: 0,
        seen: Vec::new(),
    };
    let (schedule, fault) = faults.all(&quiet);
    let (states, runs) = (faults.states, faults.runs);
    let undo = undo_restores::explore(before, &quiet, repair, bounds.crashes.samples);
    let mut verdicts = judge_all(before, &quiet, repair);
    for (property, verdict) in &mut verdicts {
        let at_every_point = match property {
            Property::CrashAtomic => &crash,
            Property::UndoRestores => &undo,
            _ => continue,
        };
        *verdict = verdict.clone().and(|| at_every_point.clone());
    }
    verdicts.push((Property::FaultSafe, fault));
    verdicts.sort_by_key(|(property, _)| *property);
    Explored {
        quiet,
        verdicts,
        faults: schedule,
        states,
        runs,
    }
}

/// Runs with faults, under way.
struct Faults<'a> {
    repair: &'a dyn Repair,
    before: &'a Before,
    bounds: &'a Bounds,
    whole: Option<&'a Reading>,
    states: u64,
    runs: u64,
    /// Traces of runs with an error that were judged: the same trace leaves the same states.
    seen: Vec<Trace>,
}

impl Faults<'_> {
    /// The first schedule that breaks the property, and what it says; not applicable when there is
    /// no operation to fail.
    fn all(&mut self, quiet: &Run) -> (Vec<Fault>, Verdict) {
        let mut found = Verdict::NotApplicable;
        let mut pairs = 0;
        for first in self.singles(quiet) {
            let schedule = [first];
            let (run, verdict) = self.run(&schedule);
            found = found.and(|| verdict);
            if found.is_failure() {
                return (schedule.to_vec(), found);
            }
            // A second fault matters only where something is tried after the first.
            if first.times != Times::Once {
                continue;
            }
            for second in later(first, &run) {
                if pairs >= self.bounds.pairs {
                    break;
                }
                pairs += 1;
                let schedule = [first, second];
                let (_, verdict) = self.run(&schedule);
                found = found.and(|| verdict);
                if found.is_failure() {
                    return (schedule.to_vec(), found);
                }
            }
        }
        (Vec::new(), found)
    }

    fn run(&mut self, schedule: &[Fault]) -> (Run, Verdict) {
        let run = run(self.repair, self.before, schedule);
        self.runs += 1;
        if run.outcome.is_err() && self.seen.contains(&run.trace) {
            return (run, Verdict::Holds);
        }
        let limits = &self.bounds.crashes;
        let (states, verdict) = fault_safe::explore(self.before, &run, self.whole, limits);
        self.states += states;
        if run.outcome.is_err() {
            self.seen.push(run.trace.clone());
        }
        (run, verdict)
    }

    /// Every way in which one operation may fail.
    fn singles(&self, quiet: &Run) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (operation, errors) in FAILURES {
            let count = quiet.operations.of(operation);
            let step = count.div_ceil(self.bounds.faults_of_a_kind).max(1);
            for nth in (0..count).step_by(step as usize) {
                for &error in errors {
                    for times in [Times::Once, Times::Twice, Times::Forever] {
                        faults.push(Fault {
                            operation,
                            nth,
                            error,
                            times,
                        });
                    }
                }
            }
        }
        faults
    }
}

/// The ways in which each kind of operation fails that leave different bytes behind.
const FAILURES: [(Operation, &[FaultKind]); 4] = [
    (Operation::Read, &[FaultKind::Io, FaultKind::Short]),
    (
        Operation::Write,
        &[FaultKind::Io, FaultKind::NoSpace, FaultKind::Short],
    ),
    (Operation::Flush, &[FaultKind::Io]),
    (
        Operation::SetLen,
        &[FaultKind::Io, FaultKind::NoSpace, FaultKind::Short],
    ),
];

/// Operations that were asked for after a first fault, failing as well.
fn later(first: Fault, run: &Run) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (operation, errors) in FAILURES {
        let from = run.operations_until_fault.of(operation);
        for nth in from..run.operations.of(operation) {
            let fails_already = operation == first.operation && nth == first.nth;
            if !fails_already {
                faults.extend(errors.iter().map(|&error| Fault {
                    operation,
                    nth,
                    error,
                    times: Times::Once,
                }));
            }
        }
    }
    faults
}
