//! The layout of an undo file, version 1. All numbers are big-endian, checksums are XXH64 with
//! seed 0.
//!
//! ```text
//!       0  header   says that the file is finished once it is; durable before the repair begins
//!     512  status   what has become of it since: one sector, replaced by one write
//!    1024  records  image path, samples, sectors in ascending order, end mark
//! ```
//!
//! A record is a head of 32 bytes and a payload:
//!
//! | kind    | count   | offset        | payload |
//! | ------- | ------- | ------------- | --- |
//! | path    | 0       | 0             | the path of the image |
//! | samples | samples | 0             | for each an offset and a checksum of a sector that the repair does not write |
//! | sectors | sectors | of the first  | the old bytes; then for each sector a 32-bit number and as many checksums of the states after the old one |
//! | zeros   | sectors | of the first  | as sectors, without the old bytes: they are all 0 |
//! | end     | 0       | number of records before it | nothing |
//!
//! Sectors are always whole here; what lies past the end of the image counts as zeros.

use std::time::{SystemTime, UNIX_EPOCH};

use twox_hash::XxHash64;

/// What a power cut writes whole or not at all, in bytes.
pub const SECTOR: usize = 512;

/// With a line end of each kind, so that a transfer as text shows.
pub const MAGIC: [u8; 16] = *b"recount-undo\r\n\x1a\n";

/// The version that is written, and the only one that is read.
pub const VERSION: u32 = 1;

/// What the header says of a file that is complete.
const FINISHED: u32 = 1;

/// Where the status is.
pub const STATUS_AT: u64 = SECTOR as u64;

/// Where the records begin.
pub const BODY_AT: u64 = 2 * SECTOR as u64;

/// The bytes of a record's head.
pub const HEAD_BYTES: usize = 32;

/// The largest payload of a record, in bytes.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// The most sectors in one record.
pub const MAX_SECTORS: usize = 256;

/// Where the checksum of the header and of the status is.
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

/// The first block: what a restoration has to know, and that the records are complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The length of the image before the repair, in bytes.
    pub old_length: u64,
    /// Its length after the last write; never less.
    pub new_length: u64,
    /// The bytes of all records.
    pub body_length: u64,
    /// Their checksum.
    pub body_checksum: u64,
}

/// Why a header is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Saving did not come to its end.
    Unfinished,
    /// Something else than an undo file.
    Magic,
    /// Another version.
    Version(u32),
    /// The checksum or a field is wrong.
    Damaged,
}

impl Header {
    /// As it is in the file.
    pub fn encode(&self) -> [u8; SECTOR] {
        let mut block = [0; SECTOR];
        block[..16].copy_from_slice(&MAGIC);
        block[16..20].copy_from_slice(&VERSION.to_be_bytes());
        block[20..24].copy_from_slice(&FINISHED.to_be_bytes());
        block[24..32].copy_from_slice(&self.old_length.to_be_bytes());
        block[32..40].copy_from_slice(&self.new_length.to_be_bytes());
        block[40..48].copy_from_slice(&self.body_length.to_be_bytes());
        block[48..56].copy_from_slice(&self.body_checksum.to_be_bytes());
        close(&mut block);
        block
    }

    /// As it is in the file while the rest is being written.
    pub fn unfinished() -> [u8; SECTOR] {
        let mut block = [0; SECTOR];
        block[..16].copy_from_slice(&MAGIC);
        block[16..20].copy_from_slice(&VERSION.to_be_bytes());
        close(&mut block);
        block
    }

    /// From what is in the file.
    pub fn decode(block: &[u8; SECTOR]) -> Result<Self, HeaderError> {
        if block[..16] != MAGIC {
            return Err(HeaderError::Magic);
        }
        // Every version has its checksum here, so that a damaged number is not taken for a version.
        if !is_closed(block) {
            return Err(HeaderError::Damaged);
        }
        let version = (number(&block[16..24]) >> 32) as u32;
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        if *block == Self::unfinished() {
            return Err(HeaderError::Unfinished);
        }
        let header = Self {
            old_length: number(&block[24..32]),
            new_length: number(&block[32..40]),
            body_length: number(&block[40..48]),
            body_checksum: number(&block[48..56]),
        };
        let is_sound = header.old_length <= header.new_length
            && i64::try_from(header.new_length).is_ok()
            && header.encode() == *block;
        is_sound.then_some(header).ok_or(HeaderError::Damaged)
    }

    /// The length of a whole undo file, in bytes.
    pub const fn file_length(&self) -> u64 {
        BODY_AT.saturating_add(self.body_length)
    }
}

/// What has become of an undo file since it was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The repair may have begun, and may have ended anywhere.
    Saved,
    /// The repair ended; when the image was last written to, in nanoseconds since 1970.
    Sealed(i128),
    /// A restoration has begun.
    Begun,
    /// A restoration came to its end.
    Applied,
}

impl Status {
    /// As it is in the file.
    pub fn encode(self) -> [u8; SECTOR] {
        let mut block = [0; SECTOR];
        let (number, time) = match self {
            Self::Saved => (1_u32, 0),
            Self::Sealed(time) => (2, time),
            Self::Begun => (3, 0),
            Self::Applied => (4, 0),
        };
        block[..4].copy_from_slice(&number.to_be_bytes());
        block[8..24].copy_from_slice(&time.to_be_bytes());
        close(&mut block);
        block
    }

    /// From what is in the file; `None` when it is damaged.
    pub fn decode(block: &[u8; SECTOR]) -> Option<Self> {
        let time = i128::from(number(&block[8..16]).cast_signed()) << 64
            | i128::from(number(&block[16..24]));
        let all = [Self::Saved, Self::Sealed(time), Self::Begun, Self::Applied];
        all.into_iter().find(|status| status.encode() == *block)
    }
}

/// A time as a status has it.
pub fn nanoseconds(time: SystemTime) -> i128 {
    let signed = |nanoseconds: u128| i128::try_from(nanoseconds).unwrap_or(i128::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => signed(since.as_nanos()),
        Err(before) => -signed(before.duration().as_nanos()),
    }
}

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Path,
    Sectors,
    Zeros,
    Samples,
    End,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Path,
        Self::Sectors,
        Self::Zeros,
        Self::Samples,
        Self::End,
    ];

    const fn number(self) -> u32 {
        self as u32 + 1
    }
}

/// The head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub kind: Kind,
    pub count: u32,
    /// The bytes of the payload, [`MAX_PAYLOAD`] at most.
    pub payload: u32,
    pub offset: u64,
}

impl Head {
    /// As it is in the file, with the checksum over it and its payload.
    pub fn encode(&self, payload: &[u8]) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(&self.kind.number().to_be_bytes());
        bytes[4..8].copy_from_slice(&self.count.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.payload.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_be_bytes());
        let sum = record_checksum(&bytes, payload);
        bytes[24..].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// From what is in the file; `None` for a kind or size that no record has. Whether the checksum
    /// fits shows once the payload is there: [`Head::encode`] gives the same bytes again.
    pub fn decode(bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let kind = (number(&bytes[..8]) >> 32) as u32;
        let payload = (number(&bytes[8..16]) >> 32) as u32;
        let head = Self {
            kind: Kind::ALL.into_iter().find(|known| known.number() == kind)?,
            count: number(&bytes[..8]) as u32,
            payload,
            offset: number(&bytes[16..24]),
        };
        (payload as usize <= MAX_PAYLOAD).then_some(head)
    }
}

fn record_checksum(head: &[u8; HEAD_BYTES], payload: &[u8]) -> u64 {
    use std::hash::Hasher as _;
    let mut sum = XxHash64::with_seed(0);
    sum.write(&head[..24]);
    sum.write(payload);
    sum.finish()
}

/// Puts its checksum at the end of a block.
fn close(block: &mut [u8; SECTOR]) {
    let sum = checksum(&block[..CHECKSUM_AT]);
    block[CHECKSUM_AT..].copy_from_slice(&sum.to_be_bytes());
}

fn is_closed(block: &[u8; SECTOR]) -> bool {
    number(&block[CHECKSUM_AT..]) == checksum(&block[..CHECKSUM_AT])
}
