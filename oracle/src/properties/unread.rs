//! What is asked of an image that the audit does not read, because nobody can open it or because it
//! takes more memory or time than the audit has: a repair either refuses and writes nothing, or it
//! reports what a check finds, and the next one writes nothing.

use super::{Failure, Property};
use crate::case::damage::SparseBytes;
use crate::disk::SimulatedDisk;
use crate::subject::Repair;

/// A property that does not hold.
pub type Broken = (Property, Failure);

/// Of these bytes.
pub fn judge(bytes: SparseBytes, capacity: Option<u64>, repair: &dyn Repair) -> Result<(), Broken> {
    let mut disk = SimulatedDisk::new(bytes, capacity);
    let broken = |property, message| Err((property, Failure::new(message)));
    let done = match repair.repair(&mut disk) {
        Err(_) if disk.trace().is_read_only() => return Ok(()),
        Ok(done) => done,
        other => {
            let message = format!("it writes, and then {other:?}");
            return broken(Property::AsSpecified, message);
        }
    };
    let checked = repair.check(&disk);
    if checked != done.report {
        let message = format!("it reports {:?}, a check {checked:?}", done.report);
        return broken(Property::PlanExact, message);
    }
    let mut disk = SimulatedDisk::new(disk.into_parts().0, capacity);
    match repair.repair(&mut disk) {
        Ok(_) if disk.trace().is_read_only() => Ok(()),
        other => broken(Property::Idempotent, format!("a second repair: {other:?}")),
    }
}
