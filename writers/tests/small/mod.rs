//! A small writer that is right, and can be told to make one mistake. It writes through, flushes the
//! disk before anything leads to what was written, and gives clusters back when nothing leads to them
//! any more on the disk: a power cut leaks clusters at worst.

mod clusters;
mod counts;
mod snapshots;

use std::cell::Cell;

use recount_oracle::disk::Disk as _;
use recount_writers::{Done, Guest, SharedDisk, Writer};

const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
/// Incompatible feature bit 4: extended L2 entries.
const EXTENDED_L2: u64 = 1 << 4;
/// Bits 9 to 55 of an L1 or L2 entry.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// One allocation of so many is of the cluster before, where that is the mistake.
const TWICE_IN: u64 = 9;

/// What the writer does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Nothing.
    None,
    /// Now and then it takes the cluster that it took before.
    AllocatesTwice,
    /// A snapshot does not count the data that it shares.
    ForgetsRefcounts,
    /// A snapshot leaves bit 63 of the data that it shares.
    KeepsCopied,
    /// The entry is written and flushed first, then the data; a flush with no metadata to be written
    /// does not flush the disk.
    FlushesMetadataOnly,
    /// It never gives a cluster back.
    Leaks,
    /// It gives back the whole cluster of the file that a compressed cluster was in.
    FreesNeighbours,
    /// It leaves the bitmap of an entry as it is when it writes to a subcluster.
    ForgetsBitmap,
    /// What it copies is zeros where it should be the backing file's.
    ForgetsBacking,
    /// It uses a cluster although its refcount could not be written.
    UsesUncounted,
    /// A flush is said to be done although the disk's flush failed.
    IgnoresFailedFlush,
    /// It opens encrypted images like any other.
    IgnoresEncryption,
}

/// The writer.
pub struct Small(pub Mistake);

impl Writer for Small {
    fn name(&self) -> &'static str {
        match self.0 {
            Mistake::None => "small",
            Mistake::AllocatesTwice => "small-allocates-twice",
            Mistake::ForgetsRefcounts => "small-forgets-refcounts",
            Mistake::KeepsCopied => "small-keeps-copied",
            Mistake::FlushesMetadataOnly => "small-flushes-metadata-only",
            Mistake::Leaks => "small-leaks",
            Mistake::FreesNeighbours => "small-frees-neighbours",
            Mistake::ForgetsBitmap => "small-forgets-bitmap",
            Mistake::ForgetsBacking => "small-forgets-backing",
            Mistake::UsesUncounted => "small-uses-uncounted",
            Mistake::IgnoresFailedFlush => "small-ignores-failed-flush",
            Mistake::IgnoresEncryption => "small-ignores-encryption",
        }
    }

    fn open(&self, disk: SharedDisk) -> Result<Box<dyn Guest + '_>, String> {
        let mut image = Image {
            disk,
            mistake: self.0,
            cluster_bits: 0,
            refcount_bits: 0,
            extended: false,
            has_backing: false,
            failed: false,
            l1: 0,
            l1_entries: 0,
            reftable: 0,
            reftable_entries: 0,
            freed: Vec::new(),
            allocations: Cell::new(0),
            last: None,
        };
        if image.word(32, 4)? != 0 && self.0 != Mistake::IgnoresEncryption {
            return Err("it is encrypted".to_owned());
        }
        if image.word(72, 8)? & !EXTENDED_L2 != 0 {
            return Err("it has features that are not known here".to_owned());
        }
        image.cluster_bits = image.word(20, 4)?;
        image.refcount_bits = 1 << image.word(96, 4)?;
        image.extended = image.word(72, 8)? & EXTENDED_L2 != 0;
        image.has_backing = image.word(8, 8)? != 0;
        image.l1 = image.word(40, 8)?;
        image.l1_entries = image.word(36, 4)?;
        image.reftable = image.word(48, 8)?;
        image.reftable_entries = image.word(56, 4)? << (image.cluster_bits - 3);
        Ok(Box::new(image))
    }
}

/// An open image of version 3. Offsets are in bytes.
pub struct Image {
    disk: SharedDisk,
    mistake: Mistake,
    cluster_bits: u64,
    refcount_bits: u64,
    /// Whether L2 entries have bitmaps.
    extended: bool,
    has_backing: bool,
    /// Whether an operation has failed: nobody knows what came of it, so nothing is done any more.
    failed: bool,
    l1: u64,
    l1_entries: u64,
    reftable: u64,
    reftable_entries: u64,
    /// Clusters that have one reference less since the last flush.
    freed: Vec<u64>,
    allocations: Cell<u64>,
    last: Option<u64>,
}

impl Image {
    const fn size(&self) -> u64 {
        1 << self.cluster_bits
    }

    fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0; length as usize];
        let read = self.disk.read_at(offset, &mut bytes);
        read.map(|()| bytes).map_err(|error| error.to_string())
    }

    /// A big-endian number of so many bytes.
    fn word(&self, offset: u64, bytes: u64) -> Result<u64, String> {
        let bytes = self.read(offset, bytes)?;
        Ok(bytes
            .iter()
            .fold(0, |word, &byte| word << 8 | u64::from(byte)))
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        let written = self.disk.write_at(offset, bytes);
        written.map_err(|error| error.to_string())
    }

    fn put_word(&mut self, offset: u64, word: u64) -> Result<(), String> {
        self.put(offset, &word.to_be_bytes())
    }

    fn barrier(&mut self) -> Result<(), String> {
        self.disk.flush().map_err(|error| error.to_string())
    }

    /// Gives back what nothing leads to any more, now that this is durable.
    fn give_back(&mut self) -> Result<(), String> {
        if self.mistake == Mistake::Leaks {
            self.freed.clear();
        }
        if !self.freed.is_empty() {
            self.barrier()?;
            for cluster in std::mem::take(&mut self.freed) {
                self.count(cluster, |count| count.saturating_sub(1))?;
            }
        }
        Ok(())
    }

    /// Does nothing once something has failed: clusters may leak then, and that is all.
    fn attempt<T>(
        &mut self,
        operation: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        if self.failed {
            return Err("an operation before has failed".to_owned());
        }
        let done = operation(self);
        self.failed = done.is_err();
        done
    }
}

impl Guest for Image {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        self.attempt(|image| image.write_clusters(offset, bytes))
    }

    fn discard(&mut self, offset: u64, length: u64) -> Result<Done, String> {
        self.attempt(|image| image.discard_clusters(offset, length))
    }

    fn snapshot(&mut self, name: &str) -> Result<Done, String> {
        self.attempt(|image| image.take_snapshot(name))
    }

    fn delete_snapshot(&mut self, name: &str) -> Result<Done, String> {
        self.attempt(|image| image.drop_snapshot(name))
    }

    fn flush(&mut self) -> Result<(), String> {
        if self.mistake == Mistake::FlushesMetadataOnly && self.freed.is_empty() {
            return Ok(());
        }
        let ignored = self.mistake == Mistake::IgnoresFailedFlush;
        self.attempt(|image| {
            image.give_back()?;
            let flushed = image.barrier();
            if ignored { Ok(()) } else { flushed }
        })
    }

    fn close(mut self: Box<Self>) -> Result<(), String> {
        self.flush()
    }
}
