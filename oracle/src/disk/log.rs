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

/// Why a log cannot be read. Entries count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum LogError {
    /// The first eight bytes are something else.
    #[error("not a log of writes: it begins with {found:#x}, not {MAGIC:#x}")]
    Magic { found: u64 },
    /// A version that is not known.
    #[error("the log has version {found}; version {VERSION} can be read")]
    Version { found: u64 },
    /// The sector size is no power of two from 512 bytes on.
    #[error("the log has sectors of {found} bytes")]
    SectorSize { found: u64 },
    /// It ends before the number of entries that it announces.
    #[error("the log ends within entry {entry} of {entries}")]
    Truncated { entry: u64, entries: u64 },
    /// Flags that are not known.
    #[error("entry {entry} of the log has unknown flags {flags:#x}")]
    Flags { entry: u64, flags: u64 },
}

/// What the log says was done, in order.
pub fn read(log: &[u8]) -> Result<Trace, LogError> {
    let head = |at, bytes| {
        let (entry, entries) = (0, 0);
        number(log, at, bytes).ok_or(LogError::Truncated { entry, entries })
    };
    let found = head(0, 8)?;
    if found != MAGIC {
        return Err(LogError::Magic { found });
    }
    let found = head(8, 8)?;
    if found != VERSION {
        return Err(LogError::Version { found });
    }
    let (entries, sector) = (head(16, 8)?, head(24, 4)?);
    if !sector.is_power_of_two() || sector < SECTOR {
        return Err(LogError::SectorSize { found: sector });
    }
    let mut trace = Trace::default();
    let mut at = sector;
    for entry in 0..entries {
        let numbers = [0, 8, 16].map(|field| number(log, at.checked_add(field)?, 8));
        let truncated = LogError::Truncated { entry, entries };
        let [Some(first), Some(count), Some(flags)] = numbers else {
            return Err(truncated);
        };
        if flags & !(FLUSH | FUA | DISCARD | MARK) != 0 {
            return Err(LogError::Flags { entry, flags });
        }
        at = at.saturating_add(sector);
        // A mark is a note to the reader; its text, if any, lies in the entry's own sector.
        if flags & MARK != 0 {
            continue;
        }
        // What comes with a flush was written after it.
        if flags & FLUSH != 0 {
            trace.push(Event::Flush);
        }
        let offset = first.saturating_mul(sector);
        let length = count.saturating_mul(sector);
        if flags & DISCARD != 0 && count > 0 {
            trace.push(Event::Discard { offset, length });
        } else if count > 0 {
            trace.push(Event::Write {
                offset,
                bytes: Written::from_slice(slice(log, at, length).ok_or(truncated)?),
                durable: flags & FUA != 0,
            });
            at = at.saturating_add(length);
        }
    }
    Ok(trace)
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
