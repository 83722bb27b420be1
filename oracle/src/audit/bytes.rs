//! Reading an image: a small trait, so that a slice, a file and a simulated disk are read alike.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::case::damage::SparseBytes;

/// Something that has the bytes of an image.
pub trait Bytes {
    /// How many there are.
    fn length(&self) -> io::Result<u64>;

    /// Fills `buffer` from byte `offset` on; zeros past the end.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Whether `length` bytes from `offset` on are known to be zeros without being read.
    fn is_hole(&self, _offset: u64, _length: u64) -> bool {
        false
    }
}

impl Bytes for &[u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        buffer.fill(0);
        if let Some(rest) = usize::try_from(offset).ok().and_then(|at| self.get(at..)) {
            let present = rest.len().min(buffer.len());
            buffer[..present].copy_from_slice(&rest[..present]);
        }
        Ok(())
    }
}

impl Bytes for Vec<u8> {
    fn length(&self) -> io::Result<u64> {
        self.as_slice().length()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.as_slice().read(offset, buffer)
    }
}

impl Bytes for File {
    fn length(&self) -> io::Result<u64> {
        // The end of a device is where seeking to its end leads; its metadata says 0.
        io::Seek::seek(&mut &*self, io::SeekFrom::End(0))
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            let Some(at) = offset.checked_add(done as u64) else {
                break;
            };
            match self.read_at(&mut buffer[done..], at) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        buffer[done..].fill(0);
        Ok(())
    }
}

impl Bytes for SparseBytes {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len())
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_at(offset, buffer);
        Ok(())
    }

    fn is_hole(&self, offset: u64, length: u64) -> bool {
        let data = self.next_data(offset);
        data.is_none_or(|data| data >= offset.saturating_add(length))
    }
}
