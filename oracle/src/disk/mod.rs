//! A disk that forgets what was not flushed and fails when told to, and remembers all that was done
//! to it.
//!
//! What a repair must survive (crash-atomic and fault-safe say how):
//! - **Power cuts** after any write or flush. Of the sectors written since the last flush any
//!   subset is lost, in any order; a sector written twice may come back with either content. A
//!   sector is never torn, a write of several sectors may be. The length of the file is lost
//!   or kept by itself: what was written past a lost length is gone, and a length that was kept
//!   without the bytes reads as zeros.
//! - **Failing reads, writes, flushes and changes of length**, once, twice, for ever. A write that
//!   fails has done nothing that can be read back, or a prefix of its sectors; but every sector of
//!   it may still reach the disk later, as the device may have failed to report rather than to
//!   write.
//! - **A failed flush** makes nothing durable, and what was unflushed then may be lost even when a
//!   later flush succeeds, unless it is written again. Linux marks the pages of a failed write-back
//!   as clean, so the next fsync has nothing to write and says that all is well. That is the
//!   pessimistic choice: a disk that keeps them dirty only leaves fewer states to survive.
//! - **A device that cannot grow** refuses what lies past its capacity, and does none of it.
//! - **Discarded bytes** read as zeros at once, and after a power cut as zeros or as before.
//!
//! What a repair need not survive: a flush that lies, a sector that changes without being written,
//! a write that ends up elsewhere, a read that returns wrong bytes without an error.
//!
//! Durable copies are not kept: they follow from the bytes before and the trace
//! ([`crash`](crate::crash)), in the same way for this disk and for the log of another program.

pub mod log;
mod trace;

use std::io;
use std::sync::{Mutex, MutexGuard};

use crate::case::damage::SparseBytes;
use crate::case::{self, Fault, FaultKind, Times};

pub use trace::{Event, Trace, Written};

/// Bytes of a sector, which is written whole or not at all.
pub const SECTOR: u64 = 512;

/// What has an image on it. All offsets and lengths are in bytes.
#[expect(
    clippy::len_without_is_empty,
    reason = "what holds no bytes has no image"
)]
pub trait Disk: Send + Sync {
    /// How long it is.
    fn len(&self) -> u64;
    /// How long it can ever be; `None` when it can grow.
    fn capacity(&self) -> Option<u64>;
    /// Fills the buffer; what lies past the end reads as zeros.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// The first byte from there on that may be other than zero; `None` when there is none.
    fn next_data(&self, offset: u64) -> Option<u64> {
        (offset < self.len()).then_some(offset)
    }
    /// Writes, past the end too where it can grow.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts it, or makes it longer by zeros.
    fn set_len(&mut self, length: u64) -> io::Result<()>;
    /// Makes all that was written durable.
    fn flush(&mut self) -> io::Result<()>;
    /// Says that the content of these bytes is of no use any more.
    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()>;
}

/// The disk.
#[derive(Debug)]
pub struct SimulatedDisk {
    capacity: Option<u64>,
    live: SparseBytes,
    trace: Trace,
    faults: Vec<Fault>,
    /// Reads are counted behind a shared reference.
    asked: Mutex<Asked>,
}

/// How often each kind of operation was asked for: the place of a kind is its number.
pub type Operations = [u32; 4];

/// What was asked of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Bytes that the reads were for.
    pub bytes_read: u64,
    /// All operations.
    pub operations: Operations,
    /// Those up to and with the first that failed because the schedule says so.
    pub until_fault: Operations,
    /// How many operations failed because the schedule says so.
    pub faults_hit: u32,
}

impl SimulatedDisk {
    /// A disk with these bytes on it, all durable; `capacity` is the length in bytes that it can never
    /// exceed.
    pub fn new(bytes: SparseBytes, capacity: Option<u64>) -> Self {
        Self {
            capacity,
            live: bytes,
            trace: Trace::default(),
            faults: Vec::new(),
            asked: Mutex::default(),
        }
    }

    /// The same disk, on which operations fail.
    pub fn with_faults(mut self, faults: &[Fault]) -> Self {
        self.faults = faults.to_vec();
        self
    }

    /// The bytes as a program reads them now.
    pub const fn live(&self) -> &SparseBytes {
        &self.live
    }

    /// What was done so far.
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What was asked of it so far.
    pub fn asked(&self) -> Asked {
        *self.counters()
    }

    /// The bytes as they are, and what was done.
    pub fn into_parts(self) -> (SparseBytes, Trace) {
        (self.live, self.trace)
    }

    fn counters(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().expect("nothing panics while it counts")
    }

    /// Counts one more operation of a kind; how it fails, if it does.
    fn fault(&self, operation: case::Operation) -> Option<FaultKind> {
        let mut asked = self.counters();
        let nth = asked.operations[operation as usize];
        asked.operations[operation as usize] += 1;
        if asked.faults_hit == 0 {
            asked.until_fault = asked.operations;
        }
        let is_due = |fault: &&Fault| {
            let times = match fault.times {
                Times::Once => 1,
                Times::Twice => 2,
                Times::Forever => u32::MAX,
            };
            let late = nth.checked_sub(fault.nth);
            fault.operation == operation && late.is_some_and(|late| late < times)
        };
        let fault = self.faults.iter().find(is_due)?;
        asked.faults_hit += 1;
        Some(fault.error)
    }

    /// Refuses what ends past the capacity.
    fn check_end(&self, end: Option<u64>) -> io::Result<()> {
        match end {
            Some(end) if end <= self.capacity.unwrap_or(u64::MAX) => Ok(()),
            _ => Err(io::ErrorKind::StorageFull.into()),
        }
    }
}

/// How many of `length` bytes at `offset` are done when the operation fails half-way: whole sectors,
/// not all of them.
const fn short(offset: u64, length: u64) -> u64 {
    let middle = offset.saturating_add(length / 2);
    (middle - middle % SECTOR).saturating_sub(offset)
}

/// How an operation ends that a fault strikes, or none.
fn outcome(fault: Option<FaultKind>) -> io::Result<()> {
    match fault {
        None => Ok(()),
        Some(FaultKind::NoSpace) => Err(io::ErrorKind::StorageFull.into()),
        // EIO has no kind of its own.
        Some(FaultKind::Io | FaultKind::Short) => Err(io::Error::from_raw_os_error(5)),
    }
}

impl Disk for SimulatedDisk {
    fn len(&self) -> u64 {
        self.live.len()
    }

    fn capacity(&self) -> Option<u64> {
        self.capacity
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.counters().bytes_read += buffer.len() as u64;
        let fault = self.fault(case::Operation::Read);
        let read = match fault {
            None => buffer.len(),
            Some(FaultKind::Short) => buffer.len() / 2,
            Some(_) => 0,
        };
        self.live.read_at(offset, &mut buffer[..read]);
        outcome(fault)
    }

    fn next_data(&self, offset: u64) -> Option<u64> {
        self.live.next_data(offset)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        let fault = self.fault(case::Operation::Write);
        self.check_end(offset.checked_add(length))?;
        let done = match fault {
            None => length,
            Some(FaultKind::Short) => short(offset, length),
            Some(FaultKind::Io | FaultKind::NoSpace) => 0,
        };
        let (begun, failed) = bytes.split_at(done as usize);
        if !begun.is_empty() {
            self.live.write_at(offset, begun)?;
            self.trace.events.push(Event::Write {
                offset,
                bytes: Written::from_slice(begun),
                durable: false,
            });
        }
        if matches!(fault, Some(FaultKind::Io | FaultKind::Short)) {
            self.trace.events.push(Event::WriteFailed {
                offset: offset + done,
                bytes: Written::from_slice(failed),
            });
        }
        outcome(fault)
    }

    fn set_len(&mut self, mut length: u64) -> io::Result<()> {
        let fault = self.fault(case::Operation::SetLen);
        self.check_end(Some(length))?;
        let present = self.live.len();
        match fault {
            None => (),
            Some(FaultKind::Short) if length > present => {
                length = present + short(present, length - present);
            }
            Some(_) => return outcome(fault),
        }
        self.live.set_len(length);
        self.trace.events.push(Event::SetLen { length });
        outcome(fault)
    }

    fn flush(&mut self) -> io::Result<()> {
        let fault = self.fault(case::Operation::Flush);
        self.trace.events.push(match fault {
            None => Event::Flush,
            Some(_) => Event::FlushFailed,
        });
        outcome(fault)
    }

    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset.saturating_add(length).min(self.live.len());
        // Only whole sectors are given back.
        let (offset, end) = (offset.next_multiple_of(SECTOR), end - end % SECTOR);
        if offset >= end {
            return Ok(());
        }
        // Pages that are zeros already are not touched, so that a discarded hole costs nothing.
        let pages = self.live.pages();
        let stretches = pages.map(|(start, page)| {
            let stop = start + page.len() as u64;
            start.max(offset)..stop.min(end)
        });
        for stretch in stretches.collect::<Vec<_>>() {
            if !stretch.is_empty() {
                let zeros = vec![0; (stretch.end - stretch.start) as usize];
                self.live.write_at(stretch.start, &zeros)?;
            }
        }
        let length = end - offset;
        self.trace.events.push(Event::Discard { offset, length });
        Ok(())
    }
}
