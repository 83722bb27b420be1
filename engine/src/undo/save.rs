//! Saving what a repair will replace.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::body::Body;
use super::error::UndoError;
use super::format::{Kind, SECTOR};
use super::read::UndoFile;
use super::samples::Samples;
use super::states::Window;
use crate::storage::Storage;
use crate::units::Offset;

/// What is called with each write of a repair: where, and the new bytes.
pub type OnWrite<'a> = dyn FnMut(Offset, &[u8]) -> Result<(), UndoError> + 'a;

/// Every write of a repair that has not begun.
pub trait Writes {
    /// Hands all writes to `write`, in the order in which the repair does them; the same ones each
    /// time. Errors of `write` end it and come
    /// back.
    fn for_each(&self, write: &mut OnWrite<'_>) -> Result<(), UndoError>;
}

impl<B: AsRef<[u8]>> Writes for [(Offset, B)] {
    fn for_each(&self, write: &mut OnWrite<'_>) -> Result<(), UndoError> {
        self.iter()
            .try_for_each(|(offset, bytes)| write(*offset, bytes.as_ref()))
    }
}

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
    writes: &(impl Writes + ?Sized),
) -> Result<UndoFile, UndoError> {
    let mut body = Body::create(path)?;
    body.record(Kind::Path, 0, 0, image_path.as_os_str().as_bytes())?;
    let mut samples = Samples::choose(image);
    let mut new_length = image.len();
    let mut window = Window::new(image, 0);
    writes.for_each(&mut |offset, bytes| {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = end_of(offset, bytes)?;
        new_length = new_length.max(end);
        let sector = SECTOR as u64;
        samples.leave_out(offset.0 / sector, (end - 1) / sector);
        window.write(offset, bytes)
    })?;
    samples.save(image, &mut body)?;
    while let Some(from) = window.save(&mut body)? {
        window = Window::new(image, from);
        writes.for_each(&mut |offset, bytes| {
            end_of(offset, bytes)?;
            window.write(offset, bytes)
        })?;
    }
    let (file, header) = body.finish(image.len(), new_length)?;
    Ok(UndoFile::new(path, file, header, image_path))
}

/// Where a write ends, which fits a file.
fn end_of(offset: Offset, bytes: &[u8]) -> Result<u64, UndoError> {
    let length = bytes.len() as u64;
    // Up to the end of the sector.
    let limit = i64::MAX as u64 / SECTOR as u64 * SECTOR as u64;
    offset
        .checked_add(length)
        .filter(|end| end.0 <= limit)
        .map(|end| end.0)
        .ok_or(UndoError::WritePastEnd { offset, length })
}
