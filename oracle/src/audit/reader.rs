//! Reads numbers and tables, and stops when an image asks for more work than any real one does.

use super::bytes::Bytes;
use super::qemu_view::habits;

/// Why there is no audit.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The storage fails.
    #[error("reading the image: {0}")]
    Io(#[from] std::io::Error),
    /// Not a qcow2 image, or one that qemu does not open for the sake of this field.
    #[error("the image cannot be opened: {field} is {value:#x}")]
    NotOpened {
        /// Which field of the header.
        field: &'static str,
        /// What it says.
        value: u64,
    },
    /// Its tables lead to far more than is in the file.
    #[error("the tables refer to themselves so often that an audit does not end in useful time")]
    TooMuchWork,
}

/// Bytes read at once from a table.
const PIECE: u64 = 64 << 10;
/// Cost of reading 64 bytes.
const COST_OF_64_BYTES: u64 = 1;
/// Cost of a reference or a refcount that is kept: memory bounds these.
const COST_OF_KEEPING: u64 = 16;
/// What one audit may cost: 4 GiB read, or 4 million references. Tables that share tables let a
/// small file ask for far more.
const BUDGET: u64 = 64 << 20;
/// The bytes and what reading them may still cost.
pub(super) struct Reader<'a> {
    bytes: &'a dyn Bytes,
    /// The file's length in bytes, whole sectors.
    length: u64,
    left: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a dyn Bytes) -> Result<Self, Unreadable> {
        Ok(Self {
            bytes,
            length: habits::length(bytes.length()?),
            left: BUDGET,
        })
    }

    /// The file's length in bytes, rounded up to whole sectors.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Pays for something that is remembered.
    pub(super) fn pay_for_keeping(&mut self) -> Result<(), Unreadable> {
        self.pay(COST_OF_KEEPING)
    }

    fn pay(&mut self, cost: u64) -> Result<(), Unreadable> {
        self.left = self.left.checked_sub(cost).ok_or(Unreadable::TooMuchWork)?;
        Ok(())
    }

    /// `count` bytes at `offset`, zeros past the end.
    pub(super) fn bytes(&mut self, offset: u64, count: u64) -> Result<Vec<u8>, Unreadable> {
        self.pay(count.div_ceil(64) * COST_OF_64_BYTES)?;
        let count = usize::try_from(count).map_err(|_| Unreadable::TooMuchWork)?;
        let mut buffer = vec![0; count];
        self.bytes.read(offset, &mut buffer)?;
        Ok(buffer)
    }

    /// The entries of a table of 64-bit numbers that are not 0, with their indexes.
    pub(super) fn table(
        &mut self,
        offset: u64,
        entries: u64,
    ) -> Result<Vec<(u64, u64)>, Unreadable> {
        let mut found = Vec::new();
        let end = offset
            .saturating_add(entries.saturating_mul(8))
            .min(self.length);
        let mut at = offset;
        while at < end {
            let piece = self.bytes(at, PIECE.min(end - at).next_multiple_of(8))?;
            for (number, word) in (0..).zip(piece.chunks_exact(8)) {
                let index = (at - offset) / 8 + number;
                let value = be64(word);
                if value != 0 && index < entries {
                    self.pay(COST_OF_64_BYTES)?;
                    found.push((index, value));
                }
            }
            at += PIECE;
        }
        Ok(found)
    }
}

/// A big-endian 16-bit number at the start of some bytes.
pub(super) fn be16(bytes: &[u8]) -> u64 {
    be(&bytes[..2])
}

/// A big-endian 32-bit number at the start of some bytes.
pub(crate) fn be32(bytes: &[u8]) -> u64 {
    be(&bytes[..4])
}

/// A big-endian 64-bit number at the start of some bytes.
pub(crate) fn be64(bytes: &[u8]) -> u64 {
    be(&bytes[..8])
}

/// A big-endian number of up to 8 bytes.
pub(super) fn be(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}
