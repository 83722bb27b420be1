//! What a random guest and its operator do to an image.

use std::fmt;

use itertools::iproduct;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use recount_oracle::case::{Fault, FaultKind, Operation as OnDisk, Times};

/// What may fail on a disk, how, and how often.
pub(crate) const FAILING: [OnDisk; 3] = [OnDisk::Write, OnDisk::Flush, OnDisk::SetLen];
pub(crate) const HOW: [FaultKind; 3] = [FaultKind::Io, FaultKind::NoSpace, FaultKind::Short];
pub(crate) const TIMES: [Times; 3] = [Times::Once, Times::Twice, Times::Forever];
/// What the text of a failure of the disk begins with.
const DISK: &str = "of the disk, ";

/// One operation. Offsets and lengths are in bytes. [`replay`](crate::replay) reads its text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant names its fields")]
pub enum Operation {
    /// Random bytes of this seed are written, the number of the operation as drawn; zeros without one.
    Write {
        offset: u64,
        length: u64,
        seed: Option<u64>,
    },
    /// Bytes are given back.
    Discard { offset: u64, length: u64 },
    /// A snapshot is taken.
    Snapshot { name: String },
    /// A snapshot is deleted.
    DeleteSnapshot { name: String },
    /// A flush.
    Flush,
    /// The image is closed, and opened again.
    Reopen,
    /// The writer ends without closing the image, which is opened again.
    Kill,
    /// Operations on the disk fail, counted from now on.
    Fail(Fault),
}

/// The bytes that a write has: no two sectors of two seeds are alike.
pub(crate) fn bytes(seed: Option<u64>, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    if let Some(seed) = seed {
        ChaCha8Rng::seed_from_u64(seed).fill(&mut bytes[..]);
    }
    bytes
}

/// Reads operations from their text, in which they are parted by semicolons; the first that is none.
pub(crate) fn parse(text: &str) -> Result<Vec<Operation>, String> {
    let parts = text
        .split(';')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let read =
        parts.map(|part| operation(part).ok_or_else(|| format!("\"{part}\" is no operation")));
    read.collect()
}

fn operation(text: &str) -> Option<Operation> {
    if let Some(fault) = text.strip_prefix(DISK) {
        return fault_of(fault).map(Operation::Fail);
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    Some(match words[..] {
        ["write", length, "bytes", "of", "seed", seed, "at", offset] => Operation::Write {
            offset: hexadecimal(offset)?,
            length: length.parse().ok()?,
            seed: Some(seed.parse().ok()?),
        },
        ["write", length, "zeros", "at", offset] => Operation::Write {
            offset: hexadecimal(offset)?,
            length: length.parse().ok()?,
            seed: None,
        },
        ["discard", length, "bytes", "at", offset] => Operation::Discard {
            offset: hexadecimal(offset)?,
            length: length.parse().ok()?,
        },
        ["take", name] => Operation::Snapshot { name: name.into() },
        ["delete", name] => Operation::DeleteSnapshot { name: name.into() },
        ["flush"] => Operation::Flush,
        ["close", "and", "open"] => Operation::Reopen,
        ["kill", "and", "open"] => Operation::Kill,
        _ => return None,
    })
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

fn fault_of(text: &str) -> Option<Fault> {
    let (which, _) = text.split_once(" fails ")?;
    let nth = which.split_whitespace().last()?.parse().ok()?;
    let mut all = iproduct!(FAILING, HOW, TIMES).map(|(operation, error, times)| Fault {
        operation,
        nth,
        error,
        times,
    });
    all.find(|fault| fault.to_string() == text)
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write {
                offset,
                length,
                seed,
            } => {
                write!(f, "write {length} ")?;
                match seed {
                    Some(seed) => write!(f, "bytes of seed {seed}")?,
                    None => f.write_str("zeros")?,
                }
                write!(f, " at {offset:#x}")
            }
            Self::Discard { offset, length } => write!(f, "discard {length} bytes at {offset:#x}"),
            Self::Snapshot { name } => write!(f, "take {name}"),
            Self::DeleteSnapshot { name } => write!(f, "delete {name}"),
            Self::Flush => f.write_str("flush"),
            Self::Reopen => f.write_str("close and open"),
            Self::Kill => f.write_str("kill and open"),
            Self::Fail(fault) => write!(f, "{DISK}{fault}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_read_from_their_text() {
        let text = "write 512 bytes of seed 7 at 0x200; write 1024 zeros at 0x0; discard 512 bytes at \
                    0x400; take snapshot-3; delete snapshot-3; flush; close and open; kill and open; \
                    of the disk, change of length 4 fails when a part of it is done, and each later \
                    one; of the disk, write 0 fails with an I/O error, once";
        let read = parse(text).unwrap();
        assert_eq!(read.len(), 10);
        let again: Vec<String> = read.iter().map(ToString::to_string).collect();
        assert_eq!(again.join("; "), text);
    }

    #[test]
    fn what_is_no_operation_is_refused_by_name() {
        for text in [
            "write 512 at 0x0",
            "of the disk, nothing",
            "take",
            "write x zeros at 0x0",
        ] {
            let why = parse(&format!("flush; {text}")).unwrap_err();
            assert!(why.contains(text), "{why}");
        }
    }
}
