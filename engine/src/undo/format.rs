//! The layout of an undo file, version 2. All numbers have 64 bits and are big-endian, checksums are
//! XXH64 with seed 0.
//!
//! ```text
//!       0  header  16 bytes of magic, the numbers of `Header`, zeros, a checksum of it all: one
//!                  sector, replaced by one write when the status changes
//!     512  body    the path of the image, then a record for each sector, in ascending order
//! ```
//!
//! | bytes of a record | what |
//! | ----------------- | --- |
//! | 24                | offset of the sector; how many states it passes through; 1 if old bytes follow, else 0 |
//! | 512               | its old bytes, left out where all are 0 or will not change |
//! | 8 · states        | checksums of the states, the old one first, and alone if it will not change |
//! | 8                 | a checksum of the body up to here |
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
pub const VERSION: u64 = 2;

/// The most bytes of the path.
const MAX_PATH: u64 = 1 << 19;

/// The most states of a sector.
pub const MAX_STATES: u64 = 1 << 16;

/// Where the checksum of the header is.
const CHECKSUM_AT: usize = SECTOR - 8;

/// The checksum of bytes.
pub fn checksum(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
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
        let numbers = [
            VERSION,
            self.status as u64,
            self.modified,
            self.old_length,
            self.new_length,
            self.path_length as u64,
            self.body_checksum,
        ];
        let numbers = numbers.map(u64::to_be_bytes);
        let mut block = [0; SECTOR];
        block[..MAGIC.len()].copy_from_slice(&MAGIC);
        block[MAGIC.len()..][..8 * numbers.len()].copy_from_slice(numbers.as_flattened());
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
        let (numbers, _) = block.as_chunks();
        let number = |index: usize| u64::from_be_bytes(numbers[index]);
        // Every version has its checksum here, so that a damaged number is not taken for a version.
        if number(CHECKSUM_AT / 8) != checksum(&block[..CHECKSUM_AT]) {
            return Err(UndoError::Damaged);
        }
        if number(2) != VERSION {
            return Err(UndoError::Version(number(2)));
        }
        let header = Self {
            status: match number(3) {
                0 => return Err(UndoError::Unfinished),
                1 => Status::Saved,
                2 => Status::Sealed,
                3 => Status::Begun,
                _ => Status::Applied,
            },
            modified: number(4),
            old_length: number(5),
            new_length: number(6),
            path_length: number(7) as usize,
            body_checksum: number(8),
        };
        let is_sound = header.encode() == *block
            && header.old_length <= header.new_length
            && i64::try_from(header.new_length).is_ok()
            && header.path_length as u64 <= MAX_PATH;
        match header.status {
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
