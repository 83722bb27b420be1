//! Rule 7, of the snapshot table: "while there is some damage, the header's number of snapshots and
//! the snapshot table stay as they are"; what can only be made right by giving something up is done
//! with `--release-unreachable` alone.

use std::ops::Range;

use super::Spec;
use crate::audit::{SnapshotEntry, SnapshotFault, be32};
use crate::format::{SNAPSHOT_EXTRA_MAX as EXTRA_MAX, SNAPSHOT_EXTRA_MIN as EXTRA_MIN};

/// What becomes of the snapshot table.
#[derive(Debug)]
pub(super) struct Snapshots {
    /// Entries that are left.
    pub left: u32,
    /// The bytes of a new one where one of these has too much extra data, or too little.
    pub anew: Vec<u8>,
    /// Clusters that the present one takes up no more.
    pub given_up: Range<u64>,
}

impl Spec<'_> {
    /// `None` where a check gives up, for them or for something else that a repair does not mend.
    pub(super) fn snapshots(&self) -> Option<Snapshots> {
        let (header, table) = (&self.own.header, &self.own.snapshots);
        let release = self.ask.options.release_unreachable;
        let may_change = release || self.damage.is_empty();
        let stays = !may_change || self.ask.options.only_leaks || table.past_end;
        let releases = release && !stays;
        let goes_on = match table.fault {
            None => true,
            Some(SnapshotFault::ExtraData) => !stays,
            Some(SnapshotFault::TooMuch) => releases,
            Some(SnapshotFault::Nonsense) => false,
        };
        let else_blocked = self.own.blocked > usize::from(table.fault.is_some());
        // In the header's cluster a repair would change what the snapshots are.
        let in_header = header.snapshots > 0 && header.snapshots_offset < self.size;
        if !goes_on || else_blocked || in_header {
            return None;
        }
        let is_left = |entry: &SnapshotEntry| !releases || !entry.blank;
        let last = table.entries.iter().rposition(is_left);
        let left = &table.entries[..last.map_or(0, |last| last + 1)];
        let least = if header.version == 2 { 0 } else { EXTRA_MIN };
        let fits = |entry: &SnapshotEntry| (least..=EXTRA_MAX).contains(&entry.extra);
        let anew = (!stays && !left.iter().all(fits)).then(|| self.table_of(left));
        let anew = anew.unwrap_or_default();
        let start = header.snapshots_offset;
        let end = |entries| (start + table.bytes(entries, start)).div_ceil(self.size);
        let in_place = if anew.is_empty() { left.len() } else { 0 };
        Some(Snapshots {
            left: left.len() as u32,
            anew,
            given_up: end(in_place)..end(table.entries.len()),
        })
    }

    /// A snapshot table with complete extra data: VM state size, disk size, no instruction
    /// count.
    fn table_of(&self, entries: &[SnapshotEntry]) -> Vec<u8> {
        let mut table: Vec<u8> = Vec::new();
        for entry in entries {
            table.resize(table.len().next_multiple_of(8), 0);
            let raw = self.image.bytes(entry.at, entry.bytes as usize);
            let (fixed, rest) = raw.split_at(40);
            let (extra, names) = rest.split_at(entry.extra as usize);
            let mut extra = extra[..extra.len().min(EXTRA_MAX as usize)].to_vec();
            let (vm_state, disk) = (be32(&fixed[32..]), self.own.header.virtual_size & !511);
            let complete = [vm_state, disk, u64::MAX].map(u64::to_be_bytes).concat();
            if extra.len() < complete.len() {
                // A field that is there in part is not there.
                extra.truncate(extra.len() / 8 * 8);
                extra.extend(&complete[extra.len()..]);
            }
            table.extend(&fixed[..36]);
            table.extend((extra.len() as u32).to_be_bytes());
            table.extend(&extra);
            table.extend(names);
        }
        table.resize(table.len().next_multiple_of(self.size as usize), 0);
        table
    }
}
