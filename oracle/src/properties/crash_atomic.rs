//! `crash-atomic`: after a power cut at any point, with any subset of unflushed sectors lost, the
//! header leads to the old structures, untouched, or to the new ones, whole; and what is in use is
//! there. Where the old structures are damaged or absent, untouched means the bytes that were there.
//!
//! When a repair has said that it is done, nothing that it wrote is lost any more.
//!
//! A repair that leaves the structures where they are corrects refcounts one by one: then none is
//! lower than both before and after. And no entry says that a shared cluster has one reference that
//! did not say so before.

use std::ops::ControlFlow;

use super::leaves_data_alone::Guard;
use super::reading::{Found, Reading};
use super::{Failure, Verdict};
use crate::audit::Referrer;
use crate::case::damage::SparseBytes;
use crate::crash::{self, CrashState, Limits};
use crate::disk::{Event, Trace};
use crate::run::{Before, Run};
use crate::toy::ToyStructure;

/// Of all states that a power cut may leave, whoever made the trace, and how many were looked at.
/// `whole` is what the audit says of a run of the same repair in which nothing went wrong; `None`
/// when that wrote no structures.
pub fn judge(
    before: &Before,
    trace: &Trace,
    whole: Option<&Reading>,
    limits: &Limits,
) -> (u64, Verdict) {
    if trace.is_read_only() {
        return (0, Verdict::Holds);
    }
    let judge = StateJudge::new(before, trace, whole);
    let visit = |state: &CrashState<'_>| match judge.state(state.bytes) {
        Ok(()) => ControlFlow::Continue(()),
        Err(failure) => ControlFlow::Break(Failure::new(format!("{state}: {failure}"))),
    };
    let (states, failure) = crash::each(&before.bytes, trace, limits, visit);
    (states, failure.map_or(Verdict::Holds, Verdict::Fails))
}

/// Whether what a repair has done lasts once it has said that it is done.
pub fn lasts(run: &Run) -> Result<(), Failure> {
    let volatile = |event: &Event| matches!(event, Event::Write { durable: false, .. });
    let last = run.trace.events.iter().rev();
    let mut last = last.take_while(|event| !event.is_flush());
    Failure::unless(run.outcome.is_err() || !last.any(volatile), || {
        "the repair ends with writes that no flush follows: a power cut after it has said that it is \
         done takes them back"
    })
}

/// Judges states that a run may leave.
pub(crate) struct StateJudge<'a> {
    before: &'a Before,
    whole: Option<&'a Reading>,
    guard: Guard<'a>,
}

impl<'a> StateJudge<'a> {
    pub(crate) fn new(before: &'a Before, trace: &Trace, whole: Option<&'a Reading>) -> Self {
        Self {
            before,
            whole,
            guard: Guard::new(before, trace, true),
        }
    }

    pub(crate) fn state(&self, bytes: &SparseBytes) -> Result<(), Failure> {
        self.guard.check(bytes)?;
        let state = self.before.kind.read(bytes).map_err(Failure::new)?;
        let old = self.before.reading.pointer();
        if self.whole.is_some_and(|whole| whole.pointer() == old) {
            self.in_place(&state)
        } else if state.pointer() == old {
            self.untouched(bytes)
        } else {
            self.is_whole(&state)
        }
    }

    /// The header leads to the old structures: their bytes are as they were.
    fn untouched(&self, bytes: &SparseBytes) -> Result<(), Failure> {
        let old = &self.before.reading;
        let size = old.cluster_size() as usize;
        let end = self.before.bytes.len();
        // The header is no structure: what takes it for one reads whatever a repair writes there.
        for &cluster in old.own.keys().filter(|&&cluster| cluster != 0) {
            let start = cluster << old.cluster_bits;
            let same = || bytes.bytes(start, size) == self.before.bytes.bytes(start, size);
            Failure::unless(start >= end || same(), || {
                format!(
                    "the header leads to the old structures, but their cluster {cluster} has \
                     changed: {}",
                    old.referrers(cluster)
                )
            })?;
        }
        Ok(())
    }

    /// The header leads elsewhere: to new structures that are all there.
    fn is_whole(&self, state: &Reading) -> Result<(), Failure> {
        let (offset, clusters) = state.pointer();
        let header =
            format!("the header leads to a reftable of {clusters} clusters at {offset:#x}");
        let whole = self.whole;
        let Some(whole) = whole.filter(|whole| whole.pointer() == state.pointer()) else {
            return Err(Failure::new(format!(
                "{header}, which is neither the old nor the new one"
            )));
        };
        match (&state.found, &whole.found) {
            (Found::Toy(state), Found::Toy(whole)) => Failure::unless(state == whole, || {
                format!("{header}, the new one, {}", difference(state, whole))
            }),
            _ => sound(state, &header),
        }
    }

    /// The structures stay where they are, and refcounts in them change.
    fn in_place(&self, state: &Reading) -> Result<(), Failure> {
        let old = &self.before.reading;
        Failure::unless(
            state.pointer() == old.pointer(),
            || "the header's pointer to the reftable changed",
        )?;
        for (&cluster, &was) in old.counts() {
            let end = self.whole.and_then(|whole| whole.count(cluster));
            let is = state.count(cluster);
            let least = was.min(end.unwrap_or(was));
            Failure::unless(is.is_some_and(|is| is >= least), || {
                let said =
                    |count: Option<u64>| count.map_or("none".to_owned(), |it| it.to_string());
                let (is, end, by) = (said(is), said(end), state.referrers(cluster));
                format!(
                    "the refcount of cluster {cluster} went from {was} to {is} on the way to {end}: {by}"
                )
            })?;
        }
        Ok(())
    }
}

/// New structures of an image: no entry leads to the wrong place, and nothing in use counts as
/// having fewer references than it has.
fn sound(state: &Reading, header: &str) -> Result<(), Failure> {
    let Some(audit) = state.counted() else {
        return Ok(());
    };
    let mut corruptions = audit.corruptions.iter();
    if let Some(wrong) = corruptions.find(|corruption| corruption.referrer.is_structure()) {
        return Err(Failure::new(format!("{header}, the new one, and {wrong}")));
    }
    // What an entry that reads as zeros leads to may be free: the entry is replaced.
    let is_empty = |by: &&Referrer| audit.empty.iter().any(|entry| entry.referrer == **by);
    for wrong in audit.mismatches.iter().filter(|wrong| !wrong.is_leak()) {
        let by = &audit.references[&wrong.cluster];
        let replaced = by.iter().filter(is_empty).count() as u64;
        let least = (by.len() as u64 - replaced).min(state.max_refcount);
        Failure::unless(wrong.on_disk >= least, || {
            format!(
                "{header}, the new one, but the refcount of cluster {} is {} and it has {} \
                 references: {}",
                wrong.cluster,
                wrong.on_disk,
                wrong.references,
                state.referrers(wrong.cluster)
            )
        })?;
    }
    Ok(())
}

/// What a toy's structures lack.
fn difference(state: &ToyStructure, whole: &ToyStructure) -> String {
    for (range, offset) in &whole.refblocks {
        let found = state.refblocks.get(range);
        if found != Some(offset) {
            let found = found.map_or("0".to_owned(), |found| format!("{found:#x}"));
            return format!("but its entry {range} is {found} and should be {offset:#x}");
        }
    }
    for (cluster, count) in &whole.counts {
        let found = state.counts.get(cluster).copied().unwrap_or(0);
        if found != *count {
            return format!("but the refcount of cluster {cluster} is {found}, not {count}");
        }
    }
    "but it has entries or refcounts that should be 0".to_owned()
}
