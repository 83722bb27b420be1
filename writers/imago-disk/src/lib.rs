//! A [`Disk`] of recount-oracle as a storage of the crate imago, so that imago's power cuts and failing
//! operations can be looked at.

use std::fmt::{self, Debug, Display};
use std::io;

use imago::Storage;
use imago::io_buffers::{IoVector, IoVectorMut};
use imago::storage::PreallocateMode;
use imago::storage::drivers::CommonStorageHelper;
use recount_oracle::disk::Disk;

/// A disk whose clones are the same disk.
#[derive(Debug)]
pub struct ImagoDisk<D> {
    disk: D,
    helper: CommonStorageHelper,
}

impl<D> ImagoDisk<D> {
    /// That disk.
    pub fn new(disk: D) -> Self {
        Self {
            disk,
            helper: CommonStorageHelper::default(),
        }
    }
}

impl<D> Display for ImagoDisk<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the disk")
    }
}

impl<D: Disk + Clone + Debug> Storage for ImagoDisk<D> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.len())
    }

    unsafe fn pure_readv(&self, mut vector: IoVectorMut<'_>, offset: u64) -> io::Result<()> {
        let mut bytes = vec![0; vector.len() as usize];
        self.disk.read_at(offset, &mut bytes)?;
        vector.copy_from_slice(&bytes);
        Ok(())
    }

    unsafe fn pure_writev(&self, vector: IoVector<'_>, offset: u64) -> io::Result<()> {
        let mut bytes = vec![0; vector.len() as usize];
        vector.copy_into_slice(&mut bytes);
        self.disk.clone().write_at(offset, &bytes)
    }

    unsafe fn pure_discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.disk.clone().discard(offset, length)
    }

    // What is written is with the operating system at once.
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.clone().flush()
    }

    unsafe fn invalidate_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn get_storage_helper(&self) -> &CommonStorageHelper {
        &self.helper
    }

    fn resize(&self, length: u64, _: PreallocateMode) -> io::Result<()> {
        self.disk.clone().set_len(length)
    }
}
