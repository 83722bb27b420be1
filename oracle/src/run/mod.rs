//! Driving a repair on the simulated disk, and keeping everything that happened.

mod again;
mod explore;
mod scene;
mod toy;

use std::sync::OnceLock;

use crate::audit::Unreadable;
use crate::case::damage::SparseBytes;
use crate::case::{Case, Fault, build};
use crate::class::{Diagnosis, diagnose};
use crate::disk::{Asked, SimulatedDisk, Trace};
use crate::judge::expect_of;
use crate::properties::Failure;
use crate::properties::reading::{Kind, Reading};
use crate::spec::{Expected, Repaired};
use crate::subject::{Ask, Outcome, Repair};

pub use again::{Again, again};
pub use explore::{Bounds, Explored, explore_one, faults};
pub use scene::{SceneError, scene};
pub use toy::ToyRepair;

/// What a repair begins with.
#[derive(Clone, Debug)]
pub struct Before {
    /// The bytes on the disk, all durable.
    pub bytes: SparseBytes,
    /// The length in bytes that the disk can never exceed; `None` when it can grow.
    pub capacity: Option<u64>,
    /// How the bytes are read.
    pub kind: Kind,
    /// What the audit says of the bytes.
    pub reading: Reading,
}

impl Before {
    /// Audits the bytes.
    pub fn new(bytes: SparseBytes, capacity: Option<u64>, kind: Kind) -> Result<Self, Unreadable> {
        let reading = kind.read(&bytes)?;
        Ok(Self {
            bytes,
            capacity,
            kind,
            reading,
        })
    }

    /// The image of a case, on its disk.
    pub fn of(case: &Case) -> Result<Self, SceneError> {
        let built = build::build(case)?;
        Ok(Self::new(built.bytes, built.capacity, Kind::Image)?)
    }

    /// A disk with these bytes, on which these operations fail.
    pub fn disk(&self, faults: &[Fault]) -> SimulatedDisk {
        SimulatedDisk::new(self.bytes.clone(), self.capacity).with_faults(faults)
    }
}

/// A repair that was driven to its end, and everything that happened.
#[derive(Debug)]
pub struct Run {
    /// What was done to the disk, in order.
    pub trace: Trace,
    /// How it ended.
    pub outcome: Outcome,
    /// The bytes afterwards, as programs read them.
    pub after: SparseBytes,
    /// What it asked of the disk.
    pub asked: Asked,
    /// What it was asked.
    ask: Ask,
    /// See [`Run::reading`].
    reading: OnceLock<Result<Reading, Unreadable>>,
    /// See [`Run::expected`].
    expected: OnceLock<Result<Expected, Unreadable>>,
    /// See [`Run::kept`].
    diagnosed: OnceLock<Result<Diagnosis, Unreadable>>,
}

impl Run {
    /// A repair of which nothing is known but how it ended, what it wrote, and what it left.
    pub fn observed(trace: Trace, outcome: Outcome, after: SparseBytes) -> Self {
        Self {
            trace,
            outcome,
            after,
            asked: Asked::default(),
            ask: Ask::default(),
            reading: OnceLock::new(),
            expected: OnceLock::new(),
            diagnosed: OnceLock::new(),
        }
    }

    /// What it was asked.
    pub const fn ask(&self) -> &Ask {
        &self.ask
    }

    /// What has to come of it, by the specification; `None` of a toy. `before` is what the run began
    /// with.
    pub fn expected(&self, before: &Before) -> Result<Option<&Expected>, Failure> {
        let Some(own) = before.reading.counted() else {
            return Ok(None);
        };
        // A repair that refuses has left no layout to be read.
        let left = self.outcome.is_ok().then_some(&self.after);
        let expect = || expect_of(own, &before.bytes, &self.ask, left);
        let expected = self.expected.get_or_init(expect).as_ref();
        expected
            .map(Some)
            .map_err(|error| Failure::new(format!("it takes too much work to judge: {error}")))
    }

    /// The image that has to come of it, unless it has to be refused.
    pub fn repaired(&self, before: &Before) -> Option<&Repaired> {
        self.expected(before).ok()??.as_deref().ok()
    }

    /// The refcount that is kept of a cluster above its references; 0 where none is.
    pub(crate) fn kept(&self, before: &Before, cluster: u64) -> u64 {
        // A program may repair what has to be refused. What is damaged is to be kept all the same.
        let of_refused = || {
            let seen = before.reading.audit()?;
            let diagnosed = self.diagnosed.get_or_init(|| diagnose(&before.bytes, seen));
            diagnosed.as_ref().ok().map(|found| &found.kept)
        };
        let repaired = self.repaired(before).map(|repaired| &repaired.kept);
        let kept = repaired.or_else(of_refused);
        kept.and_then(|kept| kept.get(&cluster))
            .copied()
            .unwrap_or(0)
    }

    /// What the audit says of what a repair in which nothing went wrong has written; `None` where it
    /// has written nothing. `before` is what the run began with.
    pub fn whole<'a>(&'a self, before: &'a Before) -> Option<&'a Reading> {
        let whole = self.reading(before).ok();
        whole.filter(|_| !self.trace.is_read_only())
    }

    /// What the audit says of the bytes afterwards, when it is asked first. `before` is what the
    /// run began with.
    pub fn reading<'a>(&'a self, before: &'a Before) -> Result<&'a Reading, Failure> {
        if self.trace.is_read_only() {
            return Ok(&before.reading);
        }
        let reading = self.reading.get_or_init(|| before.kind.read(&self.after));
        let failed = |error| Failure::new(format!("after the repair, {error}"));
        reading.as_ref().map_err(failed)
    }
}

/// Runs a repair on a disk on which these operations fail.
pub fn run(repair: &dyn Repair, before: &Before, faults: &[Fault]) -> Run {
    let mut disk = before.disk(faults);
    let outcome = repair.repair(&mut disk);
    let asked = disk.asked();
    let (after, trace) = disk.into_parts();
    Run {
        ask: Ask {
            options: repair.options(),
            capacity: before.capacity,
        },
        asked,
        ..Run::observed(trace, outcome, after)
    }
}
