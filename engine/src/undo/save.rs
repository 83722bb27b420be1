//! Saving what a repair will replace.
//!
//! The states that sectors pass through are followed while the writes are gone through. As many
//! sectors are followed at a time as memory may be had for; the others come in further passes over
//! the writes. Beside the sectors that are written some are followed that are not, to tell the
//! image from others.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::hash::Hasher as _;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use twox_hash::XxHash64;

use super::error::UndoError;
use super::file::UndoFile;
use super::format::{Header, MAX_STATES, SECTOR, Status, checksum};
use crate::storage::Storage;
use crate::units::Offset;

/// Bytes written at once.
const BUFFER_BYTES: usize = 1 << 20;

/// The most sectors followed in one pass: about 40 MB of memory.
const MAX_FOLLOWED: usize = 1 << 16;

/// Sectors followed at the start of the file, where the tables of most images are.
const SAMPLES_FIRST: u64 = 1024;

/// Sectors followed evenly over the whole length.
const SAMPLES_SPREAD: u64 = 1024;

/// The bytes of a sector, to reckon with positions.
const SECTOR_BYTES: u64 = SECTOR as u64;

/// What is called with each write of a repair: where, and the new bytes.
pub type OnWrite<'a> = dyn FnMut(Offset, &[u8]) -> Result<(), UndoError> + 'a;

/// Hands over all writes of a repair that has not begun, in the order in which the repair does
/// them; the same ones each time. Errors of what is called end it and come back.
pub type Writes<'a> = dyn Fn(&mut OnWrite<'_>) -> Result<(), UndoError> + 'a;

/// Saves to a new file at `path` what `writes` will replace in `image`, and returns once that file
/// is durable: the repair may begin then. `image_path` is where a later `recount undo` looks for
/// the image.
///
/// On an error there is no file, unless one was there before. Writes may overlap, and go past the
/// end of the image. They are gone through once for each 32 MiB that they touch. What a repair gives
/// back to the file system is not undone: it must not, or hand it over as a write of zeros.
pub fn save(
    path: &Path,
    image: &dyn Storage,
    image_path: &Path,
    writes: &Writes<'_>,
) -> Result<UndoFile, UndoError> {
    // Only its owner may read it: it holds parts of the image.
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let mut body = Body {
        file: BufWriter::with_capacity(BUFFER_BYTES, file),
        sum: XxHash64::with_seed(0),
    };
    let saved = body.fill(path, image, image_path, writes);
    let saved = saved.and_then(|()| UndoFile::open(path));
    if saved.is_err() {
        // Where this fails as well, the header says that the file is of no use.
        let _ = std::fs::remove_file(path);
    }
    saved
}

/// An undo file while it is written, and the checksum of its body so far.
struct Body {
    file: BufWriter<File>,
    sum: XxHash64,
}

impl Body {
    fn fill(
        &mut self,
        path: &Path,
        image: &dyn Storage,
        image_path: &Path,
        writes: &Writes<'_>,
    ) -> Result<(), UndoError> {
        self.file.write_all(&Header::default().encode())?;
        let image_path = image_path.as_os_str().as_bytes();
        self.write(image_path)?;
        let samples = samples(image);
        let mut window = Window {
            image,
            from: 0,
            limit: u64::MAX,
            sectors: BTreeMap::new(),
            new_length: image.len(),
        };
        while window.from < u64::MAX {
            for sector in &samples {
                window.follow(*sector)?;
            }
            writes(&mut |offset, bytes| window.write(offset, bytes))?;
            window.save(self)?;
            window.from = std::mem::replace(&mut window.limit, u64::MAX);
        }
        let header = Header {
            status: Status::Saved,
            modified: 0,
            old_length: image.len(),
            new_length: window.new_length,
            path_length: image_path.len(),
            body_checksum: self.sum.finish(),
        };
        // That all is there is said once all is durable.
        self.file.flush()?;
        let file = self.file.get_ref();
        file.sync_all()?;
        file.write_all_at(&header.encode(), 0)?;
        file.sync_all()?;
        let directory = std::path::absolute(path)?;
        Ok(File::open(directory.parent().unwrap_or(&directory))?.sync_all()?)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.write(bytes);
        self.file.write_all(bytes)
    }

    fn numbers(&mut self, numbers: impl AsRef<[u64]>) -> io::Result<()> {
        let mut numbers = numbers.as_ref().iter();
        numbers.try_for_each(|number| self.write(&number.to_be_bytes()))
    }
}

/// The numbers of sectors by which the image is told from others, of a hole its end.
fn samples(image: &dyn Storage) -> Vec<u64> {
    let length = image.len();
    let step = (length / SAMPLES_SPREAD).max(SECTOR_BYTES);
    let spread = (0..SAMPLES_SPREAD).map(|index| step * index);
    let spread = spread.take_while(|at| *at < length).map(|at| {
        let data = image
            .next_data(Offset(at))
            .filter(|data| data.0 < at + step);
        data.map_or(at, |data| data.0) / SECTOR_BYTES
    });
    let first = 0..length.div_ceil(SECTOR_BYTES).min(SAMPLES_FIRST);
    first.chain(spread).collect()
}

/// The sectors followed in one pass: the lowest from number `from` on.
struct Window<'a> {
    image: &'a dyn Storage,
    from: u64,
    /// The first sector that is left to the next pass.
    limit: u64,
    sectors: BTreeMap<u64, Box<States>>,
    /// The length of the image after all writes.
    new_length: u64,
}

/// What has been written to a sector so far.
struct States {
    now: [u8; SECTOR],
    /// Checksums, each once, the old one first.
    sums: Vec<u64>,
}

impl Window<'_> {
    /// The next write of the repair.
    fn write(&mut self, offset: Offset, bytes: &[u8]) -> Result<(), UndoError> {
        // Up to the end of the sector.
        let longest = i64::MAX as u64 / SECTOR_BYTES * SECTOR_BYTES;
        let end = offset.checked_add(bytes.len() as u64);
        let end = end.filter(|end| end.0 <= longest);
        let end = end.ok_or(UndoError::TooMuch(offset))?.0;
        self.new_length = self.new_length.max(end);
        let old_length = self.image.len();
        let (mut at, mut rest) = (offset.0, bytes);
        while !rest.is_empty() {
            let within = (at % SECTOR_BYTES) as usize;
            let (part, after) = rest.split_at(rest.len().min(SECTOR - within));
            if let Some(states) = self.follow(at / SECTOR_BYTES)? {
                states.now[within..][..part.len()].copy_from_slice(part);
                states.add(checksum(&states.now));
                // The length may become durable later than the bytes: then the sector in which the
                // image ended has new bytes up to there, and zeros.
                let present = (old_length + within as u64).saturating_sub(at);
                if (1..SECTOR_BYTES).contains(&present) {
                    let mut cut = states.now;
                    cut[present as usize..].fill(0);
                    states.add(checksum(&cut));
                }
            }
            at += part.len() as u64;
            rest = after;
        }
        Ok(())
    }

    /// The states of a sector, if it is one for this pass.
    fn follow(&mut self, sector: u64) -> Result<Option<&mut Box<States>>, UndoError> {
        if !(self.from..self.limit).contains(&sector) {
            return Ok(None);
        }
        if !self.sectors.contains_key(&sector) {
            let mut now = [0; SECTOR];
            let offset = Offset(sector * SECTOR_BYTES);
            self.image.read_at(offset, &mut now)?;
            let sums = vec![checksum(&now)];
            self.sectors.insert(sector, Box::new(States { now, sums }));
            if self.sectors.len() > MAX_FOLLOWED
                && let Some((last, _)) = self.sectors.pop_last()
            {
                self.limit = last;
            }
        }
        Ok(self.sectors.get_mut(&sector))
    }

    /// Writes the records of the sectors followed.
    fn save(&mut self, body: &mut Body) -> Result<(), UndoError> {
        for (sector, states) in std::mem::take(&mut self.sectors) {
            let (offset, mut old) = (Offset(sector * SECTOR_BYTES), [0; SECTOR]);
            let count = states.sums.len() as u64;
            if count > MAX_STATES {
                return Err(UndoError::TooMuch(offset));
            }
            self.image.read_at(offset, &mut old)?;
            let has_bytes = count > 1 && old != [0; SECTOR];
            body.numbers([offset.0, count, has_bytes.into()])?;
            if has_bytes {
                body.write(&old)?;
            }
            body.numbers(states.sums)?;
            body.numbers([body.sum.finish()])?;
        }
        Ok(())
    }
}

impl States {
    fn add(&mut self, sum: u64) {
        if !self.sums.contains(&sum) {
            self.sums.push(sum);
        }
    }
}
