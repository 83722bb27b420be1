//! Repairs during which the power fails or operations fail: what the targets `crash` and `fault`
//! do.

use super::encoding::decode;
use super::rebuild::holds;
use super::{Broken, Target, Use};
use crate::case::build::build;
use crate::case::damage::SparseBytes;
use crate::case::{Case, Schedule};
use crate::crash::{self, Limits};
use crate::properties::crash_atomic::StateJudge;
use crate::properties::undo_restores::Points;
use crate::properties::{Property, Verdict, fault_safe, judge_all, unread};
use crate::run::{Before, Run, SceneError, again, run, scene};
use crate::subject::{Options, Repair, Subject};

/// Crash states that are looked at after a fault: few, as the fuzzer asks again and again.
const AFTER_A_FAULT: Limits = Limits {
    exhaustive_bits: 3,
    samples: 1,
    seed: 1,
};

/// Something to repair, who repairs it, and what comes of it when nothing goes wrong.
struct Scene<'a> {
    case: Case,
    before: Before,
    repair: Box<dyn Repair + 'a>,
    quiet: Run,
}

impl<'a> Scene<'a> {
    /// `None` of what is no case, or no image that can be opened; judged until then.
    fn of(subject: &'a dyn Subject, target: Target, input: &[u8]) -> Result<Option<Self>, Broken> {
        let Ok(case) = decode(target, input) else {
            return Ok(None);
        };
        let (before, repair) = match scene(subject, &case) {
            Ok(scene) => scene,
            Err(SceneError::Unreadable(_)) => {
                if let Ok(built) = build(&case) {
                    let repair = subject.images(Options::by(case.algorithm));
                    unread::judge(built.bytes, built.capacity, &*repair)?;
                }
                return Ok(None);
            }
            Err(_) => return Ok(None),
        };
        let quiet = run(&*repair, &before, &[]);
        let scene = Self {
            case,
            before,
            repair,
            quiet,
        };
        let cuts = match scene.case.schedule {
            Schedule::Crash(crash) => Points::At(crash),
            _ => Points::Spread(1),
        };
        let verdicts = judge_all(&scene.before, &scene.quiet, &*scene.repair, cuts);
        for (property, verdict) in verdicts {
            scene.holds(property, verdict)?;
        }
        Ok(Some(scene))
    }

    fn holds(&self, property: Property, verdict: Verdict) -> Result<(), Broken> {
        holds(self.case.algorithm, &self.before, property, verdict)
    }

    /// What is left is repaired by a second run, in which nothing goes wrong.
    fn can_be_repaired(&self, left: SparseBytes) -> Result<(), Broken> {
        match again(&self.before, &*self.repair, &self.quiet, left) {
            Ok(again) => again
                .into_iter()
                .flat_map(|again| again.verdicts)
                .try_for_each(|(property, verdict)| self.holds(property, verdict)),
            Err(failure) => self.holds(Property::CrashAtomic, Verdict::Fails(failure)),
        }
    }
}

/// The power fails where the case says.
pub fn crash(subject: &dyn Subject, input: &[u8]) -> Result<Use, Broken> {
    let Some(scene) = Scene::of(subject, Target::Crash, input)? else {
        return Ok(Use::Refused);
    };
    let Schedule::Crash(crash) = scene.case.schedule else {
        return Ok(Use::Refused);
    };
    // Where nothing is written nothing can be lost: the image is the one that was judged.
    if scene.quiet.trace.is_read_only() {
        return Ok(Use::Refused);
    }
    let (before, quiet) = (&scene.before, &scene.quiet);
    let state = crash::state(&before.bytes, &quiet.trace, crash);
    let judge = StateJudge::new(before, &quiet.trace, quiet.whole(before));
    scene.holds(Property::CrashAtomic, judge.state(&state).into())?;
    scene.can_be_repaired(state)?;
    Ok(Use::Judged)
}

/// Operations fail as the case says.
pub fn fault(subject: &dyn Subject, input: &[u8]) -> Result<Use, Broken> {
    let Some(scene) = Scene::of(subject, Target::Fault, input)? else {
        return Ok(Use::Refused);
    };
    let Schedule::Faults(faults) = &scene.case.schedule else {
        return Ok(Use::Refused);
    };
    let failed = run(&*scene.repair, &scene.before, faults);
    // Nothing failed, and all of it has been judged.
    if failed.asked.faults_hit == 0 {
        return Ok(Use::Refused);
    }
    let whole = scene.quiet.whole(&scene.before);
    let (_, verdict) = fault_safe::judge(&scene.before, &failed, whole, &AFTER_A_FAULT);
    scene.holds(Property::FaultSafe, verdict)?;
    scene.can_be_repaired(failed.after)?;
    Ok(Use::Judged)
}
