//! One repair of an image, held against what the specification says must come of it.

use recount::plan::RepairError;
use recount::{Algorithm, CheckError, Outcome, PlanError, RepairFailure, Scope, check, repair};

use super::{Way, agrees};
use crate::audit::audit;
use crate::case::damage::{ReadWriteAt, SparseBytes};
use crate::case::{self};
use crate::disk::{SECTOR, SimulatedDisk, Trace};
use crate::fuzz::Broken;
use crate::properties::Verdict;
use crate::properties::crash_atomic::ends_flushed;
use crate::spec::{Ask, Expected, Refused, Repaired, expect};

/// A repair and what it did.
pub(super) struct Run<'a> {
    way: Way,
    before: &'a SparseBytes,
    outcome: Result<Outcome, RepairFailure>,
    after: SparseBytes,
    trace: Trace,
    /// Bytes that it read.
    pub(super) bytes_read: u64,
}

impl<'a> Run<'a> {
    pub(super) fn new(before: &'a SparseBytes, way: Way) -> Self {
        let capacity = (!way.grows).then_some(ReadWriteAt::len(before));
        let mut disk = SimulatedDisk::new(before.clone(), SECTOR, capacity);
        let outcome = repair(&mut disk, &way.options, &mut ());
        let bytes_read = disk.bytes_read();
        let (after, trace) = disk.into_parts();
        Self {
            way,
            before,
            outcome,
            after,
            trace,
            bytes_read,
        }
    }

    /// What the specification is asked.
    fn ask(&self) -> Ask {
        let Way { grows, options } = self.way;
        Ask {
            only_leaks: options.scope == Scope::Leaks,
            algorithm: match options.algorithm {
                Algorithm::Planned => case::Algorithm::Planned,
                Algorithm::FirstFit => case::Algorithm::FirstFit,
                Algorithm::Tail => case::Algorithm::Tail,
            },
            reuse_old: options.reuse_old,
            release_unreachable: options.release_unreachable,
            capacity: (!grows).then_some(ReadWriteAt::len(self.before)),
        }
    }

    /// The image is what the specification says, byte for byte, or nothing was written and for the
    /// reason that it gives; the report is what a check finds; and a second repair does nothing.
    pub(super) fn judge(&self) -> Result<(), Broken> {
        let ask = self.ask();
        match &self.outcome {
            Err(failure) => self.ended_early(failure, &ask),
            Ok(outcome) => self.ended_well(outcome, &ask),
        }
    }

    fn ended_early(&self, failure: &RepairFailure, ask: &Ask) -> Result<(), Broken> {
        if !self.trace.is_read_only() || failure.has_written {
            let message = format!("something was written before: {failure}");
            return Err(Broken::new("as-specified", message));
        }
        let Ok(expected) = expect(self.before, ask, None) else {
            // More work than the naive program takes on.
            return Ok(());
        };
        let found = reason(&failure.error);
        let is_right = match &expected {
            Expected::Refused(refused) => found == Some(*refused),
            Expected::Repaired(_) => false,
        };
        // QEMU's algorithms place structures as they do; whether that fits is theirs to say.
        let placement = matches!(
            failure.error,
            RepairError::Plan(_) | RepairError::GrowthWouldHide { .. }
        );
        if is_right || placement && self.way.options.algorithm != Algorithm::Planned {
            return Ok(());
        }
        let should = match expected {
            Expected::Refused(refused) => format!("be refused for {refused:?}"),
            Expected::Repaired(repaired) => format!("be repaired: {}", described(&repaired)),
        };
        let message = format!("refused ({failure}), it should {should}");
        Err(Broken::new("as-specified", message))
    }

    fn ended_well(&self, outcome: &Outcome, ask: &Ask) -> Result<(), Broken> {
        if let Verdict::Fails(failure) = ends_flushed(&self.trace) {
            return Err(Broken::new("crash-atomic", failure.message));
        }
        let Ok(expected) = expect(self.before, ask, Some(&self.after)) else {
            return self.is_reported(outcome);
        };
        let repaired = match expected {
            Expected::Repaired(repaired) => repaired,
            Expected::Refused(refused) => {
                let message = format!("repaired, it should be refused for {refused:?}");
                return Err(Broken::new("as-specified", message));
            }
        };
        if let Err(difference) = repaired.compare(self.before, &self.after) {
            let message = format!("{difference}; expected: {}", described(&repaired));
            return Err(Broken::new("as-specified", message));
        }
        if self.trace.is_read_only() != repaired.is_empty() {
            let message = format!(
                "it {} but {}",
                if self.trace.is_read_only() {
                    "wrote nothing"
                } else {
                    "wrote something"
                },
                described(&repaired)
            );
            return Err(Broken::new("as-specified", message));
        }
        self.is_reported(outcome)?;
        self.evidence_stays(&repaired, ask)?;
        if self.trace.is_read_only() {
            return Ok(());
        }
        let again = Run::new(&self.after, self.way);
        if again.outcome.is_ok() && again.trace.is_read_only() {
            return Ok(());
        }
        let message = format!("a second repair ended with {:?}", again.outcome);
        Err(Broken::new("plan-again-empty", message))
    }

    /// The report of the repair is what a check finds, and the audit finds the same.
    fn is_reported(&self, outcome: &Outcome) -> Result<(), Broken> {
        let disk = SimulatedDisk::new(self.after.clone(), SECTOR, None);
        let checked = check(&disk, &mut ());
        if !matches!(&checked, Ok(report) if *report == outcome.report) {
            let message = format!(
                "the repair reports {:?}, a check of what it leaves {checked:?}",
                outcome.report
            );
            return Err(Broken::new("plan-exact", message));
        }
        if self.trace.is_read_only() {
            return Ok(());
        }
        agrees("after the repair", &checked, &audit(&self.after))
    }

    /// What was seen to be damaged is seen afterwards, unless it was given up.
    fn evidence_stays(&self, repaired: &Repaired, ask: &Ask) -> Result<(), Broken> {
        if repaired.damage.is_empty() || ask.release_unreachable || self.trace.is_read_only() {
            return Ok(());
        }
        match expect(&self.after, ask, Some(&self.after)) {
            Ok(Expected::Repaired(again)) if again.damage.is_empty() => {
                let message = format!("{:?} cannot be seen any more", repaired.damage[0]);
                Err(Broken::new("evidence-stays", message))
            }
            _ => Ok(()),
        }
    }
}

/// What a repair should do, in a few words.
fn described(repaired: &Repaired) -> String {
    format!(
        "{} clusters changed, {} refcounts kept, {}, damage {:?}",
        repaired.changed.len(),
        repaired.kept.len(),
        if repaired.rebuilt {
            "structures anew"
        } else {
            "in place"
        },
        repaired.damage.first()
    )
}

/// Why a repair was refused, as the specification puts it.
const fn reason(error: &RepairError) -> Option<Refused> {
    Some(match error {
        RepairError::Check(CheckError::Image(recount::ImageError::Luks { .. }))
        | RepairError::Check(CheckError::Walk(_)) => Refused::CheckGivesUp,
        RepairError::Check(CheckError::Image(_)) => Refused::NotOpened,
        RepairError::NeedsRebuild => Refused::NeedsRebuild,
        RepairError::Plan(PlanError::ReftableTooLarge { .. }) => Refused::ReftableTooLarge,
        RepairError::Plan(PlanError::NoSpace { .. } | PlanError::NoRun { .. })
        | RepairError::PastCapacity { .. } => Refused::NoSpace,
        RepairError::GrowthWouldHide { .. } => Refused::GrowthWouldHide,
        _ => return None,
    })
}
