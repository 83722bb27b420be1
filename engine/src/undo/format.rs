//! The layout of an undo file, version 1. All numbers have 64 bits and are big-endian, checksums are
//! XXH64 with seed 0.
//!
//! ```text
//!       0  header  16 bytes of magic, the numbers of `Header`, zeros, a checksum of it all: one
//!                  sector, replaced by one write when the status changes
//!     512  body    the path of the image, then records in ascending order
//! ```
//!
//! A record is about sectors side by side that pass through equally many states:
//!
//! | bytes                | what |
//! | -------------------- | --- |
//! | 32                   | offset of the first sector; sectors; states of each; 1 if old bytes follow, else 0 |
//! | 512 · sectors        | their old bytes, left out where all are 0 or will not change |
//! | 8 · states · sectors | checksums of the states of each, the old one first, and alone if it will not change |
//! | 8                    | a checksum of the body up to here |
//!
//! Sectors are always whole here; what lies past the end of the image counts as zeros.

use std::time::{SystemTime, UNIX_EPOCH};

use twox_hash::XxHash64;

use super::error::UndoError;

/// What a power cut writes whole or not at all, in bytes.
pub const SECTOR: usize = 512;

/// With a line end of each kind, so that a transfer as text shows.
const MAGIC: [u8; 16] = *b"recount-undo\r\n\x1a\n";

/// The version that is written, and the only one that is read.
pub const VERSION: u64 = 1;

/// The bytes of a record's head.
pub const HEAD_BYTES: usize = 32;

/// The most old bytes and checksums in a record, and the most bytes of the path.
const MAX_BYTES: u64 = 1 << 19;

/// Where the checksum of the header is.
const CHECKSUM_AT: usize = SECTOR - 8;

/// The checksum of bytes.
pub fn checksum(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

/// Eight bytes as a number; those that are not there count as 0.
pub fn number(bytes: &[u8]) -> u64 {
    let eight = bytes.iter().chain(std::iter::repeat(&0)).take(8);
    eight.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The first numbers of some bytes.
pub fn numbers<const N: usize>(bytes: &[u8]) -> [u64; N] {
    std::array::from_fn(|index| number(&bytes[8 * index..]))
}

/// Numbers as bytes, and zeros.
pub fn bytes<const N: usize>(numbers: &[u64]) -> [u8; N] {
    let mut bytes = [0; N];
    for (bytes, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        bytes.copy_from_slice(&number.to_be_bytes());
    }
    bytes
}

/// Where the sector that `length` bytes end in ends.
pub const fn whole_sectors(length: u64) -> u64 {
    length.div_ceil(SECTOR as u64).saturating_mul(SECTOR as u64)
}

/// What has become of an undo file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// It is being saved: the repair has not begun.
    #[default]
    Unfinished,
    /// The repair may have begun, and may have ended anywhere.
    Saved,
    /// The repair ended.
    Sealed,
    /// A restoration has begun.
    Begun,
    /// A restoration came to its end.
    Applied,
}

/// What a restoration has to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub status: Status,
    /// When the repair last wrote to the image, in nanoseconds from 1970; only where it is sealed.
    pub modified: u64,
    /// The length of the image before the repair, in bytes.
    pub old_length: u64,
    /// Its length after the last write; never less.
    pub new_length: u64,
    /// The bytes of the path of the image.
    pub path_length: usize,
    /// The checksum of the body.
    pub body_checksum: u64,
}

impl Header {
    /// As it is in the file.
    pub fn encode(&self) -> [u8; SECTOR] {
        let mut block: [u8; SECTOR] = bytes(&[
            0,
            0,
            VERSION,
            self.status as u64,
            self.modified,
            self.old_length,
            self.new_length,
            self.path_length as u64,
            self.body_checksum,
        ]);
        block[..MAGIC.len()].copy_from_slice(&MAGIC);
        let sum = checksum(&block[..CHECKSUM_AT]);
        block[CHECKSUM_AT..].copy_from_slice(&sum.to_be_bytes());
        block
    }

    /// From what is in the file, which has to be finished and not put back.
    pub fn decode(bytes: &[u8]) -> Result<Self, UndoError> {
        let magic = bytes.len().min(MAGIC.len());
        if bytes[..magic] != MAGIC[..magic] {
            return Err(UndoError::NotUndo);
        }
        let block: &[u8; SECTOR] = bytes.try_into().map_err(|_| UndoError::Damaged)?;
        let numbers: [u64; 9] = std::array::from_fn(|index| number(&block[8 * index..]));
        let [
            _,
            _,
            version,
            status,
            modified,
            old_length,
            new_length,
            path_length,
            body_checksum,
        ] = numbers;
        // Every version has its checksum here, so that a damaged number is not taken for a version.
        if number(&block[CHECKSUM_AT..]) != checksum(&block[..CHECKSUM_AT]) {
            return Err(UndoError::Damaged);
        }
        if version != VERSION {
            return Err(UndoError::Version(version));
        }
        let status = match status {
            0 => return Err(UndoError::Unfinished),
            1 => Status::Saved,
            2 => Status::Sealed,
            3 => Status::Begun,
            _ => Status::Applied,
        };
        let header = Self {
            status,
            modified,
            old_length,
            new_length,
            path_length: path_length as usize,
            body_checksum,
        };
        let is_sound = header.encode() == *block
            && old_length <= new_length
            && i64::try_from(new_length).is_ok()
            && path_length <= MAX_BYTES;
        match status {
            _ if !is_sound => Err(UndoError::Damaged),
            Status::Applied => Err(UndoError::Applied),
            _ => Ok(header),
        }
    }
}

/// A time as a header has it.
pub fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.unwrap_or_else(|before| before.duration()).as_nanos() as u64
}

/// The most sectors of so many states that one record takes; 0 for too many states.
pub const fn most_sectors(states: u64) -> u64 {
    MAX_BYTES / states.saturating_mul(8).saturating_add(SECTOR as u64)
}
