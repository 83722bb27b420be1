//! `undo-restores`: an undo file, saved before a repair, gives back the image bit for bit, length
//! included: after the whole repair, and after a power cut at any point of the repair and of undoing.
//!
//! Undo files are files, and each costs as many system calls as a fuzzer can judge an image in. Of each
//! repair the plain form is asked, and that of one power cut drawn from what the repair writes; the
//! explorer asks at many points of each repair, a case with a power cut at its own; the fuzz targets
//! without a power cut ask of one input in 32, drawn from its bytes. What is cut is the repair, and
//! then the undoing of what that leaves, at its event of the same number.

use std::path::Path;

use tempfile::TempDir;

use super::{Failure, Verdict};
use crate::case::damage::SparseBytes;
use crate::case::{Crash, Fault, FaultKind, Operation, Times};
use crate::crash;
use crate::disk::{Event, SimulatedDisk, Trace};
use crate::run::{Before, Run};
use crate::subject::{NotRestored, Repair, Undo, Write};

/// Where the power is cut.
#[derive(Clone, Copy, Debug)]
pub enum Points {
    /// Nowhere: nothing is asked.
    Unasked,
    /// At one point.
    At(Crash),
    /// At so many points, at most: drawn from what the repair writes, and evenly spread.
    Spread(u32),
}

/// Of a repair as a whole, and after power cuts, by a program with undo files. Where a plan is empty
/// it saves none, as nothing is replaced.
pub fn judge(before: &Before, run: &Run, repair: &dyn Repair, points: Points) -> Verdict {
    let (false, Some(files)) = (run.trace.is_read_only(), repair.undo()) else {
        return Verdict::NotApplicable;
    };
    if matches!(points, Points::Unasked) {
        return Verdict::NotApplicable;
    }
    let asked = Saved::of(before, run, repair, files).and_then(|undo| {
        let after = undo.trace.events.len() as u32;
        let kept = u64::MAX;
        let whole = crash::state(&before.bytes, &undo.trace, Crash { after, kept });
        undo.gives_back(&undo.copy()?, &whole)?;
        match points {
            Points::Unasked => Ok(()),
            Points::At(crash) => undo.survives(crash),
            Points::Spread(count) => undo.drawn(count).try_for_each(|cut| undo.survives(cut)),
        }
    });
    asked.into()
}

/// A repair and its undo file.
struct Saved<'a> {
    before: &'a Before,
    files: &'a dyn Undo,
    /// What the repair does.
    trace: Trace,
    directory: TempDir,
}

impl<'a> Saved<'a> {
    /// Saves what the plan says that the repair replaces, which is what it does replace, byte for
    /// byte (rule 1). A toy's plan does not say.
    fn of(
        before: &'a Before,
        run: &Run,
        repair: &dyn Repair,
        files: &'a dyn Undo,
    ) -> Result<Self, Failure> {
        let events = run.trace.events.iter();
        // What is given back to the file system a repair that is to be undone keeps.
        let stays = |event: &&Event| !matches!(event, Event::Discard { .. });
        let events = events.filter(stays).cloned().collect();
        let trace = Trace { events };
        let writes: Vec<Write> = trace.events.iter().filter_map(written).collect();
        let disk = before.disk(&[]);
        if run.outcome.is_ok()
            && let Some(planned) = repair.planned(&disk)
        {
            let planned = planned.map_err(Failure::new)?;
            let mut both = planned.iter().zip(&writes);
            let other = both.find(|(planned, written)| planned != written);
            Failure::unless(planned.len() == writes.len() && other.is_none(), || {
                let (planned, written) = (planned.len(), writes.len());
                format!("{planned} writes are planned, {written} done; different: {other:?}")
            })?;
        }
        // In memory, where there is such a place: undo files are flushed often.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let undo = Self {
            before,
            files,
            trace,
            directory: directory.map_err(Failure::new)?,
        };
        let file = undo.directory.path().join(SAVED);
        let saved = files.save(&file, &disk, &writes);
        saved.map_err(Failure::new)?;
        Ok(undo)
    }

    /// So many power cuts, at most one after each event.
    fn drawn(&self, count: u32) -> impl Iterator<Item = Crash> {
        let mut hash = crc32fast::Hasher::new();
        for (offset, bytes) in self.trace.events.iter().filter_map(written) {
            hash.update(&offset.to_be_bytes());
            hash.update(&bytes);
        }
        let drawn = hash.finalize();
        let events = self.trace.events.len() as u32 + 1;
        let step = events.div_ceil(count.max(1)).max(1);
        (0..events).step_by(step as usize).map(move |shift| Crash {
            after: drawn % events + shift,
            kept: u64::from(drawn) + u64::from(shift),
        })
    }

    /// After a power cut of the repair the image comes back; also where undoing ends at its event of
    /// the same number, with a power cut there, and is done again.
    fn survives(&self, crash: Crash) -> Result<(), Failure> {
        let named =
            |what| move |failure| Failure::new(format!("after a power cut of {what}: {failure}"));
        let left = crash::state(&self.before.bytes, &self.trace, crash);
        let whole = self.gives_back(&self.copy()?, &left);
        let whole = whole.map_err(named("the repair"))?;
        let events = &whole.events;
        let at = crash.after as usize % events.len();
        let operation = operation(&events[at]);
        let alike = |event: &&Event| self::operation(event) == operation;
        let fault = Fault {
            operation,
            nth: events[..at].iter().filter(alike).count() as u32,
            error: FaultKind::Io,
            times: Times::Forever,
        };
        let file = self.copy()?;
        let mut disk = self.disk(&left, &[fault]);
        let interrupted = self.files.restore(&file, &mut disk);
        let is_told = matches!(
            interrupted,
            Err(NotRestored {
                interrupted: true,
                ..
            })
        );
        Failure::unless(is_told, || {
            format!("undoing on a disk that fails ends with {interrupted:?}")
        })?;
        let (_, trace) = disk.into_parts();
        let after = trace.events.len() as u32;
        let left = crash::state(&left, &trace, Crash { after, ..crash });
        let again = self.gives_back(&file, &left);
        again.map(drop).map_err(named("undoing"))
    }

    /// Undoing gives the bytes before, and flushes them; what it did.
    fn gives_back(&self, file: &Path, left: &SparseBytes) -> Result<Trace, Failure> {
        let mut disk = self.disk(left, &[]);
        let restored = self.files.restore(file, &mut disk);
        restored.map_err(|error| Failure::new(format!("undoing fails: {error}")))?;
        Failure::unless(
            *disk.live() == self.before.bytes,
            || "undoing leaves other bytes, or another length, than there were",
        )?;
        let (_, trace) = disk.into_parts();
        let is_flushed = trace.events.last().is_some_and(Event::is_flush);
        Failure::unless(is_flushed, || "undoing does not end with a flush")?;
        Ok(trace)
    }

    /// A copy of the undo file, which can be used up.
    fn copy(&self) -> Result<std::path::PathBuf, Failure> {
        let [from, to] = [SAVED, "copy"].map(|name| self.directory.path().join(name));
        // A fuzzer's signals end `std::fs::copy`; reading and writing go on.
        let saved = std::fs::read(from).map_err(Failure::new)?;
        std::fs::write(&to, saved).map_err(Failure::new)?;
        Ok(to)
    }

    fn disk(&self, bytes: &SparseBytes, faults: &[Fault]) -> SimulatedDisk {
        SimulatedDisk::new(bytes.clone(), self.before.capacity).with_faults(faults)
    }
}

/// The name of the undo file.
const SAVED: &str = "undo";

fn written(event: &Event) -> Option<Write> {
    match event {
        Event::Write { offset, bytes, .. } => Some((*offset, bytes.to_vec())),
        _ => None,
    }
}

/// What makes an event fail.
const fn operation(event: &Event) -> Operation {
    match event {
        Event::Flush | Event::FlushFailed => Operation::Flush,
        Event::SetLen { .. } => Operation::SetLen,
        _ => Operation::Write,
    }
}
