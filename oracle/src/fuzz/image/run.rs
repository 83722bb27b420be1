//! One repair of an image, held against what the specification says must come of it.

use recount::{Outcome, RepairFailure, check, repair};

use super::{Way, agrees};
use crate::audit::audit;
use crate::case::damage::{ReadWriteAt, SparseBytes};
use crate::disk::{SECTOR, SimulatedDisk, Trace};
use crate::fuzz::Broken;
use crate::judge;
use crate::properties::Verdict;
use crate::properties::crash_atomic::ends_flushed;
use crate::spec::{Ask, Expected, Repaired, expect};

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

    /// The image is what the specification says; the report is what a check finds; and a second
    /// repair does nothing.
    pub(super) fn judge(&self) -> Result<(), Broken> {
        let capacity = (!self.way.grows).then_some(ReadWriteAt::len(self.before));
        let ask = judge::ask(&self.way.options, capacity);
        let ended = judge::Ended::of(&self.outcome);
        let wrote = !self.trace.is_read_only();
        let specified = judge::as_specified(&ask, self.before, &self.after, ended, wrote);
        let specified = specified.map_err(|message| Broken::new("as-specified", message))?;
        let Ok(outcome) = &self.outcome else {
            return Ok(());
        };
        if let Verdict::Fails(failure) = ends_flushed(&self.trace) {
            return Err(Broken::new("crash-atomic", failure.message));
        }
        self.is_reported(outcome)?;
        let Some(repaired) = specified else {
            return Ok(());
        };
        self.evidence_stays(&repaired, &ask)?;
        if !wrote {
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
