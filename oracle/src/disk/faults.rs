//! Which operation fails, and how.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::case::{Fault, FaultKind, Operation, Times};

/// How often each kind of operation was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations([u32; 4]);

impl Operations {
    /// Those of one kind.
    #[must_use]
    pub const fn of(&self, kind: Operation) -> u32 {
        self.0[kind as usize]
    }
}

/// A schedule of faults and how far it has got. Reads are counted behind a shared reference.
#[derive(Debug, Default)]
pub(super) struct Faults {
    schedule: Vec<Fault>,
    seen: [AtomicU32; 4],
    hit: AtomicU32,
    until_first: OnceLock<Operations>,
}

impl Faults {
    pub(super) fn new(faults: &[Fault]) -> Self {
        Self {
            schedule: faults.to_vec(),
            ..Self::default()
        }
    }

    /// Counts one more operation of a kind; how it fails, if it does.
    pub(super) fn next(&self, operation: Operation) -> Option<FaultKind> {
        let nth = self.seen[operation as usize].fetch_add(1, Ordering::Relaxed);
        let due = |fault: &&Fault| fault.operation == operation && is_due(**fault, nth);
        let fault = self.schedule.iter().find(due)?;
        self.hit.fetch_add(1, Ordering::Relaxed);
        self.until_first.get_or_init(|| self.seen());
        Some(fault.error)
    }

    /// How often each kind was asked for.
    pub(super) fn seen(&self) -> Operations {
        let seen = self.seen.each_ref();
        Operations(seen.map(|count| count.load(Ordering::Relaxed)))
    }

    /// The same, up to and with the first that failed; `None` while none has.
    pub(super) fn until_first(&self) -> Option<Operations> {
        self.until_first.get().copied()
    }

    /// How many operations have failed.
    pub(super) fn hit(&self) -> u32 {
        self.hit.load(Ordering::Relaxed)
    }
}

/// Whether a fault strikes the operation number `nth` of its kind.
fn is_due(fault: Fault, nth: u32) -> bool {
    let times = match fault.times {
        Times::Once => 1,
        Times::Twice => 2,
        Times::Forever => u32::MAX,
    };
    nth.checked_sub(fault.nth).is_some_and(|late| late < times)
}
