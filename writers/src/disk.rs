//! The disk that a writer has open while the driver looks at it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::{Crash, Fault, Operation, Times};
use recount_oracle::crash;
use recount_oracle::disk::{Disk, Event, SimulatedDisk, Trace};

use crate::data_file::DATA_FILE;
use crate::start::BACKING;

/// A handle of a simulated disk. All clones are the same disk.
#[derive(Clone, Debug)]
pub struct SharedDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    disk: SimulatedDisk,
    /// What survives a power cut for certain.
    durable: SparseBytes,
    /// How many events of the trace have led to that.
    settled: usize,
    /// What fails, counted from the first operation on the disk.
    faults: Vec<Fault>,
    /// Whether the program under test has them fail, as it does not work on this disk.
    is_elsewhere: bool,
    /// How many operations it told to have failed, by the number of their kind.
    told: BTreeMap<usize, u32>,
    backing: Option<Arc<SparseBytes>>,
    data_file: Option<SharedDisk>,
}

impl State {
    fn new(bytes: SparseBytes) -> Self {
        Self {
            disk: SimulatedDisk::new(bytes.clone(), None),
            durable: bytes,
            settled: 0,
            faults: Vec::new(),
            is_elsewhere: false,
            told: BTreeMap::new(),
            backing: None,
            data_file: None,
        }
    }

    /// These bytes from now on, all durable, and nothing that fails.
    fn renew(&mut self, bytes: SparseBytes) {
        *self = Self {
            is_elsewhere: self.is_elsewhere,
            backing: self.backing.take(),
            data_file: self.data_file.take(),
            ..Self::new(bytes)
        };
    }
}

impl State {
    /// How many operations of a kind there were.
    fn asked(&self, operation: Operation) -> u32 {
        let number = operation as usize;
        self.disk.asked().operations[number] + self.told.get(&number).copied().unwrap_or_default()
    }

    /// Has these operations fail, and no others.
    fn arm(&mut self, faults: &[Fault]) {
        let disk = SimulatedDisk::new(SparseBytes::default(), None);
        let disk = std::mem::replace(&mut self.disk, disk);
        self.disk = disk.with_faults(faults);
    }
}

impl SharedDisk {
    /// A disk with these bytes on it, all durable. It can grow.
    pub fn new(bytes: SparseBytes) -> Self {
        Self(Arc::new(Mutex::new(State::new(bytes))))
    }

    /// The same of an image that may have a backing file and an external data file.
    pub(crate) fn beside(
        bytes: SparseBytes,
        backing: Option<SparseBytes>,
        data_file: Option<SparseBytes>,
    ) -> Self {
        let disk = Self::new(bytes);
        {
            let mut state = disk.state();
            state.backing = backing.map(Arc::new);
            state.data_file = data_file.map(Self::new);
        }
        disk
    }

    /// The external data file, where the image has one: a disk of its own, which never fails.
    pub fn data_file(&self) -> Option<Self> {
        self.state().data_file.clone()
    }

    /// The bytes of the raw backing file, where the image has one. Nobody writes to it.
    pub fn backing(&self) -> Option<Arc<SparseBytes>> {
        self.state().backing.clone()
    }

    /// The bytes as a program reads them now.
    pub fn bytes(&self) -> SparseBytes {
        self.state().disk.live().clone()
    }

    /// Stores the bytes in a file, which is made anew, for a program that works on files only; where
    /// there is a backing file or an external data file, it is stored in the same folder.
    pub fn store(&self, path: &Path) -> io::Result<()> {
        if let Some(backing) = self.backing() {
            backing.store(&path.with_file_name(BACKING))?;
        }
        if let Some(data_file) = self.data_file() {
            data_file.store(&path.with_file_name(DATA_FILE))?;
        }
        self.bytes().store(path)
    }

    /// Takes over the bytes of a file as all durable: nobody knows in which order they were written, so
    /// there are no power cuts to look at. An external data file is taken from the same folder.
    pub fn load(&self, path: &Path) -> io::Result<()> {
        if let Some(data_file) = self.data_file() {
            data_file.load(&path.with_file_name(DATA_FILE))?;
        }
        let mut bytes = SparseBytes::default();
        bytes.write_at(0, &std::fs::read(path)?)?;
        self.state().renew(bytes);
        Ok(())
    }

    /// What is to fail from now on, counted from now, for a program that works on a file and not on this
    /// disk: the program has to see to it, and this disk fails no more.
    pub fn faults(&self) -> Vec<Fault> {
        let state = &mut *self.state();
        if !std::mem::replace(&mut state.is_elsewhere, true) {
            state.arm(&[]);
        }
        let faults = state.faults.iter();
        let faults = faults.filter_map(|&fault| rest(fault, state.asked(fault.operation)));
        faults.collect()
    }

    /// Counts an operation that has failed as [`SharedDisk::faults`] said: from now on operations of the
    /// writer may fail.
    pub fn tell_failure(&self, operation: Operation) {
        *self.state().told.entry(operation as usize).or_default() += 1;
    }

    /// Has an operation on the disk fail, counted from now on, beside those that do so already.
    pub(crate) fn fail(&self, fault: Fault) {
        let state = &mut *self.state();
        state.faults.push(Fault {
            nth: state.asked(fault.operation) + fault.nth,
            ..fault
        });
        if !state.is_elsewhere {
            state.arm(&state.faults.clone());
        }
    }

    /// How many operations on the disk have failed since it was new or mended.
    pub(crate) fn failed(&self) -> u32 {
        let state = self.state();
        state.disk.asked().faults_hit + state.told.values().sum::<u32>()
    }

    /// No operation fails any more, and the bytes are durable as they are.
    pub(crate) fn mend(&self) {
        let mut state = self.state();
        let bytes = state.disk.live().clone();
        state.renew(bytes);
    }

    /// Does what another program has done to a copy of the bytes, by a log of it
    /// ([`log::read`](recount_oracle::disk::log::read)), so that its power cuts are looked at too. What
    /// was durable at once is flushed, with all before it, which leaves fewer states than there were.
    pub fn replay(&mut self, trace: &Trace) -> io::Result<()> {
        for event in &trace.events {
            match event {
                Event::Write {
                    offset,
                    bytes,
                    durable,
                } => {
                    self.write_at(*offset, bytes)?;
                    if *durable {
                        self.flush()?;
                    }
                }
                Event::Discard { offset, length } => self.discard(*offset, *length)?,
                Event::SetLen { length } => self.set_len(*length)?,
                Event::Flush => self.flush()?,
                // It changed nothing that is certain.
                Event::WriteFailed { .. } | Event::FlushFailed => (),
            }
        }
        Ok(())
    }

    /// What is durable for certain, and what was done since. What failed was not done: a disk that does
    /// some of it later, or forgets what a failed flush was for, leaves hardly anybody a way to go on.
    pub(crate) fn since_flush(&self) -> (SparseBytes, Trace) {
        let state = self.state();
        let trace = done(&state.disk.trace().events[state.settled..]);
        (state.durable.clone(), trace)
    }

    /// Forgets everything before the last flush: no power cut undoes it.
    pub(crate) fn settle(&self) {
        let state = &mut *self.state();
        let events = &state.disk.trace().events[state.settled..];
        let last = events.iter().rposition(|event| *event == Event::Flush);
        if let Some(last) = last {
            let trace = done(&events[..=last]);
            state.durable = crash::state(&state.durable, &trace, end(&trace, u64::MAX));
            state.settled += last + 1;
        }
    }

    /// Nothing leaves a state half changed, so that a writer that panicked has not either.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is left of a fault after so many operations of its kind, counted from there.
fn rest(fault: Fault, asked: u32) -> Option<Fault> {
    let (nth, times) = match (asked.checked_sub(fault.nth), fault.times) {
        (None | Some(0), times) => (fault.nth - asked, times),
        (Some(1), Times::Twice) => (0, Times::Once),
        (_, Times::Forever) => (0, Times::Forever),
        _ => return None,
    };
    Some(Fault {
        nth,
        times,
        ..fault
    })
}

/// What has not failed.
fn done(events: &[Event]) -> Trace {
    let failed = |event: &&Event| matches!(event, Event::WriteFailed { .. } | Event::FlushFailed);
    let done = events.iter().filter(|event| !failed(event));
    Trace {
        events: done.cloned().collect(),
    }
}

/// A power cut after all of a trace, which keeps none of what is not flushed (0) or all of it
/// (`u64::MAX`).
pub(crate) fn end(trace: &Trace, kept: u64) -> Crash {
    let after = u32::try_from(trace.events.len()).unwrap_or(u32::MAX);
    Crash { after, kept }
}

impl Disk for SharedDisk {
    fn len(&self) -> u64 {
        self.state().disk.len()
    }

    fn capacity(&self) -> Option<u64> {
        self.state().disk.capacity()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.state().disk.read_at(offset, buffer)
    }

    fn next_data(&self, offset: u64) -> Option<u64> {
        self.state().disk.next_data(offset)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.state().disk.write_at(offset, bytes)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.state().disk.set_len(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.state().disk.flush()
    }

    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.state().disk.discard(offset, length)
    }
}

#[cfg(test)]
mod tests {
    use recount_oracle::case::FaultKind;

    use super::*;

    #[test]
    fn what_was_flushed_is_settled_and_what_was_not_is_still_to_be_decided() {
        let mut disk = SharedDisk::new(SparseBytes::zeros(1024));
        disk.write_at(0, &[1; 512]).unwrap();
        disk.flush().unwrap();
        disk.clone().write_at(512, &[2; 512]).unwrap();
        disk.settle();
        let (durable, trace) = disk.since_flush();
        assert_eq!(durable.bytes(0, 1024), [[1; 512], [0; 512]].concat());
        assert_eq!(trace.events.len(), 1);
        assert_eq!(disk.bytes().bytes(512, 512), [2; 512]);
    }

    #[test]
    fn a_replayed_log_leaves_what_the_program_left() {
        let mut other = SharedDisk::new(SparseBytes::zeros(1024));
        other.write_at(512, &[2; 512]).unwrap();
        other.discard(512, 512).unwrap();
        other.write_at(0, &[3; 512]).unwrap();
        other.set_len(2048).unwrap();
        other.flush().unwrap();
        let (_, trace) = other.since_flush();
        let mut disk = SharedDisk::new(SparseBytes::zeros(1024));
        disk.replay(&trace).unwrap();
        assert_eq!(disk.bytes(), other.bytes());
        assert_eq!(disk.since_flush(), other.since_flush());
    }

    #[test]
    fn what_a_program_has_fail_is_counted_on_from_what_it_did() {
        let mut disk = SharedDisk::new(SparseBytes::zeros(1024));
        let fault = |nth, times| Fault {
            operation: Operation::Write,
            nth,
            error: FaultKind::Io,
            times,
        };
        disk.fail(fault(1, Times::Twice));
        assert_eq!(disk.faults(), [fault(1, Times::Twice)]);
        disk.write_at(0, &[1; 512]).unwrap();
        disk.fail(fault(3, Times::Once));
        let both = [fault(0, Times::Twice), fault(3, Times::Once)];
        assert_eq!(disk.faults(), both);
        assert_eq!(disk.failed(), 0);
        // The program is to have this one fail, not the disk.
        disk.write_at(0, &[1; 512]).unwrap();
        disk.tell_failure(Operation::Write);
        assert_eq!(disk.failed(), 1);
        assert_eq!(disk.faults(), [fault(1, Times::Once)]);
        disk.mend();
        assert!(disk.faults().is_empty());
        assert_eq!(disk.failed(), 0);
    }

    #[test]
    fn what_was_durable_at_once_is_flushed_when_it_is_replayed() {
        let write = Event::Write {
            offset: 0,
            bytes: [4; 512][..].into(),
            durable: true,
        };
        let trace = Trace {
            events: vec![write],
        };
        let mut disk = SharedDisk::new(SparseBytes::zeros(512));
        disk.replay(&trace).unwrap();
        disk.settle();
        let (durable, trace) = disk.since_flush();
        assert_eq!(durable.bytes(0, 512), [4; 512]);
        assert!(trace.events.is_empty());
    }
}
