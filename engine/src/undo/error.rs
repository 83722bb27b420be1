//! Why an undo file cannot be saved or put back.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::format::VERSION;
use crate::storage::{StorageError, reason, shown};
use crate::table::OutOfMemory;
use crate::units::Offset;

/// What was tried with the undo file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileOperation {
    /// Making it.
    Create,
    /// Opening it.
    Open,
    /// Reading it.
    Read,
    /// Writing to it.
    Write,
    /// Making it, or its name, durable.
    Flush,
}

impl fmt::Display for FileOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
        })
    }
}

/// Why an undo file cannot be saved or put back. But for [`UndoError::Interrupted`] and
/// [`UndoError::Unmarked`] nothing has been written to the image.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    /// The name for a new undo file is taken.
    #[error(
        "{} exists already, and no file is written over; give another name for the undo file",
        shown(.path)
    )]
    Exists {
        /// The name.
        path: PathBuf,
    },
    /// The system refused something on the undo file.
    #[error("could not {operation} the undo file {}: {}", shown(.path), reason(.source))]
    File {
        /// What was tried.
        operation: FileOperation,
        /// The undo file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not an undo file.
    #[error("{} is not an undo file of recount", shown(.path))]
    NotUndo {
        /// The file.
        path: PathBuf,
    },
    /// Of another version of the format.
    #[error(
        "the undo file {} has version {version} of the format, and this recount reads version \
         {VERSION}; use the recount that wrote it",
        shown(.path)
    )]
    Version {
        /// The undo file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Saving was interrupted.
    #[error(
        "the undo file {} was not finished, so the repair had not begun: there is nothing to put \
         back, and the file can go",
        shown(.path)
    )]
    Unfinished {
        /// The undo file.
        path: PathBuf,
    },
    /// Shorter or longer than it was written.
    #[error(
        "the undo file {} is {length} bytes long and should be {expected}; get a whole copy of it",
        shown(.path)
    )]
    Length {
        /// The undo file.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
        /// What it should be.
        expected: u64,
    },
    /// Its bytes are not those that were written.
    #[error(
        "the undo file {} is damaged at byte {at}; get an undamaged copy of it",
        shown(.path)
    )]
    Damaged {
        /// The undo file.
        path: PathBuf,
        /// Where the damaged part begins.
        at: u64,
    },
    /// It was put back before.
    #[error("the undo file {} was put back already; it can go", shown(.path))]
    Applied {
        /// The undo file.
        path: PathBuf,
    },
    /// [`UndoFile::seal`](super::UndoFile::seal) on one that is sealed or being put back.
    #[error("the undo file {} was sealed already", shown(.path))]
    Sealed {
        /// The undo file.
        path: PathBuf,
    },
    /// The image has a length that the repair does not leave.
    #[error(
        "the image has {length} bytes, and the one that was repaired has {old} to {new}: it is \
         another image, or it was changed after the repair"
    )]
    ImageLength {
        /// The image's length in bytes.
        length: u64,
        /// Before the repair.
        old: u64,
        /// After it.
        new: u64,
    },
    /// A sector that the repair does not write is not what it was.
    #[error(
        "the image differs at offset {offset}, which the repair did not write: it is another image, \
         or it was written to after the repair"
    )]
    OtherImage {
        /// Where the sector begins.
        offset: Offset,
    },
    /// A sector is in no state that the repair leaves it in.
    #[error(
        "the image has at offset {offset} what neither was there before the repair nor was written \
         by it: it is another image, or it was written to after the repair"
    )]
    Changed {
        /// Where the sector begins.
        offset: Offset,
    },
    /// The file's time of modification is not that of the end of the repair.
    #[error(
        "the image was modified after the repair (or copied without its time of modification): \
         putting the old tables back could lose what was written since"
    )]
    ModifiedSince,
    /// A write of the repair is not within what a file can hold.
    #[error("a write of {length} bytes at offset {offset} is past what a file can hold")]
    WritePastEnd {
        /// Where.
        offset: Offset,
        /// How many bytes.
        length: u64,
    },
    /// A sector passes through more states than a record has room for.
    #[error("the sector at offset {offset} is written too often for the undo file")]
    TooManyStates {
        /// Where the sector begins.
        offset: Offset,
    },
    /// The image could not be read while its old bytes were saved or compared.
    #[error(transparent)]
    Image(#[from] StorageError),
    /// Memory ran out.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// Putting back failed on the way.
    #[error(
        "{source}; the image is put back in part: mend the cause, and undo again with the same file"
    )]
    Interrupted {
        /// What failed.
        source: Box<UndoError>,
    },
    /// All is put back, and the undo file does not say so.
    #[error("the image is as it was before the repair, but {source}; the undo file can go")]
    Unmarked {
        /// What failed.
        source: Box<UndoError>,
    },
}

/// Makes the error of a failed operation on the undo file.
pub(super) fn on_file(
    operation: FileOperation,
    path: &Path,
) -> impl FnOnce(io::Error) -> UndoError + '_ {
    move |source| UndoError::File {
        operation,
        path: path.to_owned(),
        source,
    }
}
