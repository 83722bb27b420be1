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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LogError(String);

/// What the log says was done, in order.
pub fn read(log: &[u8]) -> Result<Trace, LogError> {
    let no = |why| Err(LogError(why));
    let head = [(0, 8), (8, 8), (16, 8), (24, 4)].map(|(at, bytes)| number(log, at, bytes));
    let [Some(magic), Some(version), Some(entries), Some(sector)] = head else {
        return no("the log ends within its super block".to_owned());
    };
    if (magic, version) != (MAGIC, VERSION) {
        return no(format!(
            "not a log of writes of version {VERSION}: it begins with {magic:#x}, version {version}"
        ));
    }
    if !sector.is_power_of_two() || sector < SECTOR {
        return no(format!("the log has sectors of {sector} bytes"));
    }
    let mut trace = Trace::default();
    let mut at = sector;
    for entry in 0..entries {
        let truncated = format!("the log ends within entry {entry} of {entries}");
        let numbers = [0, 8, 16].map(|field| number(log, at.checked_add(field)?, 8));
        let [Some(first), Some(count), Some(flags)] = numbers else {
            return no(truncated);
        };
        if flags & !(FLUSH | FUA | DISCARD | MARK) != 0 {
            return no(format!(
                "entry {entry} of the log has unknown flags {flags:#x}"
            ));
        }
        at = at.saturating_add(sector);
        // A mark is a note to the reader; its text, if any, lies in the entry's own sector.
        if flags & MARK != 0 {
            continue;
        }
        // What comes with a flush was written after it.
        if flags & FLUSH != 0 {
            trace.events.push(Event::Flush);
        }
        let offset = first.saturating_mul(sector);
        let length = count.saturating_mul(sector);
        if flags & DISCARD != 0 && count > 0 {
            trace.events.push(Event::Discard { offset, length });
        } else if count > 0 {
            trace.events.push(Event::Write {
                offset,
                bytes: Written::from_slice(slice(log, at, length).ok_or(LogError(truncated))?),
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
