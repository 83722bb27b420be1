//! What was done to a disk, in order: by a repair on the simulated disk, or by another program
//! according to its log.

use std::collections::BTreeSet;
use std::fmt;

use smallvec::SmallVec;

use crate::case::damage::SparseBytes;
use crate::case::damage::bytes::PAGE;

/// Bytes that were written. Those of most toys, of which there are millions, fit without an
/// allocation.
pub type Written = SmallVec<[u8; 64]>;

/// One thing that was done. Offsets and lengths are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant names its fields")]
pub enum Event {
    /// Bytes were written; volatile until the next flush, unless they were `durable` at once (forced
    /// unit access).
    Write {
        offset: u64,
        bytes: Written,
        durable: bool,
    },
    /// A write failed, and its bytes may reach the disk all the same.
    WriteFailed { offset: u64, bytes: Written },
    /// Bytes were given back and read as zeros.
    Discard { offset: u64, length: u64 },
    /// The length was changed to this one.
    SetLen { length: u64 },
    /// Everything before became durable.
    Flush,
    /// A flush failed: what was volatile then may be lost for ever.
    FlushFailed,
}

impl Event {
    /// Whether it changes no bytes.
    pub const fn is_flush(&self) -> bool {
        matches!(self, Self::Flush | Self::FlushFailed)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write {
                offset,
                bytes,
                durable,
            } => {
                let how = if *durable { ", durable at once" } else { "" };
                write!(f, "write {} bytes at {offset:#x}{how}", bytes.len())
            }
            Self::WriteFailed { offset, bytes } => {
                write!(f, "failed write of {} bytes at {offset:#x}", bytes.len())
            }
            Self::Discard { offset, length } => write!(f, "discard {length} bytes at {offset:#x}"),
            Self::SetLen { length } => write!(f, "set the length to {length} bytes"),
            Self::Flush => f.write_str("flush"),
            Self::FlushFailed => f.write_str("failed flush"),
        }
    }
}

/// Everything that was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// In order.
    pub events: Vec<Event>,
}

impl Trace {
    /// The writes that make of one image the other.
    pub fn between(before: &SparseBytes, after: &SparseBytes) -> Self {
        let mut events = Vec::new();
        if before.len() != after.len() {
            let length = after.len();
            events.push(Event::SetLen { length });
        }
        let pages = before.pages().chain(after.pages());
        let places: BTreeSet<u64> = pages.map(|(at, _)| at).collect();
        for &offset in places.range(..after.len()) {
            let left = usize::try_from(after.len() - offset).unwrap_or(PAGE);
            let bytes = after.bytes(offset, left.min(PAGE));
            if bytes != before.bytes(offset, left.min(PAGE)) {
                events.push(Event::Write {
                    offset,
                    bytes: bytes.into(),
                    durable: false,
                });
            }
        }
        Self { events }
    }

    /// Where each write began and how many bytes it had, failed ones left out.
    pub fn writes(&self) -> impl Iterator<Item = (u64, usize)> {
        self.events.iter().filter_map(|event| match event {
            Event::Write { offset, bytes, .. } => Some((*offset, bytes.len())),
            _ => None,
        })
    }

    /// Whether nothing was changed.
    pub fn is_read_only(&self) -> bool {
        self.events.iter().all(Event::is_flush)
    }
}
