//! Rule 7, of the snapshot table: "while there is some damage, the header's number of snapshots and
//! the snapshot table stay as they are"; what can only be made right by giving something up is done
//! with `--release-unreachable` alone.

use std::ops::Range;

use super::{Refused, Spec};
use crate::audit::{SnapshotEntry, SnapshotFault};
use crate::format::{SNAPSHOT_EXTRA_MAX as EXTRA_MAX, SNAPSHOT_EXTRA_MIN as EXTRA_MIN};

const NO_ICOUNT: u64 = u64::MAX;

/// What becomes of the snapshot table.
#[derive(Debug)]
pub(super) struct Snapshots {
    /// Entries that are left.
    pub left: u64,
    /// The bytes of a new one where one of these has too much extra data, or too little.
    pub anew: Vec<u8>,
    /// Clusters that the present one takes up no more.
    pub given_up: Range<u64>,
}

impl Spec<'_> {
    pub(super) fn snapshots(&self) -> Result<Snapshots, Refused> {
        let (header, table) = (&self.own.header, &self.own.snapshots);
        let all = !self.ask.only_leaks();
        let released = self.ask.options.release_unreachable && all;
        let may_change = all && (self.damage.is_empty() || released);
        let stays = table.past_end || !may_change;
        let goes_on = match table.fault {
            None => true,
            Some(SnapshotFault::ExtraData) => !stays,
            Some(SnapshotFault::TooMuch) => released && !stays,
            Some(SnapshotFault::Nonsense) => false,
        };
        let else_blocked = self.own.blocked > usize::from(table.fault.is_some());
        // In the header's cluster a repair would change what the snapshots are.
        let in_header = header.snapshots > 0 && header.snapshots_offset < self.size;
        if !goes_on || else_blocked || in_header {
            return Err(Refused::CheckGivesUp);
        }
        let is_left = |entry: &SnapshotEntry| stays || !released || !entry.blank;
        let last = table.entries.iter().rposition(is_left);
        let left = &table.entries[..last.map_or(0, |last| last + 1)];
        let fits = |entry: &SnapshotEntry| {
            entry.extra <= EXTRA_MAX && (header.version == 2 || entry.extra >= EXTRA_MIN)
        };
        let anew = (!stays && !left.iter().all(fits)).then(|| self.table_of(left));
        let anew = anew.unwrap_or_default();
        let start = header.snapshots_offset;
        let end = |entries| (start + table.bytes(entries, start)).div_ceil(self.size);
        let in_place = if anew.is_empty() { left.len() } else { 0 };
        Ok(Snapshots {
            left: left.len() as u64,
            anew,
            given_up: end(in_place)..end(table.entries.len()),
        })
    }

    /// A snapshot table with complete extra data: VM state size, disk size, instruction count.
    fn table_of(&self, entries: &[SnapshotEntry]) -> Vec<u8> {
        let mut table: Vec<u8> = Vec::new();
        for entry in entries {
            table.resize(table.len().next_multiple_of(8), 0);
            let raw = self.image.bytes(entry.at, entry.bytes as usize);
            let (fixed, rest) = raw.split_at(40);
            let (extra, names) = rest.split_at(entry.extra as usize);
            let mut extra = extra[..extra.len().min(EXTRA_MAX as usize)].to_vec();
            let vm_state = [&[0; 4], &fixed[32..36]].concat();
            let disk = (self.own.header.virtual_size & !511).to_be_bytes();
            let complete = [&vm_state[..], &disk, &NO_ICOUNT.to_be_bytes()].concat();
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
