//! Bytes that can be damaged: a vector, or a sparse image that costs what is in it, not its length.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Bytes of one page of a [`SparseBytes`].
pub const PAGE: usize = 4096;
const ZEROS: [u8; PAGE] = [0; PAGE];

/// An image that damage can be done to.
pub trait ReadWriteAt {
    /// The present length, in bytes.
    fn len(&self) -> u64;

    /// Whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buffer` from byte `offset` on; zeros past the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at byte `offset`, growing where needed.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Sets the length in bytes; what is new reads as zeros.
    fn set_len(&mut self, length: u64) -> io::Result<()>;
}

impl ReadWriteAt for Vec<u8> {
    fn len(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = in_memory(offset).min(self.len());
        let present = (self.len() - start).min(buffer.len());
        buffer[..present].copy_from_slice(&self[start..start + present]);
        buffer[present..].fill(0);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start
            .checked_add(bytes.len())
            .ok_or(io::ErrorKind::InvalidInput)?;
        if end > self.len() {
            self.resize(end, 0);
        }
        self[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.resize(usize::try_from(length).map_err(io::Error::other)?, 0);
        Ok(())
    }
}

/// A long image of which few pages are not zero. Clones share their pages until written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SparseBytes {
    length: u64,
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
}

impl SparseBytes {
    /// `length` zeros.
    #[must_use]
    pub const fn zeros(length: u64) -> Self {
        Self {
            length,
            pages: BTreeMap::new(),
        }
    }

    /// The pages that are not all zeros: byte position and content, in order.
    pub fn pages(&self) -> impl Iterator<Item = (u64, &[u8; PAGE])> {
        self.pages
            .iter()
            .map(|(page, bytes)| (page * PAGE as u64, &**bytes))
    }

    /// The first byte from `offset` on that is on a page with something other than zeros; `None`
    /// when there is none.
    #[must_use]
    pub fn next_data(&self, offset: u64) -> Option<u64> {
        let (page, _) = split(offset);
        let (found, _) = self.pages.range(page..).next()?;
        let next = offset.max(found * PAGE as u64);
        (next < self.length).then_some(next)
    }

    /// The bytes from `offset` on, `length` of them, zeros past the end.
    #[must_use]
    pub fn bytes(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut buffer = vec![0; length];
        self.fill(offset, &mut buffer);
        buffer
    }

    fn fill(&self, offset: u64, buffer: &mut [u8]) {
        let mut done = 0;
        while done < buffer.len() {
            let Some(position) = offset.checked_add(done as u64) else {
                buffer[done..].fill(0);
                return;
            };
            let (page, inside) = split(position);
            let part = (PAGE - inside).min(buffer.len() - done);
            match self.pages.get(&page) {
                Some(bytes) => {
                    buffer[done..done + part].copy_from_slice(&bytes[inside..inside + part]);
                }
                None => buffer[done..done + part].fill(0),
            }
            done += part;
        }
    }
}

/// A length as a number of bytes in memory; more than any memory holds where it does not fit.
pub(super) fn in_memory(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// A byte position as page number and position inside the page.
fn split(position: u64) -> (u64, usize) {
    let page = position / PAGE as u64;
    (page, in_memory(position % PAGE as u64))
}

impl ReadWriteAt for SparseBytes {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.fill(offset, buffer);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset
            .checked_add(bytes.len() as u64)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let mut done = 0;
        while done < bytes.len() {
            let (page, inside) = split(offset + done as u64);
            let part = (PAGE - inside).min(bytes.len() - done);
            let from = &bytes[done..done + part];
            if self.pages.contains_key(&page) || from != &ZEROS[..part] {
                let target = self
                    .pages
                    .entry(page)
                    .or_insert_with(|| Arc::new([0; PAGE]));
                Arc::make_mut(target)[inside..inside + part].copy_from_slice(from);
                if **target == ZEROS {
                    self.pages.remove(&page);
                }
            }
            done += part;
        }
        self.length = self.length.max(end);
        Ok(())
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        if length < self.length {
            let (page, inside) = split(length);
            drop(self.pages.split_off(&(page + u64::from(inside > 0))));
            if let Some(last) = self.pages.get_mut(&page) {
                Arc::make_mut(last)[inside..].fill(0);
                if last.iter().all(|&byte| byte == 0) {
                    self.pages.remove(&page);
                }
            }
        }
        self.length = length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{PAGE, ReadWriteAt, SparseBytes};

    #[test]
    fn sparse_bytes_behave_like_a_vector() {
        let mut sparse = SparseBytes::default();
        let mut plain: Vec<u8> = Vec::new();
        let both: [&mut dyn ReadWriteAt; 2] = [&mut sparse, &mut plain];
        for image in both {
            image.write_at(PAGE as u64 - 3, b"abcdef").unwrap();
            image.write_at(3 * PAGE as u64, &[7; 5000]).unwrap();
            image.set_len(PAGE as u64 + 1).unwrap();
            image.set_len(4 * PAGE as u64).unwrap();
            image.write_at(PAGE as u64, &[0]).unwrap();
        }
        assert_eq!(plain.len() as u64, ReadWriteAt::len(&sparse));
        assert_eq!(plain, sparse.bytes(0, plain.len()));
        assert_eq!(sparse.pages().count(), 1, "pages of zeros take no memory");
    }

    #[test]
    fn holes_are_skipped() {
        let mut sparse = SparseBytes::default();
        sparse.write_at(2 * PAGE as u64 + 7, &[1]).unwrap();
        sparse.set_len(9 * PAGE as u64).unwrap();
        assert_eq!(sparse.next_data(0), Some(2 * PAGE as u64));
        assert_eq!(
            sparse.next_data(2 * PAGE as u64 + 9),
            Some(2 * PAGE as u64 + 9)
        );
        assert_eq!(sparse.next_data(3 * PAGE as u64), None);
    }
}
