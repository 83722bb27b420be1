//! An undo file that is there: opening it looks at every byte of it, and each record is looked at
//! again when it is used.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::hash::Hasher as _;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use twox_hash::XxHash64;

use super::error::UndoError;
use super::format::{Header, MAX_STATES, SECTOR, Status, checksum, nanoseconds, whole_sectors};

/// Bytes read at once.
const BUFFER_BYTES: usize = 1 << 17;

/// An undo file, complete and undamaged.
#[derive(Debug)]
pub struct UndoFile {
    file: File,
    pub(super) header: Header,
    image: PathBuf,
}

impl UndoFile {
    /// Opens an undo file and checks all of it. Nothing is written, and one that was put back
    /// already is refused.
    pub fn open(path: &Path) -> Result<Self, UndoError> {
        // Looked at before opening: opening a pipe waits for its other end.
        if !std::fs::metadata(path)?.is_file() {
            return Err(UndoError::NotUndo);
        }
        let mut undo = Self {
            file: OpenOptions::new().read(true).write(true).open(path)?,
            header: Header::default(),
            image: PathBuf::new(),
        };
        undo.header = undo.header_now()?;
        undo.image = undo.for_each_sector(|_| Ok(()))?;
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
        match self.header_now()?.status {
            Status::Saved => self.set_status(Status::Sealed, nanoseconds(modified)),
            _ => Err(UndoError::Sealed),
        }
    }

    /// The header as another process may have left it meanwhile.
    pub(super) fn header_now(&self) -> Result<Header, UndoError> {
        let (mut file, mut bytes) = (&self.file, Vec::new());
        file.rewind()?;
        file.take(SECTOR as u64).read_to_end(&mut bytes)?;
        Header::decode(&bytes)
    }

    /// Replaces the status, durably.
    pub(super) fn set_status(&self, status: Status, modified: u64) -> Result<(), UndoError> {
        let header = Header {
            status,
            modified,
            ..self.header
        };
        self.file.write_all_at(&header.encode(), 0)?;
        Ok(self.file.sync_all()?)
    }

    /// Hands over the sector of every record, in order, and checks all that is read; returns the
    /// path of the image.
    pub(super) fn for_each_sector(
        &self,
        mut visit: impl FnMut(&Sector<'_>) -> Result<(), UndoError>,
    ) -> Result<PathBuf, UndoError> {
        let mut body = Body {
            file: BufReader::with_capacity(BUFFER_BYTES, &self.file),
            sum: XxHash64::with_seed(0),
        };
        body.file.seek(SeekFrom::Start(SECTOR as u64))?;
        // The header and `MAX_STATES` bound all that is allocated.
        let mut image = vec![0; self.header.path_length];
        body.read(&mut image)?;
        let mut sums = Vec::new();
        let mut free = 0..whole_sectors(self.header.new_length);
        while !body.file.fill_buf()?.is_empty() {
            let [at, states, has_bytes] = body.numbers()?;
            // A sector with no state but the old one needs no old bytes.
            let is_sound = at.is_multiple_of(SECTOR as u64)
                && free.contains(&at)
                && (1..=MAX_STATES).contains(&states)
                && has_bytes < states.min(2);
            if !is_sound {
                return Err(UndoError::Damaged);
            }
            free.start = at + SECTOR as u64;
            let mut old = [0; SECTOR];
            if has_bytes == 1 {
                body.read(&mut old)?;
            }
            sums.resize(states as usize, [0; 8]);
            body.read(sums.as_flattened_mut())?;
            let sum = body.sum.finish();
            if body.numbers()? != [sum] {
                return Err(UndoError::Damaged);
            }
            visit(&Sector {
                at,
                old,
                sums: &sums,
            })?;
        }
        if body.sum.finish() != self.header.body_checksum {
            return Err(UndoError::Damaged);
        }
        Ok(OsString::from_vec(image).into())
    }
}

/// A sector of the image.
pub(super) struct Sector<'a> {
    /// Where it begins.
    pub at: u64,
    /// Its old bytes; only zeros where none were saved.
    pub old: [u8; SECTOR],
    /// The checksums of its states.
    sums: &'a [[u8; 8]],
}

impl Sector<'_> {
    /// Whether the repair changes it.
    pub const fn is_changed(&self) -> bool {
        self.sums.len() > 1
    }

    /// Whether it is in one of its states with these bytes.
    pub fn has_state(&self, now: &[u8; SECTOR]) -> bool {
        self.sums.contains(&checksum(now).to_be_bytes())
    }
}

/// The body of an undo file while it is read, and the checksum so far.
struct Body<'a> {
    file: BufReader<&'a File>,
    sum: XxHash64,
}

impl Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact(buffer)?;
        self.sum.write(buffer);
        Ok(())
    }

    fn numbers<const N: usize>(&mut self) -> io::Result<[u64; N]> {
        let mut bytes = [[0; 8]; N];
        self.read(bytes.as_flattened_mut())?;
        Ok(bytes.map(u64::from_be_bytes))
    }
}
