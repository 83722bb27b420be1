//! Everything that may go wrong with one repair: each crash state, each single fault, pairs of
//! faults; and what the properties say.

use itertools::Itertools as _;

use super::{Before, Repair, Run, run};
use crate::case::{Fault, FaultKind, Operation, Times};
use crate::crash::Limits;
use crate::disk::{Operations, Trace};
use crate::properties::reading::Reading;
use crate::properties::undo_restores::Points;
use crate::properties::{Property, Verdict, crash_atomic, fault_safe, judge_all};

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
    pub fn verdict(&self, property: Property) -> Verdict {
        let mut verdicts = self.verdicts.iter();
        let found = verdicts.find(|(asked, _)| *asked == property);
        found.map_or(Verdict::NotApplicable, |(_, verdict)| verdict.clone())
    }
}

/// Runs one repair in every way there is.
pub fn explore_one(repair: &dyn Repair, before: &Before, bounds: &Bounds) -> Explored {
    let quiet = run(repair, before, &[]);
    let whole = quiet.whole(before);
    let (states, crash) = crash_atomic::judge(before, &quiet.trace, whole, &bounds.crashes);
    let mut faults = Faults::new(repair, before, &quiet, bounds);
    let (schedule, fault) = faults.all(&quiet);
    let (states, runs) = (states + faults.states, faults.runs);
    let cuts = Points::Spread(bounds.crashes.samples);
    let mut verdicts = judge_all(before, &quiet, repair, cuts);
    for (property, verdict) in &mut verdicts {
        if *property == Property::CrashAtomic {
            *verdict = crash.clone().and(|| verdict.clone());
        }
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

/// The first schedule of faults that breaks `fault-safe`, and what that says of it. `quiet` is the run in
/// which nothing went wrong.
pub fn faults(
    repair: &dyn Repair,
    before: &Before,
    quiet: &Run,
    bounds: &Bounds,
) -> (Vec<Fault>, Verdict) {
    Faults::new(repair, before, quiet, bounds).all(quiet)
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

impl<'a> Faults<'a> {
    fn new(repair: &'a dyn Repair, before: &'a Before, quiet: &'a Run, bounds: &'a Bounds) -> Self {
        Self {
            repair,
            before,
            bounds,
            whole: quiet.whole(before),
            states: 0,
            runs: 0,
            seen: Vec::new(),
        }
    }

    /// The first schedule that breaks the property, and what it says.
    fn all(&mut self, quiet: &Run) -> (Vec<Fault>, Verdict) {
        let bounds = self.bounds;
        let (none, all) = (Operations::default(), &quiet.asked.operations);
        let often = [Times::Once, Times::Twice, Times::Forever];
        let mut pairs = bounds.pairs as usize;
        for first in failing(&none, all, bounds.faults_of_a_kind, &often) {
            let (run, verdict) = self.run(&[first]);
            if verdict.is_failure() {
                return (vec![first], verdict);
            }
            // A second fault matters only where something is tried after the first.
            if first.times != Times::Once {
                continue;
            }
            let asked = &run.asked;
            let later = failing(&asked.until_fault, &asked.operations, u32::MAX, &often[..1]);
            let same = |one: &Fault| (one.operation, one.nth) == (first.operation, first.nth);
            for second in later.filter(|second| !same(second)).take(pairs) {
                pairs -= 1;
                let (_, verdict) = self.run(&[first, second]);
                if verdict.is_failure() {
                    return (vec![first, second], verdict);
                }
            }
        }
        (Vec::new(), Verdict::Holds)
    }

    fn run(&mut self, schedule: &[Fault]) -> (Run, Verdict) {
        let run = run(self.repair, self.before, schedule);
        self.runs += 1;
        if run.outcome.is_err() && self.seen.contains(&run.trace) {
            return (run, Verdict::Holds);
        }
        let limits = &self.bounds.crashes;
        let (states, verdict) = fault_safe::judge(self.before, &run, self.whole, limits);
        self.states += states;
        if run.outcome.is_err() {
            self.seen.push(run.trace.clone());
        }
        (run, verdict)
    }
}

/// The ways in which each kind of operation fails that leave different bytes behind.
const FAILURES: [(Operation, &[FaultKind]); 4] = [
    (Operation::Read, &[FaultKind::Io, FaultKind::Short]),
    (Operation::Write, &WRITES),
    (Operation::Flush, &[FaultKind::Io]),
    (Operation::SetLen, &WRITES),
];
const WRITES: [FaultKind; 3] = [FaultKind::Io, FaultKind::NoSpace, FaultKind::Short];

/// Every way in which one operation of those from `from` to `to` may fail; of each kind so many of
/// them, at most, evenly spread.
fn failing(
    from: &Operations,
    to: &Operations,
    most: u32,
    often: &[Times],
) -> impl Iterator<Item = Fault> {
    let kinds = FAILURES.into_iter().flat_map(move |(operation, errors)| {
        let (from, to) = (from[operation as usize], to[operation as usize]);
        let step = to.saturating_sub(from).div_ceil(most).max(1);
        let numbers = (from..to).step_by(step as usize);
        numbers
            .cartesian_product(errors)
            .map(move |one| (operation, one))
    });
    let all = kinds.cartesian_product(often);
    all.map(|((operation, (nth, &error)), &times)| Fault {
        operation,
        nth,
        error,
        times,
    })
}
