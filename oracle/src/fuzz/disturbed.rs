//! Repairs during which the power fails or operations fail: what the targets `crash` and `fault`
//! do.

use super::encoding::decode;
use super::rebuild::holds;
use super::{Broken, Target, Use};
use crate::case::{Algorithm, Case, Schedule, StorageLimit};
use crate::crash::{Crashes, Limits};
use crate::properties::crash_atomic::{StateJudge, lasts};
use crate::properties::reading::{Kind, Reading};
use crate::properties::{Property, Verdict, counts_every_cluster, fault_safe, no_leaks};
use crate::run::{Before, Repair, Run, Stopped, run, scene};

/// Crash states that are looked at after a fault: few, as the fuzzer asks again and again.
const AFTER_A_FAULT: Limits = Limits {
    exhaustive_bits: 3,
    samples: 1,
    seed: 1,
};

/// Something to repair, who repairs it, and what comes of it when nothing goes wrong.
struct Scene {
    case: Case,
    before: Before,
    repair: Box<dyn Repair>,
    quiet: Run,
}

impl Scene {
    /// `None` where there is nothing to be disturbed.
    fn of(target: Target, input: &[u8]) -> Option<Self> {
        let case = decode(target, input).ok()?;
        let (before, repair) = scene(&case).ok()?;
        let quiet = run(&*repair, &before, &[]);
        if quiet.trace.is_read_only() {
            return None;
        }
        Some(Self {
            case,
            before,
            repair,
            quiet,
        })
    }

    /// What the audit says after a repair in which nothing went wrong.
    fn whole(&self) -> Option<&Reading> {
        self.quiet.reading(&self.before).ok()
    }

    fn holds(&self, property: Property, verdict: Verdict) -> Result<(), Broken> {
        holds(self.case.algorithm, property, verdict)
    }

    /// What is left is repaired by a second run, in which nothing goes wrong.
    fn can_be_repaired(&self, left: &Before) -> Result<(), Broken> {
        if matches!(left.kind, Kind::Toy(_)) || self.case.algorithm != Algorithm::Planned {
            // A toy has nothing that could be surveyed; QEMU's algorithms promise nothing here.
            return Ok(());
        }
        let second = run(&*self.repair, left, &[]);
        match &second.outcome {
            Ok(_) => {
                let counts = counts_every_cluster::judge(left, &second);
                self.holds(Property::CountsEveryCluster, counts)?;
                self.holds(Property::NoLeaks, no_leaks::judge(left, &second))
            }
            // What the first run took on a device that cannot grow may be what the second lacks.
            Err(Stopped::Repair(_)) if self.case.storage != StorageLimit::Growing => Ok(()),
            Err(_) if self.quiet.outcome.is_err() => Ok(()),
            Err(error) => {
                let message = format!("the repair after the disturbed one fails: {error}");
                Err(Broken::new("crash-atomic", message))
            }
        }
    }

    fn left(&self, bytes: crate::case::damage::SparseBytes) -> Option<Before> {
        let Before {
            sector,
            capacity,
            kind,
            ..
        } = &self.before;
        Before::new(bytes, *sector, *capacity, kind.clone()).ok()
    }
}

/// The power fails where the case says.
pub fn crash(input: &[u8]) -> Result<Use, Broken> {
    let Some(scene) = Scene::of(Target::Crash, input) else {
        return Ok(Use::Refused);
    };
    let Schedule::Crash(crash) = scene.case.schedule else {
        return Ok(Use::Refused);
    };
    scene.holds(Property::CrashAtomic, lasts(&scene.quiet))?;
    let crashes = Crashes {
        before: &scene.before.bytes,
        trace: &scene.quiet.trace,
        sector: scene.before.sector,
    };
    let state = crashes.state(crash);
    let judge = StateJudge::new(&scene.before, &scene.quiet.trace, scene.whole());
    scene.holds(Property::CrashAtomic, judge.state(&state).into())?;
    match scene.left(state) {
        Some(left) => scene.can_be_repaired(&left)?,
        None if scene.case.algorithm == Algorithm::Planned => {
            let message = "the image cannot be read any more";
            return Err(Broken::new("crash-atomic", message));
        }
        None => (),
    }
    Ok(Use::Judged)
}

/// Operations fail as the case says.
pub fn fault(input: &[u8]) -> Result<Use, Broken> {
    let Some(scene) = Scene::of(Target::Fault, input) else {
        return Ok(Use::Refused);
    };
    let Schedule::Faults(faults) = &scene.case.schedule else {
        return Ok(Use::Refused);
    };
    let failed = run(&*scene.repair, &scene.before, faults);
    if failed.faults_hit == 0 {
        return Ok(Use::Refused);
    }
    let (before, whole) = (&scene.before, scene.whole());
    let verdict = fault_safe::judge(before, &failed, whole, &AFTER_A_FAULT);
    scene.holds(Property::FaultSafe, verdict)?;
    if let Some(left) = scene.left(failed.after) {
        scene.can_be_repaired(&left)?;
    }
    Ok(Use::Judged)
}
