//! Refcounts and what is free by them (specification, "Host cluster management"). The reftable never
//! grows.

use super::{Image, Mistake, TWICE_IN};

impl Image {
    /// Takes the first `clusters` free ones in a row, and counts them; the offset of the first.
    pub(super) fn allocate(&mut self, clusters: u64) -> Result<u64, String> {
        let allocations = self.allocations.get() + 1;
        self.allocations.set(allocations);
        let again = self.mistake == Mistake::AllocatesTwice && allocations.is_multiple_of(TWICE_IN);
        if let Some(last) = self.last.filter(|_| again && clusters == 1) {
            return Ok(last);
        }
        let covered = self.covered() * self.reftable_entries;
        let mut row = 0;
        for cluster in 0..covered {
            self.refblock(cluster)?;
            row = if self.refcount(cluster << self.cluster_bits)? == 0 {
                row + 1
            } else {
                0
            };
            if row == clusters {
                let first = (cluster + 1 - clusters) << self.cluster_bits;
                for cluster in 0..clusters {
                    let counted = self.count(first + (cluster << self.cluster_bits), |_| 1);
                    if self.mistake != Mistake::UsesUncounted {
                        counted?;
                    }
                }
                self.last = Some(first);
                return Ok(first);
            }
        }
        Err("there is no free cluster".to_owned())
    }

    /// The largest refcount.
    pub(super) const fn refcount_max(&self) -> u64 {
        u64::MAX >> (64 - self.refcount_bits)
    }

    pub(super) fn refcount(&self, offset: u64) -> Result<u64, String> {
        let (at, shift, bytes) = self.place(offset)?;
        Ok(self.word(at, bytes)? >> shift & self.refcount_max())
    }

    /// Changes the refcount of the cluster at an offset.
    pub(super) fn count(&mut self, offset: u64, to: impl Fn(u64) -> u64) -> Result<(), String> {
        let (at, shift, bytes) = self.place(offset)?;
        let word = self.word(at, bytes)?;
        let count = to(word >> shift & self.refcount_max());
        let word = word & !(self.refcount_max() << shift) | count << shift;
        self.put(at, &word.to_be_bytes()[8 - bytes as usize..])
    }

    /// Clusters that a refblock covers.
    const fn covered(&self) -> u64 {
        self.size() * 8 / self.refcount_bits
    }

    /// Where a refcount is: byte position, bits to its right, bytes to be read.
    fn place(&self, offset: u64) -> Result<(u64, u64, u64), String> {
        let cluster = offset >> self.cluster_bits;
        let refblock = self.word(self.reftable + cluster / self.covered() * 8, 8)?;
        let bit = cluster % self.covered() * self.refcount_bits;
        let shift = if self.refcount_bits < 8 { bit % 8 } else { 0 };
        Ok((refblock + bit / 8, shift, (self.refcount_bits / 8).max(1)))
    }

    /// Makes the refblock of a cluster where there is none: the first cluster that it covers.
    fn refblock(&mut self, cluster: u64) -> Result<(), String> {
        let index = cluster / self.covered();
        let entry = self.reftable + index * 8;
        if self.word(entry, 8)? != 0 {
            return Ok(());
        }
        let refblock = (index * self.covered()) << self.cluster_bits;
        let mut bytes = vec![0; self.size() as usize];
        // Its own refcount is the first: big-endian, or the low bits of the first byte.
        bytes[(self.refcount_bits / 8).max(1) as usize - 1] = 1;
        self.put(refblock, &bytes)?;
        self.barrier()?;
        self.put_word(entry, refblock)?;
        self.barrier()
    }
}
