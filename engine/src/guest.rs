//! Which parts of the virtual disk cannot be read any more: what damage means to whoever uses the
//! image.

use std::ops::Range;

use crate::check::CheckError;
use crate::finding::Layer;
use crate::format::entry::{L1Entry, L2Entry, L2Format, L2Kind};
use crate::format::snapshot::MAX_L1_ENTRIES;
use crate::image::{Extent, Image};
use crate::references::{
    HeaderTables, L2Item, SnapshotTable, for_each_entry, for_each_item, holds_no_data,
};
use crate::storage::Storage;
use crate::units::Offset;

/// As many ranges of a layer as a message can name.
const RANGES_MAX: usize = 16;

/// What of a layer leads past the end of the file, or nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRanges {
    /// Whose guest clusters.
    pub layer: Layer,
    /// The first ranges, in bytes of the virtual disk, ascending, none next to another.
    pub ranges: Vec<Range<u64>>,
    /// Bytes of all ranges.
    pub bytes: u64,
}

/// The parts of each layer that have data which is not in the file. A layer of which everything can be
/// read is left out, and so is one whose L1 table cannot be found.
pub fn lost_ranges(storage: &dyn Storage) -> Result<Vec<LostRanges>, CheckError> {
    let image = Image::open(storage)?;
    let snapshots = SnapshotTable::read(&image, storage, HeaderTables::NotFollowed, &mut ())?;
    let (header, geometry) = (&image.header, image.geometry());
    let active = (Layer::Active, header.l1_table_offset, header.l1_size);
    let of_snapshots = (0..).zip(&snapshots.entries).map(|(number, snapshot)| {
        let entry = &snapshot.entry;
        let layer = Layer::Snapshot(number);
        (layer, entry.l1_table_offset, entry.l1_size)
    });
    let mut lost = Vec::new();
    for (layer, offset, entries) in [active].into_iter().chain(of_snapshots) {
        if !geometry.is_aligned(offset) || offset == Offset(0) || entries > MAX_L1_ENTRIES {
            continue;
        }
        let mut search = Search {
            image: &image,
            storage,
            extent: Extent::of(storage, geometry),
            lost: LostRanges {
                layer,
                ranges: Vec::new(),
                bytes: 0,
            },
        };
        search.l1_table(offset, entries)?;
        if search.lost.bytes > 0 {
            lost.push(search.lost);
        }
    }
    Ok(lost)
}

struct Search<'a> {
    image: &'a Image,
    storage: &'a dyn Storage,
    extent: Extent,
    lost: LostRanges,
}

impl Search<'_> {
    fn l1_table(&mut self, offset: Offset, entries: u32) -> Result<(), CheckError> {
        let geometry = *self.image.geometry();
        let size = geometry.cluster_size();
        let covered = self.image.header.l2_entries() << geometry.cluster_bits();
        let mut bytes = vec![0; size as usize];
        let storage = self.storage;
        for_each_entry(storage, offset, u64::from(entries), |index, entry| {
            let table = L1Entry(entry).l2_table();
            let start = index.saturating_mul(covered);
            let end = table.0.saturating_add(size);
            if !geometry.is_aligned(table) || table == Offset(0) || end > self.extent.bytes {
                self.note(start..start.saturating_add(covered));
                return Ok(());
            }
            storage.read_at(table, &mut bytes)?;
            self.l2_table(start, &bytes)
        })
    }

    /// An L2 table that maps the virtual disk from `start` on.
    fn l2_table(&mut self, start: u64, bytes: &[u8]) -> Result<(), CheckError> {
        let geometry = *self.image.geometry();
        let format = L2Format::of(&self.image.header);
        let size = geometry.cluster_size();
        for_each_item(&geometry, format, bytes, |item| {
            let (index, first_lost, past) = match item {
                L2Item::Run {
                    index,
                    offset,
                    count,
                    ..
                } => {
                    let first = geometry.cluster_of(offset).0;
                    let inside = self.extent.clusters.0.saturating_sub(first).min(count);
                    let inside = if format.data_file { count } else { inside };
                    (index, inside, count)
                }
                L2Item::Entry { index, entry } => {
                    (index, u64::from(!self.is_lost(entry, format)), 1)
                }
            };
            let at = |number: u64| start.saturating_add((index + number) * size);
            self.note(at(first_lost)..at(past));
            Ok(())
        })
    }

    /// Whether an entry has data that is not where it says.
    fn is_lost(&self, entry: L2Entry, format: L2Format) -> bool {
        let geometry = self.image.geometry();
        match entry.kind(format) {
            L2Kind::Compressed { offset, length } => {
                format.data_file || offset.0.saturating_add(length) > self.extent.bytes
            }
            L2Kind::Normal(offset) | L2Kind::PreallocatedZero(offset) => {
                let inside = self.extent.holds(geometry, offset, geometry.cluster_size());
                let is_there = geometry.is_aligned(offset) && (inside || format.data_file);
                !holds_no_data(entry, format) && !is_there
            }
            L2Kind::PlainZero | L2Kind::Unallocated => false,
        }
    }

    /// Adds a range, cut to the virtual disk.
    fn note(&mut self, range: Range<u64>) {
        let end = range.end.min(self.image.header.size);
        if range.start >= end {
            return;
        }
        self.lost.bytes += end - range.start;
        let ranges = &mut self.lost.ranges;
        if let Some(last) = ranges.last_mut()
            && last.end == range.start
        {
            last.end = end;
        } else if ranges.len() < RANGES_MAX {
            ranges.push(range.start..end);
        }
    }
}
