//! A guest that writes through an image's own refcounts, as naive as can be: whatever counts as
//! free is taken. So wrong refcounts lose data, and the test that drives it sees that.

use recount_oracle::case::damage::SparseBytes;

const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
/// Bits 9 to 55 of an L1 or L2 entry.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// The reftable has no entry for a range in which a cluster is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// An image in use, without subclusters and without an external data file.
#[derive(Debug)]
pub struct Guest<'a> {
    image: &'a mut SparseBytes,
    cluster_bits: u32,
    refcount_bits: u64,
    l1: u64,
    reftable: u64,
    reftable_entries: u64,
    virtual_clusters: u64,
}

impl<'a> Guest<'a> {
    /// Opens an image that is clean.
    pub fn open(image: &'a mut SparseBytes) -> Self {
        let word = |at: u64, length: usize| {
            let bytes = image.bytes(at, length);
            bytes
                .iter()
                .fold(0, |word, &byte| word << 8 | u64::from(byte))
        };
        let cluster_bits = word(20, 4) as u32;
        let refcount_order = if word(4, 4) == 2 { 4 } else { word(96, 4) };
        Self {
            cluster_bits,
            refcount_bits: 1 << refcount_order,
            l1: word(40, 8),
            reftable: word(48, 8),
            reftable_entries: word(56, 4) << (cluster_bits - 3),
            virtual_clusters: word(24, 8).div_ceil(1 << cluster_bits),
            image,
        }
    }

    /// Clusters of the virtual disk.
    pub const fn clusters(&self) -> u64 {
        self.virtual_clusters
    }

    /// Fills a cluster of the virtual disk with a byte.
    pub fn write(&mut self, cluster: u64, byte: u8) -> Result<(), Full> {
        let l2_bits = self.cluster_bits - 3;
        let l1_entry = self.l1 + (cluster >> l2_bits) * 8;
        let table = self.own_l2_table(l1_entry)?;
        let at = table + (cluster & ((1 << l2_bits) - 1)) * 8;
        let entry = self.be64(at);
        let own = entry & COPIED != 0 && entry & COMPRESSED == 0 && entry & 1 == 0;
        let data = if own {
            entry & OFFSET
        } else {
            let data = self.allocate()?;
            self.put(at, &(data | COPIED).to_be_bytes());
            self.release(entry);
            data
        };
        self.put(data, &vec![byte; self.size() as usize]);
        Ok(())
    }

    /// The L2 table behind an L1 entry, copied first if it is shared, made if there is none.
    fn own_l2_table(&mut self, l1_entry: u64) -> Result<u64, Full> {
        let entry = self.be64(l1_entry);
        if entry & COPIED != 0 {
            return Ok(entry & OFFSET);
        }
        let table = self.allocate()?;
        let old = match entry & OFFSET {
            0 => vec![0; self.size() as usize],
            old => self.image.bytes(old, self.size() as usize),
        };
        self.put(table, &old);
        self.put(l1_entry, &(table | COPIED).to_be_bytes());
        if entry & OFFSET != 0 {
            self.count(entry & OFFSET, |count| count - 1);
        }
        Ok(table)
    }

    /// Gives up what an L2 entry leads to.
    fn release(&mut self, entry: u64) {
        if entry & COMPRESSED != 0 {
            let offset_bits = 62 - (self.cluster_bits - 8);
            let offset = entry & ((1 << offset_bits) - 1);
            let sectors = (entry & (COMPRESSED - 1)) >> offset_bits;
            let last = (offset & !511) + (sectors + 1) * 512 - 1;
            for cluster in offset >> self.cluster_bits..=last >> self.cluster_bits {
                self.count(cluster << self.cluster_bits, |count| count - 1);
            }
        } else if entry & OFFSET != 0 {
            self.count(entry & OFFSET, |count| count - 1);
        }
    }

    /// Takes the lowest cluster that counts as free; its offset in bytes.
    fn allocate(&mut self) -> Result<u64, Full> {
        let covered = self.size() * 8 / self.refcount_bits;
        for index in 0..self.reftable_entries {
            let entry = self.reftable + index * 8;
            let first = index * covered;
            if self.be64(entry) == 0 {
                // A range without a refblock is free: its first cluster becomes the refblock.
                let refblock = first << self.cluster_bits;
                self.put(refblock, &vec![0; self.size() as usize]);
                self.put(entry, &refblock.to_be_bytes());
                self.count(refblock, |_| 1);
            }
            for cluster in first..first + covered {
                let offset = cluster << self.cluster_bits;
                if self.refcount(offset) == 0 {
                    self.count(offset, |_| 1);
                    return Ok(offset);
                }
            }
        }
        Err(Full)
    }

    fn refcount(&self, offset: u64) -> u64 {
        let (at, shift, bytes) = self.place(offset);
        let read = self.image.bytes(at, bytes);
        let word = read
            .iter()
            .fold(0, |word, &byte| word << 8 | u64::from(byte));
        word >> shift & (u64::MAX >> (64 - self.refcount_bits))
    }

    /// Changes the refcount of the cluster at an offset.
    fn count(&mut self, offset: u64, to: impl FnOnce(u64) -> u64) {
        let new = to(self.refcount(offset));
        let (at, shift, bytes) = self.place(offset);
        if bytes == 1 {
            let mask = ((1_u16 << self.refcount_bits) - 1) as u8;
            let byte = self.image.bytes(at, 1)[0] & !(mask << shift);
            self.put(at, &[byte | (new as u8) << shift]);
        } else {
            self.put(at, &new.to_be_bytes()[8 - bytes..]);
        }
    }

    /// Where a refcount is: byte position, bits to its right, bytes to be read.
    fn place(&self, offset: u64) -> (u64, u64, usize) {
        let cluster = offset >> self.cluster_bits;
        let covered = self.size() * 8 / self.refcount_bits;
        let refblock = self.be64(self.reftable + cluster / covered * 8);
        let bit = cluster % covered * self.refcount_bits;
        let bytes = (self.refcount_bits / 8).max(1);
        let shift = if self.refcount_bits < 8 { bit % 8 } else { 0 };
        (refblock + bit / 8, shift, bytes as usize)
    }

    const fn size(&self) -> u64 {
        1 << self.cluster_bits
    }

    fn be64(&self, at: u64) -> u64 {
        let bytes = self.image.bytes(at, 8);
        bytes
            .iter()
            .fold(0, |word, &byte| word << 8 | u64::from(byte))
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        self.image.write_at(at, bytes).expect("bytes in memory");
    }
}
