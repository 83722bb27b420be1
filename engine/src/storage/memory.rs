//! An image in memory, for tests, embedders and the harness.

use std::io::ErrorKind;

use super::{Operation, Storage, StorageError, failed};
use crate::units::Offset;

/// Bytes in memory; grows on writing past the end unless made with [`MemoryStorage::fixed`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStorage {
    bytes: Vec<u8>,
    fixed: bool,
}

impl MemoryStorage {
    /// Storage that can grow.
    pub const fn growing(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            fixed: false,
        }
    }

    /// Storage of a fixed size, as a block device is.
    pub const fn fixed(bytes: Vec<u8>) -> Self {
        Self { bytes, fixed: true }
    }

    /// The bytes as they are now.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Makes it at least `length` bytes long.
    fn grow(&mut self, length: u64) -> Result<(), ErrorKind> {
        let more = length.saturating_sub(self.len());
        if more > 0 && self.fixed {
            return Err(ErrorKind::StorageFull);
        }
        let reserved = self.bytes.try_reserve(more as usize);
        reserved.map_err(|_| ErrorKind::OutOfMemory)?;
        self.bytes.resize(self.bytes.len() + more as usize, 0);
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
        let stored = self.bytes.get(offset.0 as usize..).unwrap_or_default();
        let (present, past_end) = buffer.split_at_mut(stored.len().min(buffer.len()));
        present.copy_from_slice(&stored[..present.len()]);
        past_end.fill(0);
        Ok(())
    }

    fn write_at(&mut self, offset: Offset, bytes: &[u8]) -> Result<(), StorageError> {
        let length = bytes.len() as u64;
        let failed = failed(Operation::Write, offset, length);
        let end = offset.0.checked_add(length).ok_or(ErrorKind::InvalidInput);
        end.and_then(|end| self.grow(end)).map_err(failed)?;
        // The buffer is long enough now, so that the offset fits.
        let start = offset.0 as usize;
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&mut self, length: u64) -> Result<(), StorageError> {
        let failed = failed(Operation::SetLen, Offset(length), length);
        if self.fixed && length < self.len() {
            return Err(failed(ErrorKind::Unsupported));
        }
        self.grow(length).map_err(failed)?;
        self.bytes.truncate(length as usize);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}
