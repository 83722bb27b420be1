//! The repair of what a disturbed one has left: nothing goes wrong in it, and it ends well.

use super::{Before, Repair, Run, Stopped, run};
use crate::case::damage::SparseBytes;
use crate::case::{Algorithm, Case, StorageLimit};
use crate::properties::reading::Kind;
use crate::properties::{Failure, Property, Verdict, counts_every_cluster, no_leaks};

/// A second repair.
pub struct Again {
    /// What it begins with.
    pub left: Before,
    /// What it does.
    pub run: Run,
    /// What must hold of it.
    pub verdicts: Vec<(Property, Verdict)>,
}

/// Repairs the bytes that are left where the repair of `before`, which ends as `quiet` says when
/// nothing goes wrong, was disturbed. `None` where nothing is promised: of a toy, which has nothing
/// that could be surveyed, and of QEMU's algorithms. A failure of
/// [`crash-atomic`](Property::CrashAtomic) where the bytes cannot be read.
pub fn again(
    case: &Case,
    before: &Before,
    repair: &dyn Repair,
    quiet: &Run,
    bytes: SparseBytes,
) -> Result<Option<Again>, Failure> {
    let kind = before.kind.clone();
    if matches!(kind, Kind::Toy(_)) || case.algorithm != Algorithm::Planned {
        return Ok(None);
    }
    let left = Before::new(bytes, before.sector, before.capacity, kind);
    let left = left.map_err(|error| Failure {
        message: format!("the image cannot be read any more: {error}"),
    })?;
    let run = run(repair, &left, &[]);
    let verdicts = match &run.outcome {
        Ok(_) => vec![
            (
                Property::CountsEveryCluster,
                counts_every_cluster::judge(&left, &run),
            ),
            (Property::NoLeaks, no_leaks::judge(&left, &run)),
        ],
        // What the first run took on a device that cannot grow may be what the second lacks.
        Err(Stopped::Repair(_)) if case.storage != StorageLimit::Growing => Vec::new(),
        Err(_) if quiet.outcome.is_err() => Vec::new(),
        Err(error) => {
            let message = format!("the repair after the disturbed one fails: {error}");
            let verdict = Verdict::Fails(Failure { message });
            vec![(Property::CrashAtomic, verdict)]
        }
    };
    Ok(Some(Again {
        left,
        run,
        verdicts,
    }))
}
