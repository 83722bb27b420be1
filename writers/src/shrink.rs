//! Fewer and simpler operations that fail in the same way.

use recount_oracle::case::{Fault, FaultKind, Times};
use recount_oracle::disk::SECTOR;

use crate::operation::Operation;
use crate::report::Failure;

/// Looks for a failure of the same kind after fewer operations, then after simpler ones, as long as
/// that helps and with so many tries at most. `attempt` does some operations in a run of that number.
pub(crate) fn shrink(
    failure: Failure,
    tries: u32,
    attempt: impl Fn(u32, &[Operation]) -> Option<Failure>,
) -> Failure {
    let mut search = Search {
        best: failure,
        tries,
        attempt,
    };
    // What is behind the first judgement that finds it never mattered, and with it one operation less
    // may do: so from the start again while anything helps.
    while search.remove() | search.simplify() {}
    search.best
}

struct Search<A> {
    best: Failure,
    tries: u32,
    attempt: A,
}

impl<A: Fn(u32, &[Operation]) -> Option<Failure>> Search<A> {
    /// Leaves out stretches of operations, longer ones first; whether that helped.
    fn remove(&mut self) -> bool {
        let mut helped = false;
        let mut length = self.best.operations.len().div_ceil(2);
        while length > 0 {
            let mut at = 0;
            while at < self.best.operations.len() {
                let mut fewer = self.best.operations.clone();
                fewer.drain(at..(at + length).min(fewer.len()));
                if self.try_it(&fewer) {
                    helped = true;
                } else {
                    at += length;
                }
            }
            length /= 2;
        }
        helped
    }

    /// Makes operations simpler, one at a time; whether that helped.
    fn simplify(&mut self) -> bool {
        let mut helped = false;
        let mut at = 0;
        while let Some(operation) = self.best.operations.get(at) {
            let mut simpler = simpler(operation).into_iter();
            let found = simpler.any(|simpler| {
                let mut operations = self.best.operations.clone();
                operations[at] = simpler;
                self.try_it(&operations)
            });
            // What has become simpler may become more so.
            at += usize::from(!found);
            helped |= found;
        }
        helped
    }

    fn try_it(&mut self, operations: &[Operation]) -> bool {
        if self.tries == 0 {
            return false;
        }
        self.tries -= 1;
        let failure = (self.attempt)(self.best.run, operations);
        let same = failure.filter(|failure| failure.kind == self.best.kind);
        // An image is closed at the end anyway: that must not count as one operation less.
        let same = same.filter(|found| found.operations.len() <= self.best.operations.len());
        let same = same.filter(|found| found.operations != self.best.operations);
        same.map(|found| self.best = found).is_some()
    }
}

/// Operations that do less, the least first.
fn simpler(operation: &Operation) -> Vec<Operation> {
    match *operation {
        Operation::Write {
            offset,
            length,
            seed,
        } => {
            let of = |(offset, length)| Operation::Write {
                offset,
                length,
                seed,
            };
            places(offset, length).into_iter().map(of).collect()
        }
        Operation::Discard { offset, length } => {
            let of = |(offset, length)| Operation::Discard { offset, length };
            places(offset, length).into_iter().map(of).collect()
        }
        Operation::Fail(fault) => {
            let mut simpler = vec![
                Fault { nth: 0, ..fault },
                Fault {
                    nth: fault.nth / 2,
                    ..fault
                },
                Fault {
                    nth: fault.nth.saturating_sub(1),
                    ..fault
                },
                Fault {
                    times: Times::Once,
                    ..fault
                },
                Fault {
                    error: FaultKind::Io,
                    ..fault
                },
            ];
            simpler.retain(|simpler| *simpler != fault);
            simpler.into_iter().map(Operation::Fail).collect()
        }
        _ => Vec::new(),
    }
}

/// Lower lengths, then lower offsets, of whole sectors.
fn places(offset: u64, length: u64) -> Vec<(u64, u64)> {
    let half = |bytes: u64| bytes / 2 / SECTOR * SECTOR;
    let mut places = vec![
        (offset, SECTOR),
        (offset, half(length)),
        (0, length),
        (half(offset), length),
    ];
    places.retain(|&(at, bytes)| bytes > 0 && (at, bytes) != (offset, length));
    places
}
