//! The guest's clusters (specification, "Cluster mapping", "Extended L2 Entries").

use flate2::{Decompress, FlushDecompress};
use recount_oracle::disk::Disk as _;
use recount_writers::Done;

use super::{COMPRESSED, COPIED, Image, Mistake, OFFSET};

/// Bit 0 of an L2 entry without a bitmap: it reads as zeros.
const ZERO: u64 = 1;
/// All subclusters of a cluster are allocated, or read as zeros.
const ALLOCATED: u64 = 0xffff_ffff;
const ZEROS: u64 = ALLOCATED << 32;
const SUBCLUSTERS: usize = 32;

/// An L2 entry, and where it is.
struct Entry {
    at: u64,
    word: u64,
    /// Which subclusters are allocated, and 32 bits higher which read as zeros.
    bitmap: u64,
}

impl Image {
    /// Bytes of an L2 entry.
    pub(super) const fn entry_size(&self) -> u64 {
        if self.extended { 16 } else { 8 }
    }

    /// Entries of an L2 table.
    pub(super) const fn l2_entries(&self) -> u64 {
        self.size() / self.entry_size()
    }

    /// The offset of every cluster of the file that an L2 entry refers to.
    pub(super) fn clusters_of(&self, word: u64) -> Vec<u64> {
        let (offset, bytes) = match (word & COMPRESSED, word & OFFSET) {
            (0, 0) => return Vec::new(),
            (0, offset) => (offset, self.size()),
            _ => self.compressed(word),
        };
        let clusters = offset >> self.cluster_bits..=(offset + bytes - 1) >> self.cluster_bits;
        clusters
            .map(|cluster| cluster << self.cluster_bits)
            .collect()
    }

    /// Where compressed data is, and how many bytes it has at most.
    const fn compressed(&self, word: u64) -> (u64, u64) {
        let bits = 62 - (self.cluster_bits - 8);
        let offset = word & ((1 << bits) - 1);
        let sectors = (word & (COMPRESSED - 1)) >> bits;
        (offset, (sectors + 1) * 512 - offset % 512)
    }

    fn entry(&self, at: u64) -> Result<Entry, String> {
        let word = self.word(at, 8)?;
        let bitmap = match word & OFFSET {
            _ if self.extended => self.word(at + 8, 8)?,
            _ if word & (COMPRESSED | ZERO) == ZERO => ZEROS,
            0 => 0,
            _ => ALLOCATED,
        };
        Ok(Entry { at, word, bitmap })
    }

    fn put_entry(&mut self, at: u64, word: u64, bitmap: u64) -> Result<(), String> {
        let mut bytes = word.to_be_bytes().to_vec();
        if self.extended {
            bytes.extend(bitmap.to_be_bytes());
        }
        self.put(at, &bytes)
    }

    /// Where the L2 entry of a guest cluster is, in a table that no snapshot shares.
    fn l2_entry(&mut self, cluster: u64) -> Result<u64, String> {
        let bits = self.l2_entries().ilog2();
        let (l1_index, l2_index) = (cluster >> bits, cluster & ((1 << bits) - 1));
        if l1_index >= self.l1_entries {
            return Err("it is behind the end of the disk".to_owned());
        }
        let at = self.l1 + l1_index * 8;
        let entry = self.word(at, 8)?;
        if entry & COPIED != 0 {
            return Ok((entry & OFFSET) + l2_index * self.entry_size());
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
        Ok(table + l2_index * self.entry_size())
    }

    /// What the guest reads of a cluster.
    fn whole(&self, cluster: u64, entry: &Entry) -> Result<Vec<u8>, String> {
        let size = self.size() as usize;
        if entry.word & COMPRESSED != 0 {
            let (offset, length) = self.compressed(entry.word);
            let stream = self.read(offset, length)?;
            let mut bytes = vec![0; size];
            let inflated =
                Decompress::new(false).decompress(&stream, &mut bytes, FlushDecompress::Finish);
            return inflated.map(|_| bytes).map_err(|error| error.to_string());
        }
        let backing = self.disk.backing().filter(|_| self.has_backing);
        let backing = backing.filter(|_| self.mistake != Mistake::ForgetsBacking);
        let mut bytes = match backing {
            Some(backing) => backing.bytes(cluster << self.cluster_bits, size),
            None => vec![0; size],
        };
        let stored = match entry.bitmap & ALLOCATED {
            0 => Vec::new(),
            _ => self.read(entry.word & OFFSET, self.size())?,
        };
        let part = size / SUBCLUSTERS;
        for (index, bytes) in bytes.chunks_mut(part).enumerate() {
            if entry.bitmap >> index & 1 == 1 {
                bytes.copy_from_slice(&stored[index * part..(index + 1) * part]);
            } else if entry.bitmap >> 32 >> index & 1 == 1 {
                bytes.fill(0);
            }
        }
        Ok(bytes)
    }

    /// Writes within one cluster.
    fn write_cluster(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        let (cluster, within) = (offset >> self.cluster_bits, offset % self.size());
        let at = self.l2_entry(cluster)?;
        let entry = self.entry(at)?;
        let is_own = entry.word & COPIED != 0;
        if is_own && entry.bitmap == ALLOCATED {
            return self.put((entry.word & OFFSET) + within, bytes);
        }
        let mut whole = self.whole(cluster, &entry)?;
        whole[within as usize..within as usize + bytes.len()].copy_from_slice(bytes);
        if is_own && self.extended {
            return self.write_subclusters(&entry, within as usize, bytes.len(), &whole);
        }
        let data = self.allocate(1)?;
        if self.mistake == Mistake::FlushesMetadataOnly {
            let length = self.disk.len().max(data + self.size());
            let grown = self.disk.set_len(length);
            grown.map_err(|error| error.to_string())?;
            self.barrier()?;
            self.put_entry(at, data | COPIED, ALLOCATED)?;
            self.barrier()?;
            self.put(data, &whole)?;
        } else {
            self.put(data, &whole)?;
            self.barrier()?;
            self.put_entry(at, data | COPIED, ALLOCATED)?;
        }
        self.drop_reference(entry.word)
    }

    /// Writes the subclusters that some bytes of a cluster of its own are in, of which `whole` is what
    /// the guest reads then.
    fn write_subclusters(
        &mut self,
        entry: &Entry,
        within: usize,
        length: usize,
        whole: &[u8],
    ) -> Result<(), String> {
        let part = whole.len() / SUBCLUSTERS;
        let (first, end) = (within / part, (within + length).div_ceil(part));
        let offset = (entry.word & OFFSET) + (first * part) as u64;
        self.put(offset, &whole[first * part..end * part])?;
        let written = (first..end).fold(0, |bits, index| bits | 1 << index);
        let bitmap = (entry.bitmap | written) & !(written << 32);
        if bitmap == entry.bitmap || self.mistake == Mistake::ForgetsBitmap {
            return Ok(());
        }
        self.barrier()?;
        self.put_word(entry.at + 8, bitmap)
    }

    /// Has what an L2 entry referred to given back at the next flush.
    fn drop_reference(&mut self, word: u64) -> Result<(), String> {
        for cluster in self.clusters_of(word) {
            let times = match self.mistake {
                Mistake::FreesNeighbours if word & COMPRESSED != 0 => self.refcount(cluster)?,
                _ => 1,
            };
            self.freed.extend((0..times).map(|_| cluster));
        }
        Ok(())
    }

    pub(super) fn write_clusters(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String> {
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

    pub(super) fn discard_clusters(&mut self, offset: u64, length: u64) -> Result<Done, String> {
        let first = offset.div_ceil(self.size());
        for cluster in first..(offset + length) >> self.cluster_bits {
            let at = self.l2_entry(cluster)?;
            let old = self.word(at, 8)?;
            // What is not allocated reads as the backing file.
            self.put_entry(at, if self.extended { 0 } else { ZERO }, ZEROS)?;
            self.drop_reference(old)?;
        }
        Ok(Done::Done)
    }
}
