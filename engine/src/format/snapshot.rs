//! Entries of the snapshot table (specification, "Snapshots").
//!
//! ```text
//!   0 l1_table_offset    16 date_sec        32 vm_state_size
//!   8 l1_size            20 date_nsec       36 extra_data_size
//!  12 id_str_size        24 vm_clock_nsec   40 extra data, id, name; then padded to 8
//!  14 name_size
//! ```

use super::{be16, be32, be64};
use crate::units::{Offset, Region};

/// Bytes of an entry before its extra data.
pub const FIXED_BYTES: u64 = 40;
/// More snapshots than that nobody opens.
pub const MAX_SNAPSHOTS: u32 = 65_536;
/// A larger snapshot table nobody opens.
pub const MAX_TABLE_BYTES: u64 = 64 << 20;
/// Longer extra data nobody opens.
pub const MAX_EXTRA_DATA: u32 = 1024;
/// Extra data that a version 3 image must have: VM state size and disk size.
pub const V3_MIN_EXTRA_DATA: u32 = 16;
/// A larger L1 table nobody opens.
pub const MAX_L1_ENTRIES: u32 = (32 << 20) / 8;

/// The parts of an entry that refer to clusters, and its sizes, in bytes where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// Where the entry begins.
    pub position: Offset,
    /// Where its L1 table is, not yet validated.
    pub l1_table_offset: Offset,
    /// Entries of its L1 table, not yet validated.
    pub l1_size: u32,
    pub extra_data_size: u32,
    pub id_size: u16,
    pub name_size: u16,
    /// Whether it is zeros only: no snapshot, but what follows the table.
    pub is_blank: bool,
    /// When it was made, in seconds since 1970.
    pub date: u32,
    /// The machine's state in it, unless its extra data says otherwise.
    vm_state_size: u32,
}

impl SnapshotEntry {
    /// Parses the first [`FIXED_BYTES`] bytes of an entry at `position`.
    pub fn parse(position: Offset, bytes: &[u8]) -> Self {
        Self {
            position,
            l1_table_offset: Offset(be64(bytes, 0)),
            l1_size: be32(bytes, 8),
            id_size: be16(bytes, 12),
            name_size: be16(bytes, 14),
            extra_data_size: be32(bytes, 36),
            date: be32(bytes, 16),
            vm_state_size: be32(bytes, 32),
            is_blank: bytes.iter().all(|byte| *byte == 0),
        }
    }

    /// The bytes of the machine's state and of the virtual disk, by as much extra data as there is.
    pub fn sizes(&self, extra_data: &[u8]) -> (u64, Option<u64>) {
        let at = |position: usize| {
            extra_data
                .get(position..position + 8)
                .map(|size| be64(size, 0))
        };
        (at(0).unwrap_or(self.vm_state_size.into()), at(8))
    }

    /// Where its extra data, its ID and its name are.
    pub fn parts(&self) -> [Region; 3] {
        let (extra, id) = (self.extra_data_size.into(), self.id_size.into());
        let lengths = [extra, id, self.name_size.into()];
        let mut end = self.position.0.saturating_add(FIXED_BYTES);
        lengths.map(|length: u64| {
            let offset = Offset(end);
            end = end.saturating_add(length);
            Region { offset, length }
        })
    }

    /// Bytes of its extra data that anyone reads.
    pub fn extra_data_kept(&self) -> u32 {
        self.extra_data_size.min(MAX_EXTRA_DATA)
    }

    /// Whether it has more extra data than anyone reads, or less than the image's version demands.
    pub const fn is_misshapen(&self, version: u32) -> bool {
        let is_incomplete = version >= 3 && self.extra_data_size < V3_MIN_EXTRA_DATA;
        self.extra_data_size > MAX_EXTRA_DATA || is_incomplete
    }

    /// Bytes of the entry without the padding after it.
    pub const fn length(&self) -> u64 {
        FIXED_BYTES + self.extra_data_size as u64 + self.id_size as u64 + self.name_size as u64
    }
}
