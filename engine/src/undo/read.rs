//! Reading an undo file. [`UndoFile::open`] looks at every byte of it; each record is looked at
//! again when it is used.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::hash::Hasher as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use twox_hash::XxHash64;

use super::error::{FileOperation, UndoError, on_file};
use super::format::{
    BODY_AT, HEAD_BYTES, Head, Header, HeaderError, Kind, MAGIC, MAX_SECTORS, SECTOR, STATUS_AT,
    Status, nanoseconds, number,
};
use crate::units::Offset;

/// An undo file, complete and undamaged.
#[derive(Debug)]
pub struct UndoFile {
    path: PathBuf,
    file: File,
    pub(super) header: Header,
    image: PathBuf,
}

impl UndoFile {
    pub(super) fn new(path: &Path, file: File, header: Header, image: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file,
            header,
            image: image.to_owned(),
        }
    }

    /// Opens an undo file and checks all of it. Nothing is written, and one that was put back
    /// already is refused.
    pub fn open(path: &Path) -> Result<Self, UndoError> {
        let open = on_file(FileOperation::Open, path);
        // Looked at before opening: opening a pipe waits for its other end.
        let is_file = std::fs::metadata(path).map(|metadata| metadata.is_file());
        match is_file {
            Ok(true) => {}
            Ok(false) => {
                let path = path.to_owned();
                return Err(UndoError::NotUndo { path });
            }
            Err(error) => return Err(open(error)),
        }
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(open)?;
        let header = read_header(path, &file)?;
        let mut undo = Self::new(path, file, header, Path::new(""));
        if undo.status()? == Status::Applied {
            let path = path.to_owned();
            return Err(UndoError::Applied { path });
        }
        undo.image = undo.check()?;
        Ok(undo)
    }

    /// Where the image was when it was repaired, as [`save`](super::save) was told.
    #[must_use]
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Notes when the image was last modified, once the repair has ended: a later write to it, even
    /// one to guest data alone, is noticed then. Only for regular files.
    pub fn seal(&self, modified: SystemTime) -> Result<(), UndoError> {
        if self.status()? != Status::Saved {
            let path = self.path.clone();
            return Err(UndoError::Sealed { path });
        }
        self.set_status(Status::Sealed(nanoseconds(modified)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn status(&self) -> Result<Status, UndoError> {
        let mut block = [0; SECTOR];
        self.file
            .read_exact_at(&mut block, STATUS_AT)
            .map_err(on_file(FileOperation::Read, &self.path))?;
        Status::decode(&block).ok_or_else(|| self.damaged(STATUS_AT))
    }

    /// Replaces the status, durably.
    pub(super) fn set_status(&self, status: Status) -> Result<(), UndoError> {
        self.file
            .write_all_at(&status.encode(), STATUS_AT)
            .map_err(on_file(FileOperation::Write, &self.path))?;
        self.file
            .sync_all()
            .map_err(on_file(FileOperation::Flush, &self.path))
    }

    pub(super) fn records(&self) -> Records<'_> {
        Records {
            undo: self,
            at: BODY_AT,
            sum: XxHash64::with_seed(0),
            payload: Vec::new(),
        }
    }

    pub(super) fn damaged(&self, at: u64) -> UndoError {
        let path = self.path.clone();
        UndoError::Damaged { path, at }
    }
}

fn read_header(path: &Path, file: &File) -> Result<Header, UndoError> {
    let length = file
        .metadata()
        .map_err(on_file(FileOperation::Read, path))?
        .len();
    let named = || path.to_owned();
    let wrong_length = |expected| UndoError::Length {
        path: named(),
        length,
        expected,
    };
    let mut block = [0; SECTOR];
    let present = length.min(SECTOR as u64) as usize;
    file.read_exact_at(&mut block[..present], 0)
        .map_err(on_file(FileOperation::Read, path))?;
    if length < BODY_AT && block.starts_with(&MAGIC[..present.min(MAGIC.len())]) {
        return Err(wrong_length(BODY_AT));
    }
    let header = Header::decode(&block).map_err(|error| match error {
        HeaderError::Unfinished => UndoError::Unfinished { path: named() },
        HeaderError::Magic => UndoError::NotUndo { path: named() },
        HeaderError::Version(version) => UndoError::Version {
            path: named(),
            version,
        },
        HeaderError::Damaged => UndoError::Damaged {
            path: named(),
            at: 0,
        },
    })?;
    if length != header.file_length() {
        return Err(wrong_length(header.file_length()));
    }
    Ok(header)
}

/// Goes through the records of an undo file.
pub struct Records<'a> {
    undo: &'a UndoFile,
    at: u64,
    sum: XxHash64,
    payload: Vec<u8>,
}

/// One of them.
pub enum Record<'a> {
    Path(&'a Path),
    Samples(Samples<'a>),
    Sectors(Sectors<'a>),
    /// The number of those before it.
    End(u64),
}

impl Records<'_> {
    /// Where the next record begins.
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// The checksum of all records so far.
    pub fn sum(&self) -> u64 {
        self.sum.finish()
    }

    /// The next record; `None` after the last.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, UndoError> {
        let (at, end) = (self.at, self.undo.header.file_length());
        if at == end {
            return Ok(None);
        }
        let damaged = || self.undo.damaged(at);
        let mut bytes = [0; HEAD_BYTES];
        let payload_at = at.saturating_add(HEAD_BYTES as u64);
        if payload_at > end {
            return Err(damaged());
        }
        self.read(&mut bytes, at)?;
        let head = Head::decode(&bytes).ok_or_else(damaged)?;
        let next = payload_at.saturating_add(u64::from(head.payload));
        if next > end {
            return Err(damaged());
        }
        let mut payload = std::mem::take(&mut self.payload);
        // `Head::decode` has bounded it.
        payload.resize(head.payload as usize, 0);
        self.read(&mut payload, payload_at)?;
        if head.encode(&payload) != bytes {
            return Err(damaged());
        }
        self.payload = payload;
        self.sum.write(&bytes);
        self.sum.write(&self.payload);
        self.at = next;
        let record = Record::parse(&head, &self.payload);
        record.map(Some).ok_or_else(|| self.undo.damaged(at))
    }

    fn read(&self, buffer: &mut [u8], at: u64) -> Result<(), UndoError> {
        self.undo
            .file
            .read_exact_at(buffer, at)
            .map_err(on_file(FileOperation::Read, &self.undo.path))
    }
}

impl<'a> Record<'a> {
    fn parse(head: &Head, payload: &'a [u8]) -> Option<Self> {
        let count = head.count as usize;
        Some(match head.kind {
            Kind::Path => Self::Path(Path::new(OsStr::from_bytes(payload))),
            Kind::Samples => Self::Samples(Samples::parse(count, payload)?),
            Kind::Sectors | Kind::Zeros => Self::Sectors(Sectors::parse(head, count, payload)?),
            Kind::End => payload.is_empty().then_some(Self::End(head.offset))?,
        })
    }
}

/// Sectors that the repair does not write.
pub struct Samples<'a>(&'a [u8]);

impl<'a> Samples<'a> {
    fn parse(count: usize, payload: &'a [u8]) -> Option<Self> {
        (count.checked_mul(16) == Some(payload.len())).then_some(Self(payload))
    }

    /// Their offsets and checksums.
    pub fn iter(&self) -> impl Iterator<Item = (Offset, u64)> {
        let pairs = self.0.chunks_exact(16);
        pairs.map(|pair| (Offset(number(&pair[..8])), number(&pair[8..])))
    }
}

/// Sectors side by side that the repair writes.
pub struct Sectors<'a> {
    /// Where the first begins.
    pub first: Offset,
    /// How many there are, [`MAX_SECTORS`] at most.
    pub count: usize,
    /// Their old bytes; none where all were 0.
    old: &'a [u8],
    states: &'a [u8],
}

/// The old bytes of a sector that was all zeros.
const ZEROS: [u8; SECTOR] = [0; SECTOR];

impl<'a> Sectors<'a> {
    fn parse(head: &Head, count: usize, payload: &'a [u8]) -> Option<Self> {
        if !(1..=MAX_SECTORS).contains(&count) || !head.offset.is_multiple_of(SECTOR as u64) {
            return None;
        }
        let old_bytes = match head.kind {
            Kind::Sectors => count * SECTOR,
            _ => 0,
        };
        let (old, states) = payload.split_at_checked(old_bytes)?;
        let mut rest = states;
        for _ in 0..count {
            (_, rest) = split_states(rest)?;
        }
        rest.is_empty().then_some(Self {
            first: Offset(head.offset),
            count,
            old,
            states,
        })
    }

    /// Where the last ends.
    pub const fn end(&self) -> u64 {
        self.first.0.saturating_add((self.count * SECTOR) as u64)
    }

    /// The old bytes of a sector.
    pub fn old(&self, index: usize) -> &[u8] {
        let from = index * SECTOR;
        self.old.get(from..from + SECTOR).unwrap_or(&ZEROS)
    }

    /// The checksums of the states after the old one, for each sector.
    pub fn states(&self) -> impl Iterator<Item = impl Iterator<Item = u64>> {
        let mut rest = self.states;
        (0..self.count).map_while(move |_| {
            let (states, after) = split_states(rest)?;
            rest = after;
            Some(states.chunks_exact(8).map(number))
        })
    }
}

/// The states of one sector, and what comes after them.
fn split_states(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = bytes.split_at_checked(4)?;
    let count = (number(count) >> 32) as usize;
    rest.split_at_checked(count.checked_mul(8)?)
}
