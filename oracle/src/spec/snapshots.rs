//! What becomes of the snapshot table.

use std::collections::BTreeMap;

use super::{Patched, Refused, Spec};
use crate::audit::{SnapshotEntry, SnapshotsEnd, Unreadable};

const EXTRA_MAX: u64 = 1024;
const EXTRA_MIN: u64 = 16;
const NO_ICOUNT: u64 = u64::MAX;

/// What becomes of the snapshot table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Snapshots {
    Stay,
    /// The header names so many.
    Named(usize),
    /// A new table with so many.
    Anew(usize),
}

impl Spec<'_> {
    /// What becomes of the snapshot table: rule 7.
    pub(super) fn snapshots(&self, sound: bool) -> Result<Snapshots, Refused> {
        let header = &self.own.header;
        let released = self.ask.release_unreachable && !self.ask.only_leaks;
        let may_change = !self.ask.only_leaks && (sound || released);
        let table = &self.seen.snapshots;
        let untouched = table.past_end || !may_change;
        let mends = match table.ends {
            None => true,
            Some(SnapshotsEnd::ExtraData) => may_change,
            Some(SnapshotsEnd::Place | SnapshotsEnd::Nonsense) => false,
            Some(_) => released,
        };
        let only_snapshots = self.seen.blocked.is_none() || table.ends.is_some();
        if !only_snapshots || table.ends.is_some() && (!mends || untouched) {
            return Err(Refused::CheckGivesUp);
        }
        if untouched {
            return Ok(Snapshots::Stay);
        }
        let mut left = table.entries.as_slice();
        if released {
            let last = left.iter().rposition(|entry| !entry.blank);
            left = &left[..last.map_or(0, |last| last + 1)];
        }
        let misshapen = |entry: &SnapshotEntry| {
            entry.extra > EXTRA_MAX || header.version == 3 && entry.extra < EXTRA_MIN
        };
        Ok(if left.iter().any(misshapen) {
            Snapshots::Anew(left.len())
        } else if (left.len() as u64) < header.snapshots {
            Snapshots::Named(left.len())
        } else {
            Snapshots::Stay
        })
    }

    /// Clusters that the snapshot table takes up no more.
    pub(super) fn left_by_snapshots(&self, snapshots: &Snapshots) -> Vec<u64> {
        let clusters = |bytes: u64| {
            let first = self.own.header.snapshots_offset;
            first / self.cluster_size..(first + bytes).div_ceil(self.cluster_size)
        };
        let before = clusters(self.own.snapshots.bytes);
        let after = match snapshots {
            Snapshots::Stay => return Vec::new(),
            Snapshots::Named(left) => clusters(self.bytes_of(*left)),
            Snapshots::Anew(_) => clusters(0),
        };
        before.filter(|cluster| !after.contains(cluster)).collect()
    }

    /// Takes them out of the counts.
    pub(super) fn take_out_snapshots(
        &self,
        snapshots: &Snapshots,
        counts: &mut BTreeMap<u64, u64>,
    ) {
        for cluster in self.left_by_snapshots(snapshots) {
            if let Some(count) = counts.get_mut(&cluster) {
                *count -= 1;
            }
        }
        counts.retain(|_, count| *count > 0);
    }

    /// Bytes that so many entries of the present snapshot table take.
    fn bytes_of(&self, entries: usize) -> u64 {
        let table = &self.own.snapshots;
        if entries == table.entries.len() {
            return table.bytes;
        }
        let last = table.entries[..entries].last();
        last.map_or(0, |last| {
            last.at + last.bytes - self.own.header.snapshots_offset
        })
    }

    /// Writes a new snapshot table, or the number of snapshots.
    pub(super) fn write_snapshots(
        &self,
        snapshots: &Snapshots,
        place: Option<u64>,
        patched: &mut Patched<'_>,
    ) -> Result<(), Unreadable> {
        let (Snapshots::Named(left) | Snapshots::Anew(left)) = snapshots else {
            return Ok(());
        };
        patched.write(60, &(*left as u32).to_be_bytes())?;
        if let (Snapshots::Anew(_), Some(place)) = (snapshots, place) {
            let mut bytes = self.snapshot_bytes(*left)?;
            bytes.resize(bytes.len().next_multiple_of(self.cluster_size as usize), 0);
            let offset = place * self.cluster_size;
            patched.write(64, &offset.to_be_bytes())?;
            patched.write(offset, &bytes)?;
        }
        Ok(())
    }

    /// A snapshot table with complete extra data: VM state size, disk size, instruction count.
    pub(super) fn snapshot_bytes(&self, entries: usize) -> Result<Vec<u8>, Unreadable> {
        let mut table: Vec<u8> = Vec::new();
        for entry in &self.own.snapshots.entries[..entries] {
            table.resize(table.len().next_multiple_of(8), 0);
            let mut raw = vec![0; entry.bytes as usize];
            self.image.read(entry.at, &mut raw)?;
            let kept = entry.extra.min(EXTRA_MAX) as usize;
            let mut extra = raw[40..40 + kept].to_vec();
            let vm_state = [&[0; 4], &raw[32..36]].concat();
            let disk = (self.own.header.virtual_size & !511).to_be_bytes();
            let defaults = [vm_state, disk.to_vec(), NO_ICOUNT.to_be_bytes().to_vec()];
            for (number, default) in defaults.iter().enumerate() {
                if kept < number * 8 + 8 {
                    extra.resize(number * 8, 0);
                    extra.extend(default);
                }
            }
            let (fixed, names) = (&mut raw[..40].to_vec(), &raw[40 + entry.extra as usize..]);
            fixed[36..40].copy_from_slice(&(extra.len() as u32).to_be_bytes());
            table.extend(&*fixed);
            table.extend(&extra);
            table.extend(names);
        }
        Ok(table)
    }
}
