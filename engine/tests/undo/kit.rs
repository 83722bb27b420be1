//! An image, a repair of it, and storage that fails.

use std::path::{Path, PathBuf};

use recount::storage::Operation;
use recount::undo::{OnWrite, UndoError, UndoFile};
use recount::{MemoryStorage, Offset, Storage, StorageError};

/// A length that ends within a sector.
pub const LENGTH: usize = 30_100;

pub type Write = (Offset, Vec<u8>);

/// Bytes that do not repeat, with a gap of zeros.
pub fn image() -> Vec<u8> {
    let mut random = Random(7);
    let mut bytes: Vec<u8> = (0..LENGTH).map(|_| random.next() as u8).collect();
    bytes[8_000..12_000].fill(0);
    bytes
}

/// In phases: within sectors, over the same places again, into zeros, over the end and past it.
pub fn writes() -> Vec<Write> {
    let at = |offset, length, byte| (Offset(offset), vec![byte; length]);
    vec![
        at(100, 8, 1),
        at(4096, 2048, 2),
        at(8192, 1024, 3),
        at(4700, 100, 4),
        at(30_000, 300, 5),
        at(100, 4, 6),
        at(30_720, 1024, 7),
        at(34_000, 700, 8),
        at(4096, 512, 9),
        at(30_090, 20, 10),
        at(0, 0, 11),
        at(512, 512, 12),
    ]
}

/// Saves what they will replace.
pub fn save(
    path: &Path,
    image: &dyn Storage,
    image_path: &str,
    writes: &[Write],
) -> Result<UndoFile, UndoError> {
    let hand_over = |write: &mut OnWrite<'_>| {
        let mut writes = writes.iter();
        writes.try_for_each(|(offset, bytes)| write(*offset, bytes))
    };
    recount::undo::save(path, image, Path::new(image_path), &hand_over)
}

/// Writes all of them.
pub fn apply(writes: &[Write], image: &mut dyn Storage) -> Result<(), StorageError> {
    writes
        .iter()
        .try_for_each(|(offset, bytes)| image.write_at(*offset, bytes))
}

/// A temporary directory, in memory where there is one: undo files are flushed often, and here a
/// thousand times as often.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// An image and the undo file of its repair, which has not begun.
pub struct Case {
    pub old: Vec<u8>,
    pub undo: PathBuf,
    directory: tempfile::TempDir,
}

impl Case {
    pub fn new() -> Self {
        let directory = directory();
        let undo = directory.path().join("undo");
        let storage = MemoryStorage::growing(image());
        save(&undo, &storage, "/some/image", &writes()).unwrap();
        Self {
            old: storage.bytes().to_vec(),
            undo,
            directory,
        }
    }

    /// The image with the whole repair done.
    pub fn repaired(&self) -> MemoryStorage {
        let mut storage = MemoryStorage::growing(self.old.clone());
        apply(&writes(), &mut storage).unwrap();
        storage
    }

    /// A copy of the undo file, which is as new.
    pub fn copy(&self) -> PathBuf {
        let copy = self.directory.path().join("copy");
        std::fs::copy(&self.undo, &copy).unwrap();
        copy
    }
}

/// Opens and restores, as the program does.
pub fn undo(path: &Path, image: &mut dyn Storage) -> Result<(), UndoError> {
    UndoFile::open(path)?.restore(image, None).map(drop)
}

/// Storage that does so many changes and then fails at each.
pub struct Failing {
    pub inner: MemoryStorage,
    pub left: usize,
    /// How many bytes of the write that fails are written all the same.
    pub torn_at: usize,
}

impl Failing {
    fn spend(&mut self) -> Result<(), StorageError> {
        let left = self.left.checked_sub(1);
        let full = std::io::ErrorKind::StorageFull;
        self.left = left.ok_or_else(|| StorageError::new(Operation::Write, Offset(0), 0, full))?;
        Ok(())
    }
}

impl Storage for Failing {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn capacity(&self) -> Option<u64> {
        self.inner.capacity()
    }

    fn read_at(&self, offset: Offset, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: Offset, bytes: &[u8]) -> Result<(), StorageError> {
        if let Err(error) = self.spend() {
            // Up to the end of a sector.
            let torn = self.torn_at.saturating_sub(offset.0 as usize % 512);
            let torn = &bytes[..torn.min(bytes.len())];
            self.inner.write_at(offset, torn)?;
            return Err(error);
        }
        self.inner.write_at(offset, bytes)
    }

    fn set_len(&mut self, length: u64) -> Result<(), StorageError> {
        self.spend()?;
        self.inner.set_len(length)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.spend()
    }

    fn discard(&mut self, _offset: Offset, _length: u64) -> Result<(), StorageError> {
        self.spend()
    }
}

/// Numbers that look random and are the same each time.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
