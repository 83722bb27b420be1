//! Reading the snapshot table.

use super::error::SnapshotRefusal;
use super::{CheckError, HeaderTables, Result, Walker};
use crate::finding::{Finding, Referrer};
use crate::format::snapshot::{
    FIXED_BYTES, MAX_EXTRA_DATA, MAX_SNAPSHOTS, MAX_TABLE_BYTES, SnapshotEntry,
};
use crate::image::Image;
use crate::observer::{Action, Observer};
use crate::storage::{Storage, StorageError};
use crate::table::push;
use crate::units::{Offset, Region};

/// The snapshot table, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotTable {
    /// Where it is, as far as it was read.
    pub region: Region,
    /// Its entries, as far as they are snapshots.
    pub entries: Vec<SnapshotEntry>,
    /// Entries with too much or too little extra data, as corruptions: a new table mends them.
    pub corruptions: u64,
    /// What a check gives up for.
    pub refusal: Option<SnapshotRefusal>,
    /// Whether it reaches past the end of the file. Then what it says is zeros in part, and it is
    /// not written anew from them.
    pub past_end: bool,
    /// Whether it begins in the header's cluster and was not read for that.
    pub at_header: bool,
}

impl SnapshotTable {
    /// Reads the table as far as it makes sense.
    pub fn read(
        image: &Image,
        storage: &dyn Storage,
        header_tables: HeaderTables,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let header = &image.header;
        let (snapshots, offset) = (header.nb_snapshots, header.snapshots_offset);
        let smallest = u64::from(snapshots) * FIXED_BYTES;
        if !image.geometry().is_aligned(offset) || offset.0 > i64::MAX as u64 - smallest {
            return Err(CheckError::SnapshotTable { snapshots, offset });
        }
        let mut table = Self {
            region: Region { offset, length: 0 },
            refusal: (snapshots > MAX_SNAPSHOTS)
                .then_some(SnapshotRefusal::OverLimit { snapshots }),
            at_header: snapshots > 0
                && offset.0 < image.geometry().cluster_size()
                && header_tables == HeaderTables::NotFollowed,
            ..Self::default()
        };
        if !table.at_header {
            table.read_entries(image, storage)?;
        }
        table.report(image, observer);
        Ok(table)
    }

    fn read_entries(&mut self, image: &Image, storage: &dyn Storage) -> Result<()> {
        let (start, file) = (self.region.offset.0, image.extent.bytes);
        let mut kept_length = 0_u64;
        for index in 0..image.header.nb_snapshots.min(MAX_SNAPSHOTS) {
            let position = Offset((start + self.region.length).next_multiple_of(8));
            let mut bytes = [0; FIXED_BYTES as usize];
            storage.read_at(position, &mut bytes)?;
            let entry = SnapshotEntry::parse(position, &bytes);
            if entry.is_blank && self.refusal.is_some() {
                // A number over the limit says nothing of where the table ends.
                break;
            }
            if self.ends_at(storage, index, &entry, file)? {
                break;
            }
            self.past_end |= position.0.saturating_add(entry.length()) > file;
            let cut = u64::from(entry.extra_data_size - entry.extra_data_kept());
            let length = position.0 - start + entry.length();
            kept_length = kept_length.next_multiple_of(8) + entry.length() - cut;
            // Only a damaged entry is as large, and what follows it would be lost (qemu drops it).
            if kept_length > MAX_TABLE_BYTES || i32::try_from(length).is_err() {
                self.refusal = Some(SnapshotRefusal::TooLarge { snapshot: index });
                break;
            }
            self.region.length = length;
            push(&mut self.entries, entry)?;
        }
        Ok(())
    }

    /// Whether an entry is none that can be read on behind, so that the table ends before it. Once
    /// there was too much extra data, everything behind it has to look like a snapshot.
    fn ends_at(
        &mut self,
        storage: &dyn Storage,
        snapshot: u32,
        entry: &SnapshotEntry,
        file: u64,
    ) -> Result<bool, StorageError> {
        let bytes = entry.extra_data_size;
        if bytes > MAX_EXTRA_DATA {
            if let Some(blank) = self.entries.iter().position(|entry| entry.is_blank)
                && !self.past_end
            {
                // Zeros and then nonsense: the table ended where the zeros began.
                self.refusal = Some(SnapshotRefusal::BehindBlank { snapshot });
                self.region.length = self.length_of(blank);
                self.entries.truncate(blank);
                return Ok(true);
            }
            self.refusal
                .get_or_insert(SnapshotRefusal::ExtraData { snapshot, bytes });
        }
        let Some(SnapshotRefusal::ExtraData { snapshot, bytes }) = self.refusal else {
            return Ok(false);
        };
        let past_end = self.past_end || entry.position.0.saturating_add(entry.length()) > file;
        if past_end || !has_id(storage, entry)? {
            self.refusal = Some(SnapshotRefusal::Nonsense { snapshot, bytes });
            return Ok(true);
        }
        Ok(false)
    }

    /// The entries that a repair leaves which may give something up: without blank ones at the end,
    /// which a number of snapshots that is too large takes from the zeros behind the table.
    pub fn worth_keeping(&self) -> &[SnapshotEntry] {
        let last = self.entries.iter().rposition(|entry| !entry.is_blank);
        &self.entries[..last.map_or(0, |last| last + 1)]
    }

    /// Bytes that so many of its entries take up.
    pub fn length_of(&self, entries: usize) -> u64 {
        if entries == self.entries.len() {
            return self.region.length;
        }
        let end = |last: &SnapshotEntry| last.position.0 + last.length() - self.region.offset.0;
        self.entries[..entries].last().map_or(0, end)
    }

    /// Reports the entries that a new table mends.
    fn report(&mut self, image: &Image, observer: &mut dyn Observer) {
        for (snapshot, entry) in (0..).zip(&self.entries) {
            let bytes = entry.extra_data_size;
            let finding = if bytes > MAX_EXTRA_DATA {
                Finding::SnapshotExtraData { snapshot, bytes }
            } else if entry.is_misshapen(image.header.version) {
                Finding::SnapshotIncomplete { snapshot, bytes }
            } else {
                continue;
            };
            self.corruptions += 1;
            observer.finding(&finding, Action::Reported);
        }
    }
}

/// Whether an entry has an ID as somebody may have written it: of printable characters. qemu writes
/// decimal numbers. Behind a damaged size anything at all would be taken for a snapshot, and qemu
/// writes a new table with that.
pub(crate) fn has_id(storage: &dyn Storage, entry: &SnapshotEntry) -> Result<bool, StorageError> {
    let mut id = vec![0; usize::from(entry.id_size)];
    let at = entry.position.0 + FIXED_BYTES + u64::from(entry.extra_data_size);
    storage.read_at(Offset(at), &mut id)?;
    Ok(!id.is_empty() && id.iter().all(u8::is_ascii_graphic))
}

impl Walker<'_> {
    /// What may hide snapshots.
    pub(super) fn judge_snapshots(&mut self) {
        let table = &self.references.snapshots;
        let region = table.region;
        for (snapshot, entry) in (0..).zip(&table.entries) {
            if entry.is_blank {
                let finding = Finding::SnapshotBlank { snapshot };
                self.references.dead_ends.push(finding);
            }
        }
        if self.image.header.nb_snapshots > 0 {
            self.skips(Referrer::SnapshotTable, region.offset);
        }
        if self.references.snapshots.past_end {
            self.references.beyond.in_part(self.image, region.end());
        }
    }
}
