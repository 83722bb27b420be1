//! Any bytes as a qcow2 file: check, repair, check again.
//!
//! An image is read in whole sectors, so the odd bytes after the last whole one can choose how it
//! is repaired: their number, modulo the number of [`WAYS`]. A file of whole sectors is repaired as
//! `recount check -r all` does.

use recount::repair::{RepairError, Step};
use recount::{
    Algorithm, CheckError, ImageError, MemoryStorage, Outcome, RepairFailure, RepairOptions,
    Report, Scope, check, repair,
};

use super::{Broken, Use};
use crate::audit::{Audit, Bytes, Counters, Referrer, Unreadable, Wrong, audit, counters};
use crate::case::damage::{ReadWriteAt, SparseBytes};
use crate::disk::{SECTOR, SimulatedDisk, Trace};
use crate::properties::clean_afterwards::DIRTY_AND_CORRUPT;
use crate::properties::reading::{nowhere, takes_header_for_a_table};

/// Bytes by which a repair may make a file longer than twice what it was: a new snapshot table, at
/// most 64 MiB, and new structures at the largest cluster size.
const GROWTH_MAX: u64 = 80 << 20;
/// Repairs of a file that goes on growing over what its entries lead to, at most. Each grows over
/// one of the entries at least; a file with more of them is not followed to the end.
const OUTGROWN_MAX: u64 = 64;
/// Bytes that a repair reads, beyond which an image costs a fuzzer more than it shows.
const COSTLY: u64 = 1 << 20;
/// The same for the bytes of the image itself, unless its clusters are so large that this is no more
/// than [`CLUSTERS_MIN`] of them.
const LONG: usize = 36 << 10;
/// Clusters of an image that has one of everything: header, L1 and L2 table, reftable, refblock,
/// data, and one to spare.
const CLUSTERS_MIN: usize = 7;
/// Longest input, in bytes: what is longer shows nothing that a shorter one does not.
pub const INPUT_MAX: usize = 1 << 20;

/// How an image is repaired.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// Whether the storage can grow.
    pub grows: bool,
    /// What the engine is told.
    pub options: RepairOptions,
}

/// The ways in which images are repaired.
pub const WAYS: [Way; 8] = [
    way(true, Algorithm::Planned),
    way(false, Algorithm::Planned),
    way(true, Algorithm::FirstFit),
    way(true, Algorithm::Tail),
    way(true, Algorithm::Planned).leaks_only(),
    way(false, Algorithm::Planned).over_the_old(),
    way(true, Algorithm::Planned).whatever_is_unreachable(),
    way(false, Algorithm::FirstFit),
];

const fn way(grows: bool, algorithm: Algorithm) -> Way {
    let options = RepairOptions {
        scope: Scope::All,
        algorithm,
        reuse_old: false,
        release_unreachable: false,
        verify: true,
    };
    Way { grows, options }
}

impl Way {
    /// The way that an input asks for.
    #[must_use]
    pub const fn of(input: &[u8]) -> Self {
        WAYS[input.len() % SECTOR as usize % WAYS.len()]
    }

    const fn leaks_only(mut self) -> Self {
        self.options.scope = Scope::Leaks;
        self
    }

    const fn over_the_old(mut self) -> Self {
        self.options.reuse_old = true;
        self
    }

    const fn whatever_is_unreachable(mut self) -> Self {
        self.options.release_unreachable = true;
        self
    }
}

/// Runs and judges one input.
pub fn judge(input: &[u8]) -> Result<Use, Broken> {
    if input.len() > INPUT_MAX {
        return Ok(Use::Refused);
    }
    let way = Way::of(input);
    // What cannot grow is a device, which has whole sectors.
    let odd = if way.grows {
        0
    } else {
        input.len() % SECTOR as usize
    };
    let input = &input[..input.len() - odd];
    // By its type a check cannot write; the bytes are compared all the same.
    let storage = MemoryStorage::growing(input.to_vec());
    let checked = check(&storage, &mut ());
    if storage.bytes() != input {
        let message = "a read-only check changed the image";
        return Err(Broken::new("check-writes-nothing", message));
    }
    let audited = audit(&input);
    agrees("before the repair", &checked, &audited)?;
    if matches!(checked, Err(CheckError::Image(_))) {
        return Ok(Use::Judged);
    }
    let run = Run::new(sparse(input), way);
    match &run.outcome {
        Ok(outcome) => run.ended_well(outcome, &input, audited.as_ref().ok())?,
        Err(failure) => run.ended_early(failure)?,
    }
    Ok(if run.bytes_read > COSTLY || is_long(input) {
        Use::Costly
    } else {
        Use::Judged
    })
}

/// Whether an image that was opened is longer than one has to be to show something.
fn is_long(image: &[u8]) -> bool {
    let cluster_bits = image.get(20..24).map_or(0, |field| field[3]);
    image.len() > LONG && image.len() > CLUSTERS_MIN << cluster_bits
}

/// The input on a disk that costs only what is in it.
fn sparse(input: &[u8]) -> SparseBytes {
    let mut bytes = SparseBytes::default();
    bytes
        .write_at(0, input)
        .expect("a position in memory is below 2^64");
    bytes
}

/// A repair and what it did.
struct Run {
    way: Way,
    /// Bytes before the repair.
    length: u64,
    outcome: Result<Outcome, RepairFailure>,
    after: SparseBytes,
    trace: Trace,
    bytes_read: u64,
}

impl Run {
    fn new(bytes: SparseBytes, way: Way) -> Self {
        let length = ReadWriteAt::len(&bytes);
        let capacity = (!way.grows).then_some(length);
        let mut disk = SimulatedDisk::new(bytes, SECTOR, capacity);
        let outcome = repair(&mut disk, &way.options, &mut ());
        let bytes_read = disk.bytes_read();
        let (after, trace) = disk.into_parts();
        Self {
            way,
            length,
            outcome,
            after,
            trace,
            bytes_read,
        }
    }

    /// The report is what a check finds, the audit says the same, refcounts are right, and there
    /// is nothing left to repair.
    fn ended_well(
        &self,
        outcome: &Outcome,
        input: &dyn Bytes,
        before: Option<&Audit>,
    ) -> Result<(), Broken> {
        let length = ReadWriteAt::len(&self.after);
        if length > 2 * self.length + GROWTH_MAX {
            let message = format!("the file grew from {} bytes to {length}", self.length);
            return Err(Broken::new("grows-only-when-needed", message));
        }
        let disk = SimulatedDisk::new(self.after.clone(), SECTOR, None);
        let checked = check(&disk, &mut ());
        if !matches!(&checked, Ok(report) if *report == outcome.report) {
            let message = format!(
                "the repair reports {:?}, a check afterwards {checked:?}",
                outcome.report
            );
            return Err(Broken::new("reports-what-is-there", message));
        }
        let audited = audit(&self.after);
        agrees("after the repair", &checked, &audited)?;
        let whole = outcome.report.check_errors == 0 && outcome.report.corruptions == 0;
        let features = audited
            .as_ref()
            .map_or(0, |audit| audit.header.incompatible);
        if whole && features & DIRTY_AND_CORRUPT != 0 {
            let message = format!("no corruption is left, but the features are {features:#x}");
            return Err(Broken::new("clean-afterwards", message));
        }
        if let (Ok(after), Some(before)) = (&audited, before)
            && !is_blind(before, input)
        {
            self.refcounts_are_right(after)?;
        }
        if self.writes_over_what_it_reads(before) {
            return Ok(());
        }
        let overlap = Overlap {
            header: audited.as_ref().is_ok_and(takes_header_for_a_table),
            structures: before.is_none_or(Overlap::of_structures),
        };
        let mut again = Self::new(self.after.clone(), self.way);
        // A next repair may act on what is new to it, and then there is an end.
        let mut is_new = self.says_something_new(overlap);
        let mut dead_ends = outcome.report.dead_ends.count;
        for repairs in 0..OUTGROWN_MAX {
            let Ok(outcome) = &again.outcome else {
                break;
            };
            let planned = self.way.options.algorithm == Algorithm::Planned;
            if !is_new || again.trace.is_read_only() || planned && repairs > dead_ends {
                break;
            }
            // What an entry leads to by now may lead nowhere itself.
            dead_ends = dead_ends.max(outcome.report.dead_ends.count);
            let next = Self::new(again.after.clone(), self.way);
            is_new = again.says_something_new(overlap);
            again = next;
        }
        if is_new && dead_ends > OUTGROWN_MAX {
            return Ok(());
        }
        if again.outcome.is_err() || !again.trace.is_read_only() {
            let did: Vec<String> = again
                .trace
                .events()
                .iter()
                .map(ToString::to_string)
                .collect();
            let (end, did) = (again.outcome, did.join(", "));
            let message = format!("a second repair ended with {end:?} and did: {did}");
            return Err(Broken::new("idempotent", message));
        }
        Ok(())
    }

    /// Whether what it did makes the image say something new. A file that has grown over the place
    /// where an entry or a table led past its end says zeros there; a header that something takes
    /// for a table says what was written to it; and QEMU's algorithms leave it to the next repair
    /// to look at L2 tables that lay in the old snapshot table or refcount structures.
    fn says_something_new(&self, overlap: Overlap) -> bool {
        let grew = ReadWriteAt::len(&self.after) > self.length;
        let wrote_header = || self.trace.writes().any(|(offset, _)| offset < SECTOR);
        let planned = self.way.options.algorithm == Algorithm::Planned;
        let gave_up = |step: &Step| match step {
            Step::RewroteSnapshotTable { .. } => true,
            Step::Rebuilt { .. } => overlap.structures,
            _ => false,
        };
        let outcome = self.outcome.as_ref();
        let uncovered = || outcome.is_ok_and(|outcome| outcome.steps.iter().any(gave_up));
        grew || overlap.header && wrote_header() || !planned && uncovered()
    }

    /// QEMU's algorithms take the clusters of a table that begins inside the file and reaches past
    /// its end for free ones. What they write there is that table, to the next repair.
    fn writes_over_what_it_reads(&self, before: Option<&Audit>) -> bool {
        if self.way.options.algorithm == Algorithm::Planned {
            return false;
        }
        before.is_none_or(|audit| {
            audit.leads_nowhere().any(|corruption| {
                matches!(corruption.wrong, Wrong::PastTheEnd { offset, .. } if offset < self.length)
            })
        })
    }

    /// After `-r all` each refcount is the number of references. Where an entry led nowhere, clusters
    /// without a reference are kept, and when the file grew over the place that the entry names, it
    /// counts as a reference from then on: the report says so, and nothing more is asked.
    fn refcounts_are_right(&self, after: &Audit) -> Result<(), Broken> {
        let all = self.way.options.scope == Scope::All;
        if !all || is_blind(after, &self.after) {
            return Ok(());
        }
        match after.mismatches.first() {
            Some(wrong) if wrong.is_leak() => Err(Broken::new("no-leaks", format!("{wrong:?}"))),
            Some(wrong) => Err(Broken::new("counts-every-cluster", format!("{wrong:?}"))),
            None => Ok(()),
        }
    }

    /// Nothing was written if nothing was to be done, and only a lack of space is a reason.
    fn ended_early(&self, failure: &RepairFailure) -> Result<(), Broken> {
        let error = &failure.error;
        let expected = match error {
            RepairError::NeedsRebuild => self.way.options.scope == Scope::Leaks,
            RepairError::Check(_) | RepairError::Plan(_) => true,
            _ => false,
        };
        if !expected {
            let message = format!("nothing failed, but the repair ended with: {error}");
            return Err(Broken::new("fault-safe", message));
        }
        if failure.done.is_empty() && !self.trace.is_read_only() {
            let message = format!("something was written before the repair ended with: {error}");
            return Err(Broken::new("leaves-data-alone", message));
        }
        Ok(())
    }
}

/// What lies where tables are read, so that writing it may change what they say.
#[derive(Clone, Copy)]
struct Overlap {
    /// Something takes the header for a table.
    header: bool,
    /// An L2 table lies in the refcount structures.
    structures: bool,
}

impl Overlap {
    fn of_structures(audit: &Audit) -> bool {
        let is_table = |referrer: &Referrer| matches!(referrer, Referrer::L2 { .. });
        audit.references.values().any(|referrers| {
            referrers.iter().any(is_table) && referrers.iter().any(Referrer::is_structure)
        })
    }
}

/// Whether an entry or a table leads nowhere, so that clusters may be in use without a reference.
fn is_blind(audit: &Audit, bytes: &dyn Bytes) -> bool {
    // Bytes in memory can be read.
    !matches!(nowhere(audit, bytes), Ok(None))
}

/// The engine and the audit find the same, each on its own terms.
fn agrees(
    when: &str,
    checked: &Result<Report, CheckError>,
    audited: &Result<Audit, Unreadable>,
) -> Result<(), Broken> {
    let theirs = match audited {
        Ok(audit) => Some(counters(audit)),
        Err(Unreadable::NotOpened(_)) => None,
        // More work than the naive reader takes on; nothing to compare with.
        Err(Unreadable::Io(_) | Unreadable::TooMuchWork) => return Ok(()),
    };
    let same = match (checked, &theirs) {
        (Ok(report), Some(theirs)) => !theirs.gives_up && figures(report) == *theirs,
        (Err(CheckError::Image(_)), None) => true,
        // The audit reads on without a LUKS header.
        (Err(CheckError::Walk(_) | CheckError::Image(ImageError::Luks { .. })), Some(theirs)) => {
            theirs.gives_up
        }
        _ => false,
    };
    if same {
        return Ok(());
    }
    let message = format!(
        "{when} the engine finds {checked:?}, the audit {theirs:?}{}",
        match audited {
            Ok(audit) => format!(", {:?}", audit.corruptions),
            Err(why) => format!(", {why}"),
        }
    );
    Err(Broken::new("agrees-with-the-audit", message))
}

/// A report as the audit puts it.
const fn figures(report: &Report) -> Counters {
    Counters {
        gives_up: false,
        check_errors: report.check_errors,
        image_end_offset: report.image_end_offset,
        corruptions: report.corruptions,
        leaks: report.leaks,
        total_clusters: report.total_clusters,
        allocated_clusters: report.allocated_clusters,
        fragmented_clusters: report.fragmented_clusters,
        compressed_clusters: report.compressed_clusters,
    }
}
