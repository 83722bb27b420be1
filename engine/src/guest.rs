//! Where in the virtual disk something lies, and which parts cannot be read any more: what damage means
//! to whoever uses the image.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use crate::finding::Layer;
use crate::format::entry::{L1Entry, L2Kind};
use crate::format::header::{CORRUPT, DIRTY};
use crate::format::snapshot::{MAX_L1_ENTRIES, SnapshotEntry};
use crate::image::Image;
use crate::references::{CheckError, HeaderTables, L2Run, SnapshotTable, for_each_entry, l2_runs};
use crate::storage::{Storage, StorageError};
use crate::table::RefcountTable;
use crate::units::{Cluster, Offset};

/// As many ranges of a layer as a message can name.
const RANGES_MAX: usize = 16;
/// Tables with something lost that are read once, however many entries lead to them.
const TABLES_MAX: usize = 4096;
/// As much of a snapshot's name, in characters.
const NAME_MAX: usize = 60;

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

/// The active layer and the snapshots of an image, and where in the virtual disk their tables lie.
pub struct Layers {
    image: Image,
    snapshots: Vec<SnapshotEntry>,
}

/// Where an L2 table is used first: by the active layer, or else by the first snapshot that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableUse {
    /// Whose L1 table leads to it.
    pub layer: Layer,
    /// The number of the entry there.
    pub l1_index: u64,
}

impl Layers {
    /// Reads the header and the snapshot table, as far as that makes sense.
    pub fn read(storage: &dyn Storage) -> Result<Self, CheckError> {
        let image = Image::open(storage)?;
        let table = SnapshotTable::read(&image, storage, HeaderTables::NotFollowed, &mut ())?;
        let snapshots = table.entries;
        Ok(Self { image, snapshots })
    }

    /// Whether the header's dirty bit is set: refcounts may be out of date.
    pub const fn is_dirty(&self) -> bool {
        self.image.header.incompatible_features & DIRTY != 0
    }

    /// Whether its corrupt bit is set: whoever wrote to the image has seen damage.
    pub const fn is_corrupt(&self) -> bool {
        self.image.header.incompatible_features & CORRUPT != 0
    }

    /// Where the virtual disk has the clusters of so many entries of an L2 table, which an entry of an L1
    /// table leads to, in bytes; cut to the length of the virtual disk.
    pub fn range_of(&self, l1_index: u64, l2_index: u64, entries: u64) -> Range<u64> {
        let (header, size) = (&self.image.header, self.image.geometry().cluster_size());
        let first = l1_index.saturating_mul(header.l2_entries());
        let at = |index: u64| {
            first
                .saturating_add(index)
                .saturating_mul(size)
                .min(header.size)
        };
        at(l2_index)..at(l2_index.saturating_add(entries))
    }

    /// The same of all that an entry of an L1 table leads to.
    pub fn range_of_l1(&self, l1_index: u64) -> Range<u64> {
        self.range_of(l1_index, 0, self.image.header.l2_entries())
    }

    /// A layer as its users call it: a snapshot by its ID and name, as far as these can be read.
    pub fn name(&self, layer: Layer, storage: &dyn Storage) -> String {
        let Layer::Snapshot(number) = layer else {
            return layer.to_string();
        };
        let entry = self.snapshots.get(number as usize);
        let name = entry.and_then(|entry| snapshot_name(storage, entry).ok());
        name.unwrap_or_else(|| layer.to_string())
    }

    /// Where each of these L2 tables is used first. One that nothing leads to is left out.
    pub fn uses_of(
        &self,
        storage: &dyn Storage,
        tables: &BTreeSet<Offset>,
    ) -> Result<BTreeMap<Offset, TableUse>, CheckError> {
        let mut uses = BTreeMap::new();
        for (layer, offset, entries) in self.tables() {
            if uses.len() == tables.len() {
                break;
            }
            for_each_entry(storage, offset, entries, |l1_index, entry| {
                let table = L1Entry(entry).l2_table();
                if tables.contains(&table) {
                    uses.entry(table).or_insert(TableUse { layer, l1_index });
                }
                Ok::<_, CheckError>(())
            })?;
        }
        Ok(uses)
    }

    /// The parts of each layer that have data which is not in the file. A layer of which everything can be
    /// read is left out, and so is one whose L1 table cannot be found.
    pub fn lost_ranges(&self, storage: &dyn Storage) -> Result<Vec<LostRanges>, CheckError> {
        let mut search = Search {
            image: &self.image,
            storage,
            whole: RefcountTable::new(*self.image.geometry()),
            lost: BTreeMap::new(),
        };
        // Of L1 tables that several layers share as well.
        let mut known: BTreeMap<(Offset, u64), LostRanges> = BTreeMap::new();
        let mut all = Vec::new();
        for (layer, offset, entries) in self.tables() {
            let lost = match known.get(&(offset, entries)) {
                Some(lost) => LostRanges {
                    layer,
                    ..lost.clone()
                },
                None => self.lost_of(&mut search, (layer, offset, entries))?,
            };
            known.insert((offset, entries), lost.clone());
            if lost.bytes > 0 {
                all.push(lost);
            }
        }
        Ok(all)
    }

    fn lost_of(
        &self,
        search: &mut Search<'_>,
        (layer, offset, entries): (Layer, Offset, u64),
    ) -> Result<LostRanges, CheckError> {
        let mut lost = LostRanges {
            layer,
            ranges: Vec::new(),
            bytes: 0,
        };
        for_each_entry(search.storage, offset, entries, |l1_index, entry| {
            for part in search.behind(L1Entry(entry).l2_table())?.iter() {
                lost.note(self.range_of(l1_index, part.start, part.end - part.start));
            }
            Ok::<_, CheckError>(())
        })?;
        Ok(lost)
    }

    /// The L1 tables that can be read: of which layer, where, and how many entries.
    fn tables(&self) -> impl Iterator<Item = (Layer, Offset, u64)> {
        let header = &self.image.header;
        let active = (Layer::Active, header.l1_table_offset, header.l1_size);
        let of_snapshots = (0..).zip(&self.snapshots).map(|(number, entry)| {
            let layer = Layer::Snapshot(number);
            (layer, entry.l1_table_offset, entry.l1_size)
        });
        let geometry = self.image.geometry();
        let is_there = |&(_, offset, entries): &(Layer, Offset, u32)| {
            geometry.is_aligned(offset) && offset != Offset(0) && entries <= MAX_L1_ENTRIES
        };
        let all = [active].into_iter().chain(of_snapshots).filter(is_there);
        all.map(|(layer, offset, entries)| (layer, offset, entries.into()))
    }
}

/// Looks for entries whose data is not in the file, in each L2 table once.
struct Search<'a> {
    image: &'a Image,
    storage: &'a dyn Storage,
    /// The tables with nothing lost.
    whole: RefcountTable,
    /// Of some others the entries with something lost.
    lost: BTreeMap<Offset, Rc<[Range<u64>]>>,
}

impl Search<'_> {
    /// The entries of an L2 table whose data is not there: all, where the table is not.
    fn behind(&mut self, table: Offset) -> Result<Rc<[Range<u64>]>, CheckError> {
        let geometry = self.image.geometry();
        let size = geometry.cluster_size();
        let end = table.0.saturating_add(size);
        let is_there = geometry.is_aligned(table) && table != Offset(0);
        if !is_there || end > self.image.extent.bytes {
            return Ok(std::iter::once(0..self.image.header.l2_entries()).collect());
        }
        if let Some(known) = self.lost.get(&table) {
            return Ok(Rc::clone(known));
        }
        if self.whole.get(geometry.cluster_of(table)) > 0 {
            return Ok(Rc::from([]));
        }
        let mut bytes = vec![0; size as usize];
        self.storage.read_at(table, &mut bytes)?;
        let runs = l2_runs(self.image.format(), &bytes);
        let lost = runs.map(|run| run.index + present(self.image, &run)..run.index + run.count);
        let lost: Rc<[Range<u64>]> = lost.filter(|entries| !entries.is_empty()).collect();
        if lost.is_empty() {
            self.whole.set(geometry.cluster_of(table), 1)?;
        } else if self.lost.len() < TABLES_MAX {
            self.lost.insert(table, Rc::clone(&lost));
        }
        Ok(lost)
    }
}

/// A snapshot's ID and name, in one line and cut where they are long.
fn snapshot_name(storage: &dyn Storage, entry: &SnapshotEntry) -> Result<String, StorageError> {
    let mut bytes = vec![0; usize::from(entry.id_size) + usize::from(entry.name_size)];
    let [_, id, _] = entry.parts();
    storage.read_at(id.offset, &mut bytes)?;
    let (id, name) = bytes.split_at(entry.id_size.into());
    let [id, name] = [id, name].map(|bytes| {
        let text: String = String::from_utf8_lossy(bytes)
            .chars()
            .take(NAME_MAX)
            .collect();
        text.escape_debug().to_string()
    });
    Ok(format!("snapshot {id} \"{name}\""))
}

/// Of entries side by side how many at the beginning have no data that is not where they say.
pub fn present(image: &Image, run: &L2Run) -> u64 {
    let L2Run { entry, count, .. } = *run;
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
    /// Adds a range behind those that there are.
    fn note(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.bytes += range.end - range.start;
        if let Some(last) = self.ranges.last_mut()
            && last.end == range.start
        {
            last.end = range.end;
        } else if self.ranges.len() < RANGES_MAX {
            self.ranges.push(range);
        }
    }
}
