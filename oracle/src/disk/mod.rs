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

mod faults;
pub mod log;
mod trace;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use recount::storage::Operation;
use recount::{Offset, Storage, StorageError};

use crate::case::damage::{ReadWriteAt, SparseBytes};
use crate::case::{self, Fault, FaultKind};
use faults::Faults;

pub use faults::Operations;
pub use trace::{Event, Trace, Written};

/// Bytes of a sector of a real disk.
pub const SECTOR: u64 = 512;

/// Events of most repairs of a toy.
const EVENTS_USUAL: usize = 16;

/// The disk. A sector is what is written whole or not at all.
#[derive(Debug)]
pub struct SimulatedDisk {
    sector: u64,
    capacity: Option<u64>,
    live: SparseBytes,
    trace: Trace,
    faults: Faults,
    bytes_read: AtomicU64,
}

impl SimulatedDisk {
    /// A disk with these bytes on it, all durable. `sector` is in bytes; `capacity` the length in
    /// bytes that it can never exceed.
    ///
    /// # Panics
    ///
    /// If `sector` is 0.
    #[must_use]
    pub fn new(bytes: SparseBytes, sector: u64, capacity: Option<u64>) -> Self {
        assert!(sector > 0, "a sector has at least one byte");
        Self {
            sector,
            capacity,
            live: bytes,
            trace: Trace::with_capacity(EVENTS_USUAL),
            faults: Faults::default(),
            bytes_read: AtomicU64::new(0),
        }
    }

    /// The same disk, on which operations fail.
    #[must_use]
    pub fn with_faults(mut self, faults: &[Fault]) -> Self {
        self.faults = Faults::new(faults);
        self
    }

    /// The bytes as a program reads them now.
    #[must_use]
    pub const fn live(&self) -> &SparseBytes {
        &self.live
    }

    /// What was done so far.
    #[must_use]
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// How often each kind of operation was asked for.
    #[must_use]
    pub fn operations(&self) -> Operations {
        self.faults.seen()
    }

    /// The same, up to and with the first that failed; `None` while none has.
    #[must_use]
    pub fn operations_until_fault(&self) -> Option<Operations> {
        self.faults.until_first()
    }

    /// How many bytes the reads were for.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// How many operations failed because the schedule says so.
    #[must_use]
    pub fn faults_hit(&self) -> u32 {
        self.faults.hit()
    }

    /// The bytes as they are, and what was done.
    #[must_use]
    pub fn into_parts(self) -> (SparseBytes, Trace) {
        (self.live, self.trace)
    }

    /// How many of `length` bytes at `offset` are done when the operation fails half-way: whole
    /// sectors, not all of them.
    const fn short(&self, offset: u64, length: u64) -> u64 {
        let middle = offset.saturating_add(length / 2);
        (middle - middle % self.sector).saturating_sub(offset)
    }

    fn too_long(&self, end: Option<u64>) -> bool {
        match (end, self.capacity) {
            (None, _) => true,
            (Some(end), Some(capacity)) => end > capacity,
            (Some(_), None) => false,
        }
    }

    /// Writes what needs no asking any more, in the live bytes and in the trace.
    fn apply(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if !bytes.is_empty() {
            self.live.write_at(offset, bytes)?;
            let bytes = Written::from_slice(bytes);
            let durable = false;
            self.trace.push(Event::Write {
                offset,
                bytes,
                durable,
            });
        }
        Ok(())
    }

    fn try_write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        let fault = self.faults.next(case::Operation::Write);
        if self.too_long(offset.checked_add(length)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let done = match fault {
            None => return self.apply(offset, bytes),
            Some(FaultKind::NoSpace) => return Err(error_of(FaultKind::NoSpace)),
            Some(FaultKind::Io) => 0,
            Some(FaultKind::Short) => self.short(offset, length),
        };
        let (done, failed) = bytes.split_at(usize::try_from(done).map_err(io::Error::other)?);
        self.apply(offset, done)?;
        self.trace.push(Event::WriteFailed {
            offset: offset + done.len() as u64,
            bytes: Written::from_slice(failed),
        });
        Err(error_of(FaultKind::Io))
    }

    fn try_set_len(&mut self, length: u64) -> io::Result<()> {
        let fault = self.faults.next(case::Operation::SetLen);
        if self.too_long(Some(length)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let present = ReadWriteAt::len(&self.live);
        let (length, result) = match fault {
            None => (length, Ok(())),
            Some(FaultKind::Short) if length > present => {
                let done = self.short(present, length - present);
                (present + done, Err(error_of(FaultKind::Io)))
            }
            Some(kind) => return Err(error_of(kind)),
        };
        self.live.set_len(length)?;
        self.trace.push(Event::SetLen { length });
        result
    }

    fn try_discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset
            .saturating_add(length)
            .min(ReadWriteAt::len(&self.live));
        // Only whole sectors are given back.
        let first = offset.next_multiple_of(self.sector);
        let length = (end - end % self.sector).saturating_sub(first);
        if length > 0 {
            zero(&mut self.live, first, length)?;
            let offset = first;
            self.trace.push(Event::Discard { offset, length });
        }
        Ok(())
    }
}

/// Makes `length` bytes at `offset` zeros, within the bytes that there are. Only pages that are not
/// zeros already are touched, so that a discarded hole costs nothing.
fn zero(bytes: &mut SparseBytes, offset: u64, length: u64) -> io::Result<()> {
    let end = offset + length;
    let pages = bytes.pages();
    let pages = pages.map(|(start, page)| (start, start + page.len() as u64));
    let stretches: Vec<_> = pages
        .map(|(start, stop)| (start.max(offset), stop.min(end)))
        .filter(|(start, stop)| start < stop)
        .collect();
    for (start, stop) in stretches {
        let count = usize::try_from(stop - start).map_err(io::Error::other)?;
        bytes.write_at(start, &vec![0; count])?;
    }
    Ok(())
}

/// The error that a fault gives.
fn error_of(kind: FaultKind) -> io::Error {
    match kind {
        FaultKind::NoSpace => io::ErrorKind::StorageFull.into(),
        // EIO has no kind of its own.
        FaultKind::Io | FaultKind::Short => io::Error::from_raw_os_error(5),
    }
}

/// Names the operation that failed.
fn failed(
    operation: Operation,
    offset: Offset,
    length: u64,
) -> impl FnOnce(io::Error) -> StorageError {
    move |source| StorageError {
        operation,
        offset,
        length,
        source,
    }
}

impl Storage for SimulatedDisk {
    fn len(&self) -> u64 {
        ReadWriteAt::len(&self.live)
    }

    fn capacity(&self) -> Option<u64> {
        self.capacity
    }

    fn read_at(&self, offset: Offset, buffer: &mut [u8]) -> Result<(), StorageError> {
        let length = buffer.len() as u64;
        self.bytes_read.fetch_add(length, Ordering::Relaxed);
        let result = match self.faults.next(case::Operation::Read) {
            None => self.live.read_at(offset.0, buffer),
            Some(FaultKind::Short) => {
                let (read, _) = buffer.split_at_mut(buffer.len() / 2);
                self.live
                    .read_at(offset.0, read)
                    .and(Err(error_of(FaultKind::Short)))
            }
            Some(kind) => Err(error_of(kind)),
        };
        result.map_err(failed(Operation::Read, offset, length))
    }

    fn next_data(&self, offset: Offset) -> Option<Offset> {
        self.live.next_data(offset.0).map(Offset)
    }

    fn write_at(&mut self, offset: Offset, bytes: &[u8]) -> Result<(), StorageError> {
        self.try_write(offset.0, bytes).map_err(failed(
            Operation::Write,
            offset,
            bytes.len() as u64,
        ))
    }

    fn set_len(&mut self, length: u64) -> Result<(), StorageError> {
        let change = Offset(length);
        self.try_set_len(length)
            .map_err(failed(Operation::SetLen, change, length))
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        match self.faults.next(case::Operation::Flush) {
            None => {
                self.trace.push(Event::Flush);
                Ok(())
            }
            Some(kind) => {
                self.trace.push(Event::FlushFailed);
                Err(failed(Operation::Flush, Offset(0), 0)(error_of(kind)))
            }
        }
    }

    fn discard(&mut self, offset: Offset, length: u64) -> Result<(), StorageError> {
        self.try_discard(offset.0, length)
            .map_err(failed(Operation::Discard, offset, length))
    }
}
