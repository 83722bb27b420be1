//! Reading the snapshot table, with the liberties that a repair may take.

use super::WalkError;
use crate::finding::Finding;
use crate::format::snapshot::{
    FIXED_BYTES, MAX_EXTRA_DATA, MAX_SNAPSHOTS, MAX_TABLE_BYTES, SnapshotEntry, V3_MIN_EXTRA_DATA,
};
use crate::image::{Extent, Image};
use crate::observer::{Action, Observer};
use crate::storage::{Storage, StorageError};
use crate::units::Offset;

/// A snapshot, as far as it refers to clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its entry in the snapshot table.
    pub entry: SnapshotEntry,
    /// Bytes of its extra data that are kept.
    pub extra_data_kept: u32,
}

/// Whether an entry has an ID as somebody may have written it: of printable characters. qemu writes
/// decimal numbers. Behind a damaged size anything at all would be taken for a snapshot, and qemu
/// writes a new table with that.
fn has_id(storage: &dyn Storage, entry: &SnapshotEntry) -> Result<bool, StorageError> {
    let mut id = vec![0; usize::from(entry.id_size)];
    let at = entry.position.0 + FIXED_BYTES + u64::from(entry.extra_data_size);
    storage.read_at(Offset(at), &mut id)?;
    Ok(!id.is_empty() && id.iter().all(u8::is_ascii_graphic))
}

/// What a repair does about a snapshot table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Remedy {
    /// Nothing: it is sound, or cannot be told from something else.
    #[default]
    None,
    /// Some entry has too much or too little extra data: it is written anew.
    Rewrite,
    /// The header names more snapshots than there are, the rest being blank or over the limit: the
    /// number is set right.
    Shorten,
}

/// The snapshot table, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotTable {
    /// Where it is.
    pub offset: Offset,
    /// Bytes that it takes up: as many as the header names, as long as the header names them. While
    /// a new table is on its way this one is still read by the old number of entries.
    pub length: u64,
    /// Its entries.
    pub entries: Vec<Snapshot>,
    /// Corruptions that a repair mends, by a table written anew or a smaller number of snapshots.
    pub corruptions: u64,
    remedy: Remedy,
    /// Entries over the limit, which were cut off. Nobody writes as many, so these are none.
    pub dropped: u32,
    /// The first entry with too much extra data behind blank ones, and how much. The header names
    /// too many snapshots, and what is behind the table was taken for some; qemu writes a new table
    /// with all of that.
    nonsense: Option<(u32, u32)>,
    /// The first entry that is all zeros.
    first_blank: Option<usize>,
    /// Whether it reaches past the end of the file. Then what it says is zeros in part, and it is
    /// not written anew from them.
    pub past_end: bool,
    /// Whether a repair takes it for the header, which nobody's snapshot table is. It is not read
    /// then: its entries, its length and what is wrong with it would change with each rebuild, as
    /// the header's pointers do.
    pub at_header: bool,
}

impl SnapshotTable {
    /// Reads the table. With `repair`, what is over a limit is cut off and reported; without, it
    /// is an error.
    pub fn read(
        image: &Image,
        storage: &dyn Storage,
        repair: bool,
        observer: &mut dyn Observer,
    ) -> Result<Self, WalkError> {
        let header = &image.header;
        let mut claimed = header.nb_snapshots;
        let mut table = Self {
            offset: header.snapshots_offset,
            ..Self::default()
        };
        if claimed > MAX_SNAPSHOTS && repair {
            table.dropped = claimed - MAX_SNAPSHOTS;
            claimed = MAX_SNAPSHOTS;
        }
        let smallest = u64::from(claimed) * FIXED_BYTES;
        let aligned = image.geometry().is_aligned(table.offset);
        if claimed > MAX_SNAPSHOTS || !aligned || table.offset.0 > i64::MAX as u64 - smallest {
            return Err(WalkError::SnapshotTable {
                snapshots: claimed,
                offset: table.offset,
            });
        }
        let begins_in_header = table.offset.0 < image.geometry().cluster_size();
        table.at_header = repair && claimed > 0 && begins_in_header;
        if !table.at_header {
            table.read_entries(image, storage, claimed, repair)?;
        }
        if table.past_end && table.dropped > 0 {
            let (snapshots, offset) = (header.nb_snapshots, table.offset);
            return Err(WalkError::SnapshotTable { snapshots, offset });
        }
        table.corruptions += u64::from(table.dropped);
        table.report(image, repair, observer);
        if repair && table.corruptions > 0 && !table.past_end {
            table.leave_out_blank();
        }
        table.remedy = table.remedy(image, repair);
        if table.is_shortened() {
            table.length = table.length_of_entries();
        }
        Ok(table)
    }

    fn read_entries(
        &mut self,
        image: &Image,
        storage: &dyn Storage,
        claimed: u32,
        repair: bool,
    ) -> Result<(), WalkError> {
        let start = self.offset.0;
        let file = Extent::of(storage, image.geometry()).bytes;
        let version_3 = image.header.version >= 3;
        let mut kept_length = 0_u64;
        // The first entry that has too much extra data, and how much.
        let mut doubtful = None;
        for index in 0..claimed {
            let position = Offset((start + self.length).next_multiple_of(8));
            let mut bytes = [0; FIXED_BYTES as usize];
            storage.read_at(position, &mut bytes)?;
            let entry = SnapshotEntry::parse(position, &bytes);
            if repair && self.begins_nonsense(index, &entry) {
                break;
            }
            self.past_end |= position.0.saturating_add(entry.length()) > file;
            if self.dropped > 0 && entry.is_blank {
                // Nothing that a number over the limit says is worth reading on for.
                self.corruptions += u64::from(version_3) * u64::from(claimed - index);
                break;
            }
            if entry.extra_data_size > MAX_EXTRA_DATA {
                doubtful.get_or_insert((index, entry.extra_data_size));
            }
            // What a table that is not all there says of its sizes is not worth acting on.
            if let Some((snapshot, bytes)) = doubtful
                && (!repair || self.past_end || !has_id(storage, &entry)?)
            {
                return Err(WalkError::SnapshotExtraData { snapshot, bytes });
            }
            let extra_data_kept = entry.extra_data_size.min(MAX_EXTRA_DATA);
            let cut = u64::from(entry.extra_data_size - extra_data_kept);
            let length = position.0 - start + entry.length();
            kept_length = kept_length.next_multiple_of(8) + entry.length() - cut;
            // Only a damaged entry is as large, and what follows it would be lost (qemu drops it).
            if kept_length > MAX_TABLE_BYTES || i32::try_from(length).is_err() {
                return Err(WalkError::SnapshotTableTooLarge { snapshot: index });
            }
            self.length = length;
            let incomplete = version_3 && extra_data_kept < V3_MIN_EXTRA_DATA;
            self.corruptions += u64::from(cut > 0) + u64::from(incomplete);
            if entry.is_blank {
                self.first_blank.get_or_insert(self.entries.len());
            }
            self.entries.push(Snapshot {
                entry,
                extra_data_kept,
            });
        }
        Ok(())
    }

    /// Whether the table ended where zeros began before this entry, which is none: the number of
    /// snapshots is too large. One corruption.
    fn begins_nonsense(&mut self, index: u32, entry: &SnapshotEntry) -> bool {
        let too_much = entry.extra_data_size > MAX_EXTRA_DATA;
        if !too_much || self.past_end || self.first_blank.is_none() {
            return false;
        }
        self.nonsense = Some((index, entry.extra_data_size));
        self.corruptions += 1;
        true
    }

    /// Takes the blank entries off the end: a number of snapshots that is too large takes the
    /// zeros behind the table for some. qemu keeps them, as snapshots without a name.
    fn leave_out_blank(&mut self) {
        if let Some(blank) = self.first_blank.filter(|_| self.nonsense.is_some()) {
            self.entries.truncate(blank);
        }
        let last = self.entries.iter().rposition(|s| !s.entry.is_blank);
        self.entries.truncate(last.map_or(0, |last| last + 1));
    }

    /// Bytes that the entries take up which are none too many.
    fn length_of_entries(&self) -> u64 {
        self.entries.last().map_or(0, |last| {
            last.entry.position.0 + last.entry.length() - self.offset.0
        })
    }

    /// What a repair does about what is wrong.
    fn remedy(&self, image: &Image, repair: bool) -> Remedy {
        let header = &image.header;
        let misshapen = |snapshot: &Snapshot| {
            let kept = snapshot.extra_data_kept;
            let incomplete = header.version >= 3 && kept < V3_MIN_EXTRA_DATA;
            kept < snapshot.entry.extra_data_size || incomplete
        };
        if self.past_end || self.at_header {
            Remedy::None
        } else if self.entries.iter().any(misshapen) {
            Remedy::Rewrite
        } else if repair && header.nb_snapshots > self.entries.len() as u32 {
            Remedy::Shorten
        } else {
            Remedy::None
        }
    }

    /// Whether a repair writes it anew.
    #[must_use]
    pub const fn is_rewritten(&self) -> bool {
        matches!(self.remedy, Remedy::Rewrite)
    }

    /// Whether all that a repair does is to let the header name fewer snapshots.
    #[must_use]
    pub const fn is_shortened(&self) -> bool {
        matches!(self.remedy, Remedy::Shorten)
    }

    /// Whether a repair mends what is wrong.
    #[must_use]
    pub const fn is_mended(&self) -> bool {
        self.is_rewritten() || self.is_shortened()
    }

    fn report(&self, image: &Image, repair: bool, observer: &mut dyn Observer) {
        let action = if repair && !self.past_end && !self.at_header {
            Action::Repaired
        } else {
            Action::Reported
        };
        if self.dropped > 0 {
            observer.finding(
                &Finding::SnapshotsOverLimit {
                    dropped: self.dropped,
                },
                action,
            );
        }
        let sizes = self.entries.iter().map(|s| s.entry.extra_data_size);
        for (index, bytes) in (0..).zip(sizes).chain(self.nonsense) {
            if bytes > MAX_EXTRA_DATA {
                observer.finding(
                    &Finding::SnapshotExtraData {
                        snapshot: index,
                        bytes,
                    },
                    action,
                );
            } else if image.header.version >= 3 && bytes < V3_MIN_EXTRA_DATA {
                observer.finding(
                    &Finding::SnapshotIncomplete {
                        snapshot: index,
                        bytes,
                    },
                    action,
                );
            }
        }
    }
}
