//! Where the bytes of an image live: a regular file, a block device, memory.
//!
//! Reading takes `&self` and everything that changes bytes takes `&mut self`: a read-only check is
//! handed a shared reference and cannot write, by its type.

mod error;
mod file;
mod lock;
mod memory;

pub(crate) use error::reason;
pub use error::{OpenError, shown};
pub use file::FileStorage;
pub use lock::Access;
pub use memory::MemoryStorage;

use crate::units::Offset;

/// What an I/O error happened in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, derive_more::Display)]
#[expect(missing_docs, reason = "their texts say what they are")]
pub enum Operation {
    #[display("reading")]
    Read,
    #[display("writing")]
    Write,
    #[display("changing the length")]
    SetLen,
    /// Making earlier writes durable.
    #[display("flushing")]
    Flush,
    /// Giving back the space behind bytes.
    #[display("discarding")]
    Discard,
}

/// A failed operation on the storage: what was tried, where, and what the system said.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {length} bytes at offset {offset} failed: {source}")]
#[non_exhaustive]
pub struct StorageError {
    /// What was tried.
    pub operation: Operation,
    /// Where it began; the new length for [`Operation::SetLen`].
    pub offset: Offset,
    /// How many bytes it was for.
    pub length: u64,
    /// What the system said.
    pub source: std::io::Error,
}

impl StorageError {
    /// An operation for `length` bytes at `offset` failed.
    pub fn new(
        operation: Operation,
        offset: Offset,
        length: u64,
        source: impl Into<std::io::Error>,
    ) -> Self {
        Self {
            operation,
            offset,
            length,
            source: source.into(),
        }
    }
}

/// What an error of the system means for an operation that was for `length` bytes at `offset`.
pub(crate) fn failed<E: Into<std::io::Error>>(
    operation: Operation,
    offset: Offset,
    length: u64,
) -> impl Fn(E) -> StorageError + Copy {
    move |source| StorageError::new(operation, offset, length, source)
}

/// Something that holds the bytes of an image.
#[expect(
    clippy::len_without_is_empty,
    reason = "what holds no bytes is no image"
)]
pub trait Storage: Send + Sync {
    /// The present length, in bytes.
    fn len(&self) -> u64;

    /// The length, in bytes, that it can never exceed; `None` when it can grow, as a file can.
    fn capacity(&self) -> Option<u64>;

    /// Fills `buffer` from `offset` on; what lies past the end reads as zeros.
    fn read_at(&self, offset: Offset, buffer: &mut [u8]) -> Result<(), StorageError>;

    /// The first byte from `offset` on that may be other than 0; `None` when there is none before
    /// the end. Storage that knows its holes skips them here.
    fn next_data(&self, offset: Offset) -> Option<Offset> {
        (offset.0 < self.len()).then_some(offset)
    }

    /// Writes all of `bytes` at `offset`, growing where that is possible.
    fn write_at(&mut self, offset: Offset, bytes: &[u8]) -> Result<(), StorageError>;

    /// Sets the length in bytes; what is new reads as zeros.
    fn set_len(&mut self, length: u64) -> Result<(), StorageError>;

    /// Returns once everything written before survives a power cut.
    fn flush(&mut self) -> Result<(), StorageError>;

    /// Gives back the space behind `length` bytes at `offset`, whose content no longer matters.
    /// Doing nothing is allowed, and the default.
    fn discard(&mut self, _offset: Offset, _length: u64) -> Result<(), StorageError> {
        Ok(())
    }
}
