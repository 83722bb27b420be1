//! A small writer that is right, and can be told to make one mistake. It writes through, flushes the
//! disk before anything leads to what was written, and gives clusters back when nothing leads to them
//! any more on the disk: a power cut leaks clusters at worst.

mod counts;
mod snapshots;

use std::cell::Cell;

use recount_oracle::disk::Disk as _;
use recount_writers::{Done, Guest, SharedDisk, Writer};

const COPIED: u64 = 1 << 63;
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
        }
    }

    fn open(&self, disk: SharedDisk) -> Result<Box<dyn Guest + '_>, String> {
        let mut image = Image {
            disk,
            mistake: self.0,
            cluster_bits: 0,
            refcount_bits: 0,
            l1: 0,
            l1_entries: 0,
            reftable: 0,
            reftable_entries: 0,
            freed: Vec::new(),
            allocations: Cell::new(0),
            last: None,
        };
        image.cluster_bits = image.word(20, 4)?;
        image.refcount_bits = 1 << image.word(96, 4)?;
        image.l1 = image.word(40, 8)?;
        image.l1_entries = image.word(36, 4)?;
        image.reftable = image.word(48, 8)?;
        image.reftable_entries = image.word(56, 4)? << (image.cluster_bits - 3);
        Ok(Box::new(image))
    }
}

/// An open image of version 3 without a backing file. Offsets are in bytes.
pub struct Image {
    disk: SharedDisk,
    mistake: Mistake,
    cluster_bits: u64,
    refcount_bits: u64,
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

    /// Where the L2 entry of a guest cluster is, in a table that no snapshot shares.
    fn l2_entry(&mut self, cluster: u64) -> Result<u64, String> {
        let bits = self.cluster_bits - 3;
        let (l1_index, l2_index) = (cluster >> bits, cluster & ((1 << bits) - 1));
        if l1_index >= self.l1_entries {
            return Err("it is behind the end of the disk".to_owned());
        }
        let at = self.l1 + l1_index * 8;
        let entry = self.word(at, 8)?;
        if entry & COPIED != 0 {
            return Ok((entry & OFFSET) + l2_index * 8);
        }
        let old = entry & OFFSET;
        let bytes = match old {
            0 => vec![0; self.size() as usize],
            old => self.read(old, self.size())?,
        };
        let table = self.allocate(1)?;
        self.put(table, &bytes)?;
        self.barrier()?;
        self.put_word(at, table | COPIED)?;
        if old != 0 {
            self.freed.push(old);
        }
        Ok(table + l2_index * 8)
    }

    /// Writes within one cluster.
    fn write_cluster(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        let (cluster, within) = (offset >> self.cluster_bits, offset % self.size());
        let at = self.l2_entry(cluster)?;
        let entry = self.word(at, 8)?;
        if entry & COPIED != 0 && entry & 1 == 0 {
            return self.put((entry & OFFSET) + within, bytes);
        }
        let old = entry & OFFSET;
        let mut whole = match (old, entry & 1) {
            (0, _) | (_, 1) => vec![0; self.size() as usize],
            (old, _) => self.read(old, self.size())?,
        };
        whole[within as usize..within as usize + bytes.len()].copy_from_slice(bytes);
        let data = self.allocate(1)?;
        if self.mistake == Mistake::FlushesMetadataOnly {
            let length = self.disk.len().max(data + self.size());
            let grown = self.disk.set_len(length);
            grown.map_err(|error| error.to_string())?;
            self.barrier()?;
            self.put_word(at, data | COPIED)?;
            self.barrier()?;
            self.put(data, &whole)?;
        } else {
            self.put(data, &whole)?;
            self.barrier()?;
            self.put_word(at, data | COPIED)?;
        }
        if old != 0 {
            self.freed.push(old);
        }
        Ok(())
    }
}

impl Guest for Image {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let room = self.size() - at % self.size();
            let (part, more) = rest.split_at(rest.len().min(room as usize));
            self.write_cluster(at, part)?;
            at += part.len() as u64;
            rest = more;
        }
        Ok(())
    }

    fn discard(&mut self, offset: u64, length: u64) -> Result<Done, String> {
        let first = offset.div_ceil(self.size());
        for cluster in first..(offset + length) >> self.cluster_bits {
            let at = self.l2_entry(cluster)?;
            let old = self.word(at, 8)? & OFFSET;
            // Unallocated reads as zeros, as there is no backing file.
            self.put_word(at, 0)?;
            if old != 0 {
                self.freed.push(old);
            }
        }
        Ok(Done::Done)
    }

    fn snapshot(&mut self, name: &str) -> Result<Done, String> {
        self.take_snapshot(name)
    }

    fn delete_snapshot(&mut self, name: &str) -> Result<Done, String> {
        self.drop_snapshot(name)
    }

    fn flush(&mut self) -> Result<(), String> {
        if self.mistake == Mistake::FlushesMetadataOnly && self.freed.is_empty() {
            return Ok(());
        }
        self.give_back()?;
        self.barrier()
    }

    fn close(mut self: Box<Self>) -> Result<(), String> {
        self.flush()
    }
}
