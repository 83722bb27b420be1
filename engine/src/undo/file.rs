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
use super::format::{Header, SECTOR, Status, checksum, most_sectors, nanoseconds, whole_sectors};

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
        undo.image = undo.for_each_run(|_| Ok(()))?;
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

    /// Hands over the sectors of every record, in order, and checks all that is read; returns the
    /// path of the image.
    pub(super) fn for_each_run(
        &self,
        mut visit: impl FnMut(&Run<'_>) -> Result<(), UndoError>,
    ) -> Result<PathBuf, UndoError> {
        let mut body = Body {
            file: BufReader::new(&self.file),
            sum: XxHash64::with_seed(0),
        };
        body.file.seek(SeekFrom::Start(SECTOR as u64))?;
        // The header and `most_sectors` bound all that is allocated.
        let mut image = vec![0; self.header.path_length];
        body.read(&mut image)?;
        let (mut old, mut sums) = (Vec::new(), Vec::new());
        let (mut least, limit) = (0, whole_sectors(self.header.new_length));
        while !body.file.fill_buf()?.is_empty() {
            let [first, sectors, states, has_bytes] = body.numbers()?;
            let end = first.saturating_add(sectors.saturating_mul(SECTOR as u64));
            // Sectors with no state but the old one need no old bytes.
            let is_sound = first.is_multiple_of(SECTOR as u64)
                && (least..limit).contains(&first)
                && end <= limit
                && (1..=most_sectors(states)).contains(&sectors)
                && has_bytes < states.min(2);
            if !is_sound {
                return Err(UndoError::Damaged);
            }
            least = end;
            old.clear();
            old.resize(sectors as usize * SECTOR, 0);
            if has_bytes == 1 {
                body.read(&mut old)?;
            }
            sums.resize((sectors * states * 8) as usize, 0);
            body.read(&mut sums)?;
            let sum = body.sum.finish();
            if body.numbers()? != [sum] {
                return Err(UndoError::Damaged);
            }
            visit(&Run {
                first,
                end,
                old: &old,
                states: states as usize,
                sums: sums.as_chunks().0,
            })?;
        }
        if body.sum.finish() != self.header.body_checksum {
            return Err(UndoError::Damaged);
        }
        Ok(OsString::from_vec(image).into())
    }
}

/// Sectors side by side.
pub(super) struct Run<'a> {
    /// Where the first begins.
    pub first: u64,
    /// Where the last ends.
    pub end: u64,
    /// Their old bytes; only zeros where none were saved.
    pub old: &'a [u8],
    /// How many states each has.
    states: usize,
    /// The checksums of all of these.
    sums: &'a [[u8; 8]],
}

impl Run<'_> {
    /// Whether the repair changes the sectors.
    pub const fn is_changed(&self) -> bool {
        self.states > 1
    }

    /// The first sector of `now` that is in none of its states, by its position in the image.
    pub fn unknown(&self, now: &[u8]) -> Option<u64> {
        let sectors = now.chunks(SECTOR).zip(self.sums.chunks(self.states));
        let is_unknown = |(now, states): (&[u8], &[[u8; 8]])| {
            let sum = checksum(now).to_be_bytes();
            !states.contains(&sum)
        };
        let index = sectors.map(is_unknown).position(|is_unknown| is_unknown);
        index.map(|index| self.first + (index * SECTOR) as u64)
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
