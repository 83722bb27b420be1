//! The states that a power cut may leave a disk in, built from the bytes before and a trace of what
//! was done since, whoever did it. What is assumed of disks: [`disk`](crate::disk).
//!
//! Between two flushes the possible states only become more, so it is enough to look at each
//! trace just before each flush and at its end: a cut at an earlier point is the case in which
//! what was written later is lost.

mod select;
mod volatile;

use std::fmt;
use std::ops::ControlFlow;

use crate::case::Crash;
use crate::case::damage::SparseBytes;
use crate::disk::{Event, Trace};
use volatile::{Item, Volatile};

/// Longest list of sectors in a description.
const LISTED_MAX: usize = 8;
/// Seeds tried to find one that stands for a given state.
const SEEDS_TRIED: u64 = 1 << 14;

/// How many states are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All states between two flushes where they are at most 2 to this.
    pub exhaustive_bits: u32,
    /// Where they are more: so many of each kind (one sector lost, one sector kept, cut after a
    /// write, cut within a write, random).
    pub samples: u32,
    /// Where the random ones begin.
    pub seed: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            exhaustive_bits: 10,
            samples: 64,
            seed: 1,
        }
    }
}

/// One state that a power cut may leave.
pub struct CrashState<'a> {
    /// The bytes, as they are read when the power is back.
    pub bytes: &'a SparseBytes,
    /// How many events of the trace had happened, at most.
    pub after: usize,
    items: &'a [&'a Item],
    selection: &'a [usize],
    between_events: bool,
}

impl CrashState<'_> {
    /// How a case names this state, so that it can be replayed; `None` where no seed was found, and
    /// between a durable write and what comes after it.
    pub fn crash(&self) -> Option<Crash> {
        if self.between_events {
            return None;
        }
        let mut seeds = (0..SEEDS_TRIED).chain([u64::MAX]);
        let kept = seeds.find(|&seed| select::random(self.items, seed) == self.selection)?;
        let after = u32::try_from(self.after).ok()?;
        Some(Crash { after, kept })
    }
}

impl fmt::Display for CrashState<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sectors = self.items.iter().filter(|item| item.offset.is_some());
        let (after, sectors) = (self.after, sectors.count());
        write!(
            f,
            "after a power cut within the first {after} writes and flushes, of {sectors} unflushed \
             sectors"
        )?;
        let choices = self.items.iter().zip(self.selection);
        let lost = choices.filter(|&(item, &choice)| choice != item.live);
        let lost: Vec<String> = lost
            .map(|(item, _)| match item.offset {
                Some(offset) => format!("{offset:#x}"),
                None => "the file's new length".to_owned(),
            })
            .collect();
        let listed = lost[..lost.len().min(LISTED_MAX)].join(", ");
        match lost.len() {
            0 => f.write_str(" none lost"),
            1..=LISTED_MAX => write!(f, " lost: {listed}"),
            more => write!(f, " lost: {listed} and {} more", more - LISTED_MAX),
        }
    }
}

/// Visits the states that a power cut may leave of bytes that were durable `before` this was done, these
/// bytes first, until `visit` breaks; how many there were, and what it broke with.
pub fn each<B>(
    before: &SparseBytes,
    trace: &Trace,
    limits: &Limits,
    mut visit: impl FnMut(&CrashState<'_>) -> ControlFlow<B>,
) -> (u64, Option<B>) {
    let mut states = 0;
    let mut show = |volatile: &Volatile, items: &[&Item], selection: &[usize]| {
        states += 1;
        let state = CrashState {
            bytes: &volatile.state(items, selection),
            after: volatile.events,
            items,
            selection,
            between_events: volatile.ended,
        };
        visit(&state)
    };
    let mut volatile = Volatile::new(before.clone());
    let mut search = || {
        show(&volatile, &[], &[])?;
        for event in &trace.events {
            if matches!(event, Event::Flush) && volatile.is_unsettled() {
                all(&volatile, limits, &mut show)?;
            }
            volatile.begin(event);
            if matches!(event, Event::Write { durable: true, .. }) {
                all(&volatile, limits, &mut show)?;
                volatile.end(event);
                // With it, but without what was written before it.
                let items = volatile.items();
                show(&volatile, &items, &vec![0; items.len()])?;
            }
        }
        all(&volatile, limits, &mut show)
    };
    let found = search();
    (states, found.break_value())
}

/// Shows what is possible now, except that nothing unsettled was kept: to a function of what is
/// possible, what a power cut decides, and how it decided.
fn all<B>(
    volatile: &Volatile,
    limits: &Limits,
    mut show: impl FnMut(&Volatile, &[&Item], &[usize]) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let items = volatile.items();
    let mut shown = |selection: &[usize]| show(volatile, &items, selection);
    select::each(&items, limits, &mut shown)
}

/// The state that a case names.
pub fn state(before: &SparseBytes, trace: &Trace, crash: Crash) -> SparseBytes {
    let after = crash.after as usize % (trace.events.len() + 1);
    let mut volatile = Volatile::new(before.clone());
    if let Some((last, done)) = trace.events[..after].split_last() {
        for event in done {
            volatile.begin(event);
            volatile.end(event);
        }
        // The power fails within the last event, before a durable write has become so.
        volatile.begin(last);
    }
    let items = volatile.items();
    volatile.state(&items, &select::random(&items, crash.kept))
}
