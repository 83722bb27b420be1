//! Saving what a repair will replace.
//!
//! The states that sectors pass through are followed while the writes are gone through. As many
//! sectors are followed at a time as memory may be had for; the others come in further passes over
//! the writes. Beside the sectors that are written some are followed that are not, to tell the
//! image from others.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::error::UndoError;
use super::file::UndoFile;
use super::format::{
    Body, Header, MAX_STATES, SECTOR, SECTOR_BYTES, Sector, Status, Sum, checksum, read, sector_of,
};
use crate::storage::Storage;
use crate::units::Offset;

/// Bytes written at once.
const BUFFER_BYTES: usize = 1 << 20;

/// The most sectors followed in one pass: about 40 MB of memory.
const MAX_FOLLOWED: usize = 1 << 16;

/// Sectors followed at the start of the file, where the tables of most images are.
const SAMPLES_FIRST: usize = 1024;

/// Sectors followed evenly over the whole length.
const SAMPLES_SPREAD: usize = 1024;

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
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let saved = fill(file, path, image, image_path, writes);
    let saved = saved.and_then(|()| UndoFile::open(path));
    if saved.is_err() {
        // Where this fails as well, the header says that the file is of no use.
        let _ = std::fs::remove_file(path);
    }
    saved
}

/// Writes the undo file at `path`.
fn fill(
    mut file: File,
    path: &Path,
    image: &dyn Storage,
    image_path: &Path,
    writes: &Writes<'_>,
) -> Result<(), UndoError> {
    file.write_all(&Header::default().encode())?;
    let mut body = Body::new(BufWriter::with_capacity(BUFFER_BYTES, &file));
    let image_path = image_path.as_os_str().as_bytes();
    body.write(image_path)?;
    let samples = samples(image);
    let mut window = Window {
        image,
        range: 0..u64::MAX,
        sectors: BTreeMap::new(),
        new_length: image.len(),
    };
    while !window.range.is_empty() {
        for sector in &samples {
            window.follow(*sector)?;
        }
        writes(&mut |offset, bytes| window.write(offset, bytes))?;
        window.save(&mut body)?;
    }
    let header = Header {
        status: Status::Saved,
        modified: 0,
        old_length: image.len(),
        new_length: window.new_length,
        path_length: image_path.len() as u64,
        body_sum: body.sum(),
    };
    // That all is there is said once all is durable.
    body.file.flush()?;
    file.sync_all()?;
    file.write_all_at(&header.encode(), 0)?;
    file.sync_all()?;
    let directory = std::path::absolute(path)?;
    Ok(File::open(directory.parent().unwrap_or(&directory))?.sync_all()?)
}

/// The sectors by which the image is told from others, of a hole its end.
fn samples(image: &dyn Storage) -> Vec<u64> {
    let length = image.len();
    let first = (0..length).step_by(SECTOR).take(SAMPLES_FIRST);
    let step = (length / SAMPLES_SPREAD as u64).max(SECTOR_BYTES);
    let spread = (0..length).step_by(step as usize).take(SAMPLES_SPREAD);
    let spread = spread.map(|at| {
        let data = image.next_data(Offset(at));
        let data = data.filter(|data| data.0 < at + step);
        sector_of(data.map_or(at, |data| data.0))
    });
    first.chain(spread).collect()
}

/// The sectors followed in one pass, by where they begin: the lowest ones.
struct Window<'a> {
    image: &'a dyn Storage,
    /// What the passes before have left to this one, up to the first sector left to the next.
    range: Range<u64>,
    sectors: BTreeMap<u64, Box<States>>,
    /// The length of the image after all writes.
    new_length: u64,
}

/// What has been written to a sector so far.
struct States {
    now: [u8; SECTOR],
    /// Checksums, each once, the old one first.
    sums: Vec<Sum>,
}

impl Window<'_> {
    /// The next write of the repair.
    fn write(&mut self, offset: Offset, bytes: &[u8]) -> Result<(), UndoError> {
        let end = offset.checked_add(bytes.len() as u64);
        // Up to the end of the sector.
        let end = end.filter(|end| end.0 <= sector_of(i64::MAX as u64));
        let end = end.ok_or(UndoError::TooMuch(offset))?.0;
        self.new_length = self.new_length.max(end);
        let (old_length, mut rest, mut from) = (self.image.len(), bytes, offset.0);
        while from < end {
            let at = sector_of(from);
            let to = end.min(at + SECTOR_BYTES);
            let (part, after) = rest.split_at((to - from) as usize);
            if let Some(states) = self.follow(at)? {
                states.now[(from - at) as usize..][..part.len()].copy_from_slice(part);
                let mut now = states.now;
                states.add(&now);
                // The length may become durable later than the bytes: then the sector in which the
                // image ended has new bytes up to there, and zeros.
                let present = old_length.saturating_sub(at);
                if (1..SECTOR_BYTES).contains(&present) {
                    now[present as usize..].fill(0);
                    states.add(&now);
                }
            }
            (rest, from) = (after, to);
        }
        Ok(())
    }

    /// The states of a sector, if it is one for this pass.
    fn follow(&mut self, at: u64) -> Result<Option<&mut Box<States>>, UndoError> {
        if !self.range.contains(&at) {
            return Ok(None);
        }
        if !self.sectors.contains_key(&at) {
            let now = read(self.image, at)?;
            let sums = vec![checksum(&now)];
            self.sectors.insert(at, Box::new(States { now, sums }));
            if self.sectors.len() > MAX_FOLLOWED
                && let Some((last, _)) = self.sectors.pop_last()
            {
                self.range.end = last;
            }
        }
        Ok(self.sectors.get_mut(&at))
    }

    /// Writes the records of the sectors followed, and goes on to the next pass.
    fn save(&mut self, body: &mut Body<impl Write>) -> Result<(), UndoError> {
        for (at, states) in std::mem::take(&mut self.sectors) {
            if states.sums.len() as u64 > MAX_STATES {
                return Err(UndoError::TooMuch(Offset(at)));
            }
            let (old, sums) = (read(self.image, at)?, states.sums);
            Sector { at, old, sums }.write(body)?;
        }
        self.range = self.range.end..u64::MAX;
        Ok(())
    }
}

impl States {
    fn add(&mut self, bytes: &[u8; SECTOR]) {
        let sum = checksum(bytes);
        if !self.sums.contains(&sum) {
            self.sums.push(sum);
        }
    }
}
