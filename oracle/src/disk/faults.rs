//! Which operation fails, and how.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::case::{Fault, FaultKind, Operation, Times};

/// A schedule of faults and how far it has got. Reads are counted behind a shared reference.
#[derive(Debug, Default)]
pub(super) struct Faults {
    schedule: Vec<Fault>,
    seen: [AtomicU32; 4],
    hit: AtomicU32,
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
        if self.schedule.is_empty() {
            return None;
        }
        let nth = self.seen[operation as usize].fetch_add(1, Ordering::Relaxed);
        let due = |fault: &&Fault| fault.operation == operation && is_due(**fault, nth);
        let fault = self.schedule.iter().find(due)?;
        self.hit.fetch_add(1, Ordering::Relaxed);
        Some(fault.error)
    }

    /// How many operations have failed.
    pub(super) fn hit(&self) -> u32 {
        self.hit.load(Ordering::Relaxed)
    }
}

/// Whether a fault strikes the operation number `nth` of its kind.
const fn is_due(fault: Fault, nth: u32) -> bool {
    match fault.times {
        Times::Once => nth == fault.nth,
        Times::Twice => nth == fault.nth || nth == fault.nth.saturating_add(1),
        Times::Forever => nth >= fault.nth,
    }
}
