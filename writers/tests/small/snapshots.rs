//! Internal snapshots (specification, "Snapshots").

use itertools::Itertools as _;
use recount_writers::Done;

use super::{COMPRESSED, COPIED, Image, Mistake, OFFSET};

/// Bytes of an entry before its extra data, and of its extra data.
const ENTRY: u64 = 40;
const EXTRA: u64 = 16;
/// Where the header has the number of snapshots and their table.
const HEADER_FIELDS: u64 = 60;

/// An entry of the snapshot table.
struct Snapshot {
    name: String,
    l1: u64,
    l1_entries: u64,
    bytes: Vec<u8>,
}

impl Image {
    pub(super) fn take_snapshot(&mut self, name: &str) -> Result<Done, String> {
        self.give_back()?;
        let shared = self.shared(self.l1, self.l1_entries)?;
        // Several compressed clusters may be in one of the file.
        for (cluster, times) in shared.iter().counts() {
            if self.refcount_max() - self.refcount(*cluster)? < times as u64 {
                return Ok(Done::Unsupported);
            }
        }
        let tables = self.tables(self.l1, self.l1_entries)?;
        let counted = match self.mistake {
            Mistake::ForgetsRefcounts => &tables,
            _ => &shared,
        };
        for &cluster in counted {
            self.count(cluster, |count| count + 1)?;
        }
        self.barrier()?;
        self.set_copied()?;
        let l1 = self.allocate((self.l1_entries * 8).div_ceil(self.size()))?;
        let entries = self.read(self.l1, self.l1_entries * 8)?;
        self.put(l1, &entries)?;
        let mut snapshots = self.snapshots()?;
        snapshots.push(self.describe(name, l1)?);
        self.store_snapshots(&snapshots)?;
        Ok(Done::Done)
    }

    pub(super) fn drop_snapshot(&mut self, name: &str) -> Result<Done, String> {
        self.give_back()?;
        let mut snapshots = self.snapshots()?;
        let at = snapshots.iter().position(|snapshot| snapshot.name == name);
        let dropped = snapshots.remove(at.ok_or("there is no such snapshot")?);
        self.store_snapshots(&snapshots)?;
        for cluster in self.shared(dropped.l1, dropped.l1_entries)? {
            self.count(cluster, |count| count.saturating_sub(1))?;
        }
        self.free_row(dropped.l1, dropped.l1_entries * 8)?;
        self.barrier()?;
        self.set_copied()?;
        Ok(Done::Done)
    }

    /// Every L2 table that an L1 table leads to.
    fn tables(&self, l1: u64, entries: u64) -> Result<Vec<u64>, String> {
        let entries = (0..entries).map(|index| Ok(self.word(l1 + index * 8, 8)? & OFFSET));
        let tables: Result<Vec<u64>, String> = entries.collect();
        Ok(tables?.into_iter().filter(|&table| table != 0).collect())
    }

    /// Every cluster that an L1 table leads to, as often as it does.
    fn shared(&self, l1: u64, entries: u64) -> Result<Vec<u64>, String> {
        let mut clusters = self.tables(l1, entries)?;
        for table in clusters.clone() {
            for index in 0..self.l2_entries() {
                let entry = self.word(table + index * self.entry_size(), 8)?;
                clusters.extend(self.clusters_of(entry));
            }
        }
        Ok(clusters)
    }

    /// Sets bit 63 of all entries of the active layer as the refcounts are.
    fn set_copied(&mut self) -> Result<(), String> {
        for index in 0..self.l1_entries {
            let at = self.l1 + index * 8;
            let table = self.word(at, 8)? & OFFSET;
            if table == 0 {
                continue;
            }
            for index in 0..self.l2_entries() {
                let at = table + index * self.entry_size();
                self.set_bit(at, self.mistake == Mistake::KeepsCopied)?;
            }
            self.set_bit(at, false)?;
        }
        self.barrier()
    }

    fn set_bit(&mut self, at: u64, keep: bool) -> Result<(), String> {
        let entry = self.word(at, 8)?;
        let cluster = entry & OFFSET;
        if cluster == 0 || entry & COMPRESSED != 0 {
            return Ok(());
        }
        let single = self.refcount(cluster)? == 1 || keep && entry & COPIED != 0;
        let new = entry & !COPIED | if single { COPIED } else { 0 };
        if new == entry {
            Ok(())
        } else {
            self.put_word(at, new)
        }
    }

    fn describe(&self, name: &str, l1: u64) -> Result<Snapshot, String> {
        let disk = self.word(24, 8)?;
        let mut bytes = l1.to_be_bytes().to_vec();
        bytes.extend((self.l1_entries as u32).to_be_bytes());
        bytes.extend((name.len() as u16).to_be_bytes());
        bytes.extend((name.len() as u16).to_be_bytes());
        // Date, clock and size of the machine's state: there are none.
        bytes.resize(ENTRY as usize - 4, 0);
        bytes.extend((EXTRA as u32).to_be_bytes());
        bytes.extend([0; 8]);
        bytes.extend(disk.to_be_bytes());
        // The name is the id as well.
        bytes.extend(name.bytes().chain(name.bytes()));
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        Ok(Snapshot {
            name: name.to_owned(),
            l1,
            l1_entries: self.l1_entries,
            bytes,
        })
    }

    fn snapshots(&self) -> Result<Vec<Snapshot>, String> {
        let count = self.word(HEADER_FIELDS, 4)?;
        let mut at = self.word(HEADER_FIELDS + 4, 8)?;
        let mut found = Vec::new();
        for _ in 0..count {
            let extra = self.word(at + 36, 4)?;
            let (id, name) = (self.word(at + 12, 2)?, self.word(at + 14, 2)?);
            let length = (ENTRY + extra + id + name).next_multiple_of(8);
            let l1_entries = self.word(at + 8, 4)?;
            if extra != EXTRA || l1_entries != self.l1_entries {
                return Err("the snapshot table makes no sense".to_owned());
            }
            let bytes = self.read(at + ENTRY + extra + id, name)?;
            found.push(Snapshot {
                name: String::from_utf8_lossy(&bytes).into_owned(),
                l1: self.word(at, 8)?,
                l1_entries,
                bytes: self.read(at, length)?,
            });
            at += length;
        }
        Ok(found)
    }

    /// Has the header lead to a new table, and frees the old one.
    fn store_snapshots(&mut self, snapshots: &[Snapshot]) -> Result<(), String> {
        let old = self.snapshots()?;
        let old: u64 = old.iter().map(|snapshot| snapshot.bytes.len() as u64).sum();
        let old_at = self.word(HEADER_FIELDS + 4, 8)?;
        let bytes: Vec<u8> = snapshots
            .iter()
            .flat_map(|snapshot| snapshot.bytes.clone())
            .collect();
        let at = match bytes.len() as u64 {
            0 => 0,
            length => self.allocate(length.div_ceil(self.size()))?,
        };
        self.put(at, if at == 0 { &[] } else { &bytes })?;
        self.barrier()?;
        // Both fields are in one sector, which is written whole or not at all.
        let mut fields = (snapshots.len() as u32).to_be_bytes().to_vec();
        fields.extend(at.to_be_bytes());
        self.put(HEADER_FIELDS, &fields)?;
        self.barrier()?;
        self.free_row(old_at, old)
    }

    /// Frees the clusters of so many bytes.
    fn free_row(&mut self, offset: u64, bytes: u64) -> Result<(), String> {
        for cluster in 0..bytes.div_ceil(self.size()) {
            self.count(offset + (cluster << self.cluster_bits), |count| {
                count.saturating_sub(1)
            })?;
        }
        Ok(())
    }
}
