//! Which parts of the virtual disk cannot be read any more: what damage means to whoever uses the
//! image.

use std::ops::Range;

use crate::finding::Layer;
use crate::format::entry::{L1Entry, L2Kind};
use crate::format::snapshot::MAX_L1_ENTRIES;
use crate::image::Image;
use crate::references::{CheckError, HeaderTables, L2Run, SnapshotTable, for_each_entry, l2_runs};
use crate::storage::Storage;
use crate::units::{Cluster, Offset};

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
    let of_snapshots = (0..).zip(&snapshots.entries).map(|(number, entry)| {
        let layer = Layer::Snapshot(number);
        (layer, entry.l1_table_offset, entry.l1_size)
    });
    let format = image.format();
    let size = geometry.cluster_size();
    let covered = header.l2_entries() * size;
    let mut table_bytes = vec![0; size as usize];
    let mut all = Vec::new();
    for (layer, offset, entries) in [active].into_iter().chain(of_snapshots) {
        if !geometry.is_aligned(offset) || offset == Offset(0) || entries > MAX_L1_ENTRIES {
            continue;
        }
        let mut lost = LostRanges {
            layer,
            ranges: Vec::new(),
            bytes: 0,
        };
        for_each_entry(storage, offset, u64::from(entries), |index, entry| {
            let table = L1Entry(entry).l2_table();
            let start = index.saturating_mul(covered);
            let end = table.0.saturating_add(size);
            if !geometry.is_aligned(table) || table == Offset(0) || end > image.extent.bytes {
                lost.note(start..start.saturating_add(covered), header.size);
                return Ok(());
            }
            storage.read_at(table, &mut table_bytes)?;
            for run in l2_runs(format, &table_bytes) {
                let at = |number: u64| start.saturating_add((run.index + number) * size);
                lost.note(at(present(&image, run))..at(run.count), header.size);
            }
            Ok::<_, CheckError>(())
        })?;
        if lost.bytes > 0 {
            all.push(lost);
        }
    }
    Ok(all)
}

/// Of entries side by side how many at the beginning have no data that is not where they say.
fn present(image: &Image, run: L2Run) -> u64 {
    let L2Run { entry, count, .. } = run;
    let (geometry, format) = (image.geometry(), image.format());
    let is_present = match entry.kind(format) {
        L2Kind::Compressed(region) => !format.data_file && region.end() <= image.extent.bytes,
        L2Kind::Normal(offset) | L2Kind::PreallocatedZero(offset) => {
            if !format.data_file && geometry.is_aligned(offset) && !entry.holds_no_data(format) {
                let file = Cluster(image.extent.clusters.0);
                return file.since(geometry.cluster_of(offset)).0.min(count);
            }
            geometry.is_aligned(offset) || entry.holds_no_data(format)
        }
        L2Kind::PlainZero | L2Kind::Unallocated => true,
    };
    if is_present { count } else { 0 }
}

impl LostRanges {
    /// Adds a range, cut to the virtual disk of `size` bytes.
    fn note(&mut self, range: Range<u64>, size: u64) {
        let end = range.end.min(size);
        if range.start >= end {
            return;
        }
        self.bytes += end - range.start;
        if let Some(last) = self.ranges.last_mut()
            && last.end == range.start
        {
            last.end = end;
        } else if self.ranges.len() < RANGES_MAX {
            self.ranges.push(range.start..end);
        }
    }
}
