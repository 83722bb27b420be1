//! Reads the log of writes and flushes that the Linux target dm-log-writes and QEMU's driver
//! `blklogwrites` keep, so that other programs' crash states are built as our own are.
//!
//! The log is little-endian (source: the kernel's documentation of dm-log-writes). Its first sector
//! is a super block: magic, version, number of entries as 64-bit numbers, sector size as a 32-bit
//! one. Then, for each entry, a sector with four 64-bit numbers (first sector, number of sectors,
//! flags, bytes of data that belong to the entry itself), followed by the sectors written.

use super::{Event, Trace, Written};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
/// Bytes of a sector that the numbers of an entry are in, whatever the log's own sector size is.
const SECTOR: u64 = 512;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

/// Why a log cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The first eight bytes are something else.
    #[error("not a log of writes: it begins with {found:#x}, not {MAGIC:#x}")]
    Magic {
        /// What it begins with.
        found: u64,
    },
    /// A version that is not known.
    #[error("the log has version {found}; version {VERSION} can be read")]
    Version {
        /// Its version.
        found: u64,
    },
    /// The sector size is no power of two from 512 bytes on.
    #[error("the log has sectors of {found} bytes")]
    SectorSize {
        /// Its sector size in bytes.
        found: u64,
    },
    /// It ends before the number of entries that it announces.
    #[error("the log ends within entry {entry} of {entries}")]
    Truncated {
        /// Which entry, from 0.
        entry: u64,
        /// How many there should be.
        entries: u64,
    },
    /// Flags that are not known.
    #[error("entry {entry} of the log has unknown flags {flags:#x}")]
    Flags {
        /// Which entry, from 0.
        entry: u64,
        /// Its flags.
        flags: u64,
    },
}

/// What the log says was done, in order.
pub fn read(log: &[u8]) -> Result<Trace, LogError> {
    let short = LogError::Truncated {
        entry: 0,
        entries: 0,
    };
    let found = number(log, 0, 8).ok_or(short)?;
    if found != MAGIC {
        return Err(LogError::Magic { found });
    }
    let found = number(log, 8, 8).ok_or(short)?;
    if found != VERSION {
        return Err(LogError::Version { found });
    }
    let entries = number(log, 16, 8).ok_or(short)?;
    let sector = number(log, 24, 4).ok_or(short)?;
    if !sector.is_power_of_two() || sector < SECTOR {
        return Err(LogError::SectorSize { found: sector });
    }
    let mut trace = Trace::default();
    let mut at = sector;
    for entry in 0..entries {
        let truncated = LogError::Truncated { entry, entries };
        at = read_entry(log, at, sector, entry, &mut trace)?.ok_or(truncated)?;
    }
    Ok(trace)
}

/// Reads the entry at byte `at`; where the next one begins, `None` when the log ends within it.
fn read_entry(
    log: &[u8],
    at: u64,
    sector: u64,
    entry: u64,
    trace: &mut Trace,
) -> Result<Option<u64>, LogError> {
    let field = |index: u64| number(log, at.checked_add(index * 8)?, 8);
    let (Some(first), Some(count), Some(flags)) = (field(0), field(1), field(2)) else {
        return Ok(None);
    };
    if flags & !(FLUSH | FUA | DISCARD | MARK) != 0 {
        return Err(LogError::Flags { entry, flags });
    }
    let next = at.saturating_add(sector);
    // A mark is a note to the reader; its text, if any, lies in the entry's own sector.
    if flags & MARK != 0 {
        return Ok(Some(next));
    }
    // What comes with a flush was written after it.
    if flags & FLUSH != 0 {
        trace.push(Event::Flush);
    }
    let offset = first.saturating_mul(sector);
    let length = count.saturating_mul(sector);
    if count == 0 {
        return Ok(Some(next));
    }
    if flags & DISCARD != 0 {
        trace.push(Event::Discard { offset, length });
        return Ok(Some(next));
    }
    let Some(bytes) = slice(log, next, length) else {
        return Ok(None);
    };
    trace.push(Event::Write {
        offset,
        bytes: Written::from_slice(bytes),
        durable: flags & FUA != 0,
    });
    Ok(Some(next.saturating_add(length)))
}

/// `length` bytes at `at`; `None` past the end.
fn slice(log: &[u8], at: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(at).ok()?;
    let end = usize::try_from(at.checked_add(length)?).ok()?;
    log.get(start..end)
}

/// A little-endian number.
fn number(log: &[u8], at: u64, bytes: u64) -> Option<u64> {
    let bytes = slice(log, at, bytes)?;
    let sum = |sum, &byte| sum << 8 | u64::from(byte);
    Some(bytes.iter().rev().fold(0, sum))
}
