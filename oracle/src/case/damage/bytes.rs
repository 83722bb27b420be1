//! The bytes of an image: they cost what is in them, not their length.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

/// Bytes of one page of a [`SparseBytes`].
pub const PAGE: usize = 4096;
const ZEROS: [u8; PAGE] = [0; PAGE];

/// A long image of which few pages are not zero. Clones share their pages until written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SparseBytes {
    length: u64,
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
}

impl SparseBytes {
    /// `length` zeros.
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
    pub fn next_data(&self, offset: u64) -> Option<u64> {
        let (page, _) = split(offset);
        let (found, _) = self.pages.range(page..).next()?;
        let next = offset.max(found * PAGE as u64);
        (next < self.length).then_some(next)
    }

    /// The bytes from `offset` on, `length` of them, zeros past the end.
    pub fn bytes(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut buffer = vec![0; length];
        self.read_at(offset, &mut buffer);
        buffer
    }

    /// The big-endian number of `bytes` bytes, 8 at most, at byte `offset`.
    pub fn number(&self, offset: u64, bytes: usize) -> u64 {
        let mut number = [0; 8];
        self.read_at(offset, &mut number[8 - bytes..]);
        u64::from_be_bytes(number)
    }

    /// The present length, in bytes.
    pub const fn len(&self) -> u64 {
        self.length
    }

    /// Whether there are no bytes at all.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Fills `buffer` from byte `offset` on; zeros past the end.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) {
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

    /// Writes all of `bytes` at byte `offset`, growing where needed; fails past 2^64 only.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
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

    /// The same where it cannot fail.
    ///
    /// # Panics
    ///
    /// If the end is past 2^64.
    pub fn put(&mut self, offset: u64, bytes: &[u8]) {
        let written = self.write_at(offset, bytes);
        written.expect("positions are below 2^64");
    }

    /// Writes them into a file, which is made anew; holes stay holes.
    pub fn store(&self, path: &Path) -> io::Result<()> {
        let file = File::create(path)?;
        file.set_len(self.length)?;
        for (position, page) in self.pages() {
            let inside = usize::try_from(self.length - position).unwrap_or(usize::MAX);
            file.write_all_at(&page[..inside.min(PAGE)], position)?;
        }
        Ok(())
    }

    /// Sets the length in bytes; what is new reads as zeros.
    pub fn set_len(&mut self, length: u64) {
        if length < self.length {
            let (page, inside) = split(length);
            drop(self.pages.split_off(&(page + u64::from(inside > 0))));
            if let Some(last) = self.pages.get_mut(&page) {
                Arc::make_mut(last)[inside..].fill(0);
                if **last == ZEROS {
                    self.pages.remove(&page);
                }
            }
        }
        self.length = length;
    }
}

/// A byte position as page number and position inside the page.
fn split(position: u64) -> (u64, usize) {
    let page = position / PAGE as u64;
    (page, (position % PAGE as u64) as usize)
}

#[cfg(test)]
mod tests {
    use super::{PAGE, SparseBytes};

    #[test]
    fn sparse_bytes_behave_like_a_vector() {
        let mut sparse = SparseBytes::default();
        let mut plain = vec![0; 3 * PAGE + 5000];
        sparse.write_at(PAGE as u64 - 3, b"abcdef").unwrap();
        plain[PAGE - 3..PAGE + 3].copy_from_slice(b"abcdef");
        sparse.write_at(3 * PAGE as u64, &[7; 5000]).unwrap();
        plain[3 * PAGE..].fill(7);
        assert_eq!(sparse.bytes(0, plain.len()), plain);
        sparse.set_len(PAGE as u64 + 1);
        plain.truncate(PAGE + 1);
        sparse.set_len(4 * PAGE as u64);
        plain.resize(4 * PAGE, 0);
        sparse.write_at(PAGE as u64, &[0]).unwrap();
        plain[PAGE] = 0;
        assert_eq!(sparse.len(), plain.len() as u64);
        assert_eq!(sparse.bytes(0, plain.len()), plain);
        assert_eq!(sparse.number(PAGE as u64 - 4, 4), 0x0061_6263);
        assert_eq!(sparse.pages().count(), 1, "pages of zeros take no memory");
    }

    #[test]
    fn holes_are_skipped() {
        let mut sparse = SparseBytes::default();
        sparse.write_at(2 * PAGE as u64 + 7, &[1]).unwrap();
        sparse.set_len(9 * PAGE as u64);
        assert_eq!(sparse.next_data(0), Some(2 * PAGE as u64));
        let inside = 2 * PAGE as u64 + 9;
        assert_eq!(sparse.next_data(inside), Some(inside));
        assert_eq!(sparse.next_data(3 * PAGE as u64), None);
    }
}
