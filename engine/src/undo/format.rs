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

use std::hash::Hasher as _;
use std::io::{self, BufRead, Read, Write};
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use twox_hash::XxHash64;

use super::error::UndoError;
use crate::format::{UNDO_MAGIC, be64};
use crate::storage::{Storage, StorageError};
use crate::units::Offset;

/// What a power cut writes whole or not at all, in bytes.
pub const SECTOR: usize = 512;

/// The same, to reckon with positions.
pub const SECTOR_BYTES: u64 = SECTOR as u64;

/// The version that is written, and the only one that is read.
pub const VERSION: u64 = 2;

/// The most bytes of the path.
const MAX_PATH: u64 = 1 << 19;

/// The most states of a sector.
pub const MAX_STATES: u64 = 1 << 16;

/// A checksum, as it is in the file.
pub type Sum = [u8; 8];

/// The checksum of bytes.
pub fn checksum(bytes: &[u8]) -> Sum {
    XxHash64::oneshot(0, bytes).to_be_bytes()
}

/// Where the sector of a byte begins.
pub const fn sector_of(byte: u64) -> u64 {
    byte - byte % SECTOR_BYTES
}

/// Where the sector that `length` bytes end in ends.
pub const fn whole_sectors(length: u64) -> u64 {
    length.div_ceil(SECTOR_BYTES).saturating_mul(SECTOR_BYTES)
}

/// The sector of an image that begins there.
pub fn read(image: &dyn Storage, at: u64) -> Result<[u8; SECTOR], StorageError> {
    let mut sector = [0; SECTOR];
    image.read_at(Offset(at), &mut sector)?;
    Ok(sector)
}

/// What has become of an undo file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, strum::FromRepr)]
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
    pub path_length: u64,
    /// The checksum of the body.
    pub body_sum: Sum,
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
            self.path_length,
            u64::from_be_bytes(self.body_sum),
        ];
        let fields = [&UNDO_MAGIC, numbers.map(u64::to_be_bytes).as_flattened()].concat();
        let mut block = [0; SECTOR];
        block[..fields.len()].copy_from_slice(&fields);
        let (checked, sum) = block.split_at_mut(SECTOR - 8);
        sum.copy_from_slice(&checksum(checked));
        block
    }

    /// From what is in the file, which has to be finished and not put back.
    pub fn decode(bytes: &[u8]) -> Result<Self, UndoError> {
        let magic = bytes.len().min(UNDO_MAGIC.len());
        if bytes[..magic] != UNDO_MAGIC[..magic] {
            return Err(UndoError::NotUndo);
        }
        let block: &[u8; SECTOR] = bytes.try_into().map_err(|_| UndoError::Damaged)?;
        let number = |index: usize| be64(block, UNDO_MAGIC.len() + 8 * index);
        let version = number(0);
        let header = Self {
            status: Status::from_repr(number(1) as usize).unwrap_or(Status::Applied),
            modified: number(2),
            old_length: number(3),
            new_length: number(4),
            path_length: number(5),
            body_sum: number(6).to_be_bytes(),
        };
        let is_sound = header.encode() == *block
            && header.old_length <= header.new_length
            && i64::try_from(header.new_length).is_ok()
            && header.path_length <= MAX_PATH;
        let (checked, sum) = block.split_at(SECTOR - 8);
        match header.status {
            // Every version has its checksum here, so that a damaged number is taken for none.
            _ if checksum(checked) != *sum => Err(UndoError::Damaged),
            _ if version != VERSION => Err(UndoError::Version(version)),
            _ if !is_sound => Err(UndoError::Damaged),
            Status::Unfinished => Err(UndoError::Unfinished),
            Status::Applied => Err(UndoError::Applied),
            _ => Ok(header),
        }
    }
}

/// The body of an undo file while it is read or written, and the checksum so far.
pub struct Body<F> {
    pub file: F,
    sum: XxHash64,
}

impl<F> Body<F> {
    pub const fn new(file: F) -> Self {
        let sum = XxHash64::with_seed(0);
        Self { file, sum }
    }

    /// The checksum of what was read or written.
    pub fn sum(&self) -> Sum {
        self.sum.finish().to_be_bytes()
    }
}

impl<F: Read> Body<F> {
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact(buffer)?;
        self.sum.write(buffer);
        Ok(())
    }
}

impl<F: Write> Body<F> {
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.write(bytes);
        self.file.write_all(bytes)
    }
}

/// A sector of the image, as a record tells of it.
pub struct Sector {
    /// Where it begins.
    pub at: u64,
    /// Its old bytes; only zeros where none were saved.
    pub old: [u8; SECTOR],
    /// The checksums of its states.
    pub sums: Vec<Sum>,
}

impl Sector {
    /// Whether the repair changes it.
    pub const fn is_changed(&self) -> bool {
        self.sums.len() > 1
    }

    /// Writes the record.
    pub fn write(&self, body: &mut Body<impl Write>) -> io::Result<()> {
        let has_bytes = self.is_changed() && self.old != [0; SECTOR];
        let head = [self.at, self.sums.len() as u64, has_bytes.into()];
        body.write(head.map(u64::to_be_bytes).as_flattened())?;
        if has_bytes {
            body.write(&self.old)?;
        }
        body.write(self.sums.as_flattened())?;
        body.write(&body.sum())
    }

    /// Reads the next record, whose sector has to lie in `free`; `None` at the end of the file. `sums`
    /// is memory for its checksums.
    pub fn read(
        body: &mut Body<impl BufRead>,
        free: &Range<u64>,
        mut sums: Vec<Sum>,
    ) -> Result<Option<Self>, UndoError> {
        let Some(first) = body.file.by_ref().bytes().next().transpose()? else {
            return Ok(None);
        };
        let mut head = [[first; 8]; 3];
        body.file.read_exact(&mut head.as_flattened_mut()[1..])?;
        body.sum.write(head.as_flattened());
        let [at, states, has_bytes] = head.map(u64::from_be_bytes);
        // A sector with no state but the old one needs no old bytes.
        let is_sound = at.is_multiple_of(SECTOR_BYTES)
            && free.contains(&at)
            && (1..=MAX_STATES).contains(&states)
            && has_bytes < states.min(2);
        if !is_sound {
            return Err(UndoError::Damaged);
        }
        let mut old = [0; SECTOR];
        if has_bytes == 1 {
            body.read(&mut old)?;
        }
        // `MAX_STATES` bounds what is allocated.
        sums.resize(states as usize, [0; 8]);
        body.read(sums.as_flattened_mut())?;
        let (sum, mut found) = (body.sum(), [0; 8]);
        body.read(&mut found)?;
        if found != sum {
            return Err(UndoError::Damaged);
        }
        Ok(Some(Self { at, old, sums }))
    }
}

/// A time as a header has it.
pub fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.unwrap_or_else(|before| before.duration()).as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    /// Every other read is interrupted by a signal.
    struct Signalled<'a>(&'a [u8], bool);

    impl Read for Signalled<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::Interrupted.into());
            }
            self.0.read(buffer)
        }
    }

    #[test]
    fn records_are_read_whatever_signals_come() {
        let mut body = Body::new(Vec::new());
        let (at, old, sums) = (512, [7; SECTOR], vec![[1; 8], [2; 8]]);
        Sector { at, old, sums }.write(&mut body).expect("memory");
        let signalled = Signalled(&body.file, false);
        let mut body = Body::new(io::BufReader::with_capacity(8, signalled));
        let mut next = || Sector::read(&mut body, &(0..1024), Vec::new()).expect("records");
        assert!(next().is_some_and(|sector| sector.at == at && sector.old == old));
        assert!(next().is_none());
    }
}
