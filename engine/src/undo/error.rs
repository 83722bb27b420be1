//! Why an undo file cannot be saved or put back.

use std::io::{self, ErrorKind};

use super::format::VERSION;
use crate::plan::RepairError;
use crate::storage::{StorageError, reason};
use crate::units::Offset;

/// Why an undo file cannot be saved or put back; in the texts "it" is the undo file. But for
/// [`UndoError::Interrupted`] and [`UndoError::Unmarked`] nothing has been written to the image.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "they are what their texts say")]
#[non_exhaustive]
pub enum UndoError {
    #[error("it exists already, and no file is written over; give another name for the undo file")]
    Exists,
    /// The system refused something on the undo file.
    #[error("{}", reason(.0))]
    File(#[source] io::Error),
    #[error("it is not an undo file of recount; the undo file comes first, the image after it")]
    NotUndo,
    #[error(
        "it has version {0} of the format, and this recount reads version {VERSION}; use the recount \
         that wrote it"
    )]
    Version(u64),
    #[error(
        "it was not finished, so the repair had not begun: there is nothing to put back, and the \
         undo file can go"
    )]
    Unfinished,
    #[error("it is damaged or cut short; get a whole copy of it")]
    Damaged,
    #[error("it was put back already; the undo file can go")]
    Applied,
    /// [`UndoFile::seal`](super::UndoFile::seal) on one that is sealed or being put back.
    #[error("it was sealed already")]
    Sealed,
    /// The length of the image now, before the repair and after it, in bytes.
    #[error(
        "the image has {0} bytes, and the one that was repaired has {1} to {2}: it is another image, \
         or it was changed after the repair"
    )]
    ImageLength(u64, u64, u64),
    /// A sector, which begins there, is in no state that the repair leaves it in.
    #[error(
        "the image has at offset {0} what neither was there before the repair nor was written by it: \
         it is another image, or it was written to after the repair"
    )]
    OtherImage(Offset),
    #[error(
        "the image was modified after the repair (or copied without its time of modification): \
         putting the old tables back could lose what was written since"
    )]
    ModifiedSince,
    #[error(
        "the write at offset {0} is past what a file can hold, or one of too many at that place"
    )]
    TooMuch(Offset),
    /// The image could not be read while its old bytes were saved or compared.
    #[error(transparent)]
    Image(#[from] StorageError),
    /// The writes of the repair could not be found out.
    #[error(transparent)]
    Writes(#[from] RepairError),
    #[error(
        "{0}; the image is put back in part: mend the cause, and undo again with the same file"
    )]
    Interrupted(#[source] Box<UndoError>),
    #[error(
        "the image is as it was before the repair, but the undo file does not say so: {0}; it can go"
    )]
    Unmarked(#[source] Box<UndoError>),
}

impl From<io::Error> for UndoError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::AlreadyExists => Self::Exists,
            ErrorKind::UnexpectedEof => Self::Damaged,
            _ => Self::File(error),
        }
    }
}
