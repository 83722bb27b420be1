//! An image in memory, for tests, embedders and the harness.

use std::io;

use super::{Operation, Storage, StorageError};
use crate::units::Offset;

/// Bytes in memory; grows on writing past the end unless made with [`MemoryStorage::fixed`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStorage {
    bytes: Vec<u8>,
    fixed: bool,
}

impl MemoryStorage {
    /// Storage that can grow.
    #[must_use]
    pub const fn growing(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            fixed: false,
        }
    }

    /// Storage of a fixed size, as a block device is.
    #[must_use]
    pub const fn fixed(bytes: Vec<u8>) -> Self {
        Self { bytes, fixed: true }
    }

    /// The bytes as they are now.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes the bytes out.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn error(
        operation: Operation,
        offset: Offset,
        length: u64,
        kind: io::ErrorKind,
    ) -> StorageError {
        StorageError {
            operation,
            offset,
            length,
            source: io::Error::from(kind),
        }
    }

    fn grow(
        &mut self,
        operation: Operation,
        offset: Offset,
        target: u64,
    ) -> Result<(), StorageError> {
        let full = |kind| Self::error(operation, offset, target, kind);
        if self.fixed {
            return Err(full(io::ErrorKind::StorageFull));
        }
        let target = usize::try_from(target).map_err(|_| full(io::ErrorKind::OutOfMemory))?;
        self.bytes
            .try_reserve(target - self.bytes.len())
            .map_err(|_| full(io::ErrorKind::OutOfMemory))?;
        self.bytes.resize(target, 0);
        Ok(())
    }
}

impl Storage for MemoryStorage {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn capacity(&self) -> Option<u64> {
        self.fixed.then_some(self.bytes.len() as u64)
    }

    fn read_at(&self, offset: Offset, buffer: &mut [u8]) -> Result<(), StorageError> {
        let start = usize::try_from(offset.0)
            .unwrap_or(usize::MAX)
            .min(self.bytes.len());
        let available = (self.bytes.len() - start).min(buffer.len());
        let (present, past_end) = buffer.split_at_mut(available);
        present.copy_from_slice(&self.bytes[start..start + available]);
        past_end.fill(0);
        Ok(())
    }

    fn write_at(&mut self, offset: Offset, bytes: &[u8]) -> Result<(), StorageError> {
        let length = bytes.len() as u64;
        let end = offset.0.checked_add(length).ok_or_else(|| {
            Self::error(
                Operation::Write,
                offset,
                length,
                io::ErrorKind::InvalidInput,
            )
        })?;
        if end > self.len() {
            self.grow(Operation::Write, offset, end)?;
        }
        // `end` fits in memory: the buffer is at least that long now.
        let start = (end - length) as usize;
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&mut self, length: u64) -> Result<(), StorageError> {
        if length > self.len() {
            return self.grow(Operation::SetLen, Offset(length), length);
        }
        if self.fixed && length != self.len() {
            let kind = io::ErrorKind::Unsupported;
            return Err(Self::error(Operation::SetLen, Offset(length), length, kind));
        }
        self.bytes.truncate(length as usize);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn discard(&mut self, _offset: Offset, _length: u64) -> Result<(), StorageError> {
        Ok(())
    }
}
