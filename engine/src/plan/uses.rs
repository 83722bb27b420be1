//! What else uses the clusters of a table: a table is written to only where nothing does.

use std::collections::{BTreeMap, BTreeSet};

use super::RepairError;
use crate::check::Look;
use crate::format::entry::L1Entry;
use crate::image::{Extent, Image};
use crate::references::{
    OldStructures, Region, UnalignedEmpty, for_each_entry, looks_like_l2_table,
};
use crate::storage::Storage;
use crate::table::{RefcountTable, Run};
use crate::units::{Cluster, Offset};

/// What a look says of the uses of tables.
#[derive(Clone, Copy)]
pub(super) struct Uses<'a> {
    pub image: &'a Image,
    pub extent: &'a Extent,
    pub look: &'a Look,
    /// The references, those of entries that are replaced left out.
    pub counts: &'a RefcountTable,
    /// The references of tables whose count is larger, as it is kept.
    pub kept: &'a BTreeMap<Cluster, u64>,
    /// How often refcount structures that go away use a cluster, where `counts` include that.
    pub going: Option<&'a BTreeMap<Cluster, u64>>,
}

impl Uses<'_> {
    /// References that stay.
    fn references(&self, cluster: Cluster) -> u64 {
        if let Some(references) = self.kept.get(&cluster) {
            return *references;
        }
        let going = self.going.and_then(|going| going.get(&cluster));
        let going = going.copied().unwrap_or(0);
        self.counts.get(cluster).saturating_sub(going)
    }

    /// Whether a cluster is used as an L1 or L2 table.
    pub fn is_table(&self, cluster: Cluster) -> bool {
        self.as_l2(cluster) > 0 || self.as_l1(cluster) > 0
    }

    /// How often a cluster is used as an L2 table.
    pub fn as_l2(&self, cluster: Cluster) -> u64 {
        let geometry = self.image.geometry();
        let size = geometry.cluster_size();
        let start = cluster.0 << geometry.cluster_bits();
        let tables = &self.look.references.l2_tables;
        let first = tables.partition_point(|(offset, _)| offset.0.saturating_add(size) <= start);
        let touching = tables[first..].iter();
        let touching = touching.take_while(|(offset, _)| offset.0 < start + size);
        touching.map(|(_, uses)| uses.all).sum()
    }

    /// How often a cluster is used as an L1 table.
    pub fn as_l1(&self, cluster: Cluster) -> u64 {
        let geometry = self.image.geometry();
        let tables = self.look.references.l1_tables.iter();
        let touching = tables.filter(|table| table.region().clusters(geometry).contains(cluster));
        touching.map(|table| table.layers).sum()
    }

    /// Whether an L2 table may be written to: it is where one can be, all of it is in the file, its
    /// cluster is nothing else, and it looks like one. `bytes` are those of the table.
    pub fn l2_is_writable(&self, offset: Offset, bytes: &[u8]) -> bool {
        let geometry = self.image.geometry();
        let cluster = geometry.cluster_of(offset);
        let end = offset.0.saturating_add(geometry.cluster_size());
        // Another table that lies over this one is not this one.
        let tables = &self.look.references.l2_tables;
        let found = tables.binary_search_by_key(&offset, |(offset, _)| *offset);
        let uses = found.map_or(0, |position| tables[position].1.all);
        // What only the header leads to, taken for an L1 table, is no use.
        uses > 0
            && geometry.is_aligned(offset)
            && cluster != Cluster(0)
            && end <= self.extent.bytes
            && !self.look.references.beyond.covered.contains(cluster)
            && self.references(cluster) == uses
            && looks_like_l2_table(self.image, self.extent, bytes)
    }

    /// Whether the active L1 table may be written to.
    pub fn l1_is_writable(&self, storage: &dyn Storage) -> Result<bool, RepairError> {
        let (header, geometry) = (&self.image.header, self.image.geometry());
        let (offset, length) = (header.l1_table_offset, u64::from(header.l1_size) * 8);
        if offset.0.saturating_add(length) > self.extent.bytes {
            return Ok(false);
        }
        let region = Region { offset, length };
        let covered = &self.look.references.beyond.covered;
        let mut clusters = region.clusters(geometry).iter();
        let alone = clusters.all(|cluster| {
            cluster != Cluster(0)
                && !covered.contains(cluster)
                && self.references(cluster) == self.as_l1(cluster)
        });
        let (mut sound, mut unsound) = (0_u64, 0_u64);
        for_each_entry(storage, offset, length / 8, |_, entry| {
            let entry = L1Entry(entry);
            if entry.has_reserved_bits() || !geometry.is_aligned(entry.l2_table()) {
                unsound += 1;
            } else {
                sound += 1;
            }
            Ok::<_, RepairError>(())
        })?;
        Ok(alone && unsound <= sound)
    }
}

/// How often each cluster is used by the present refcount structures, where that is not just once.
pub(super) fn of_structures(old: &OldStructures) -> BTreeMap<Cluster, u64> {
    let mut uses = BTreeMap::new();
    for cluster in old.counted.iter().flat_map(Run::iter) {
        *uses.entry(cluster).or_default() += 1;
    }
    uses
}

/// Takes the entries that are replaced out of the counts, and returns the tables that they are in.
/// What an entry that stays refers to may be a table, which then stays as it is as well.
pub(super) fn replace_entries(
    storage: &dyn Storage,
    image: &Image,
    extent: &Extent,
    look: &Look,
    going: &BTreeMap<Cluster, u64>,
    counts: &mut RefcountTable,
) -> Result<Replaced, RepairError> {
    let mut replaced = Replaced::default();
    let entries = &look.references.unaligned_empty;
    if entries.is_empty() {
        return Ok(replaced);
    }
    let size = image.geometry().cluster_size();
    for entry in entries.values() {
        replaced.tables.insert(entry.table);
        count(image, extent, entry, counts, false)?;
    }
    let mut buffer = vec![0; size as usize];
    loop {
        let mut staying = Vec::new();
        for table in &replaced.tables {
            let uses = Uses {
                image,
                extent,
                look,
                counts,
                kept: &BTreeMap::new(),
                going: Some(going),
            };
            storage.read_at(*table, &mut buffer)?;
            if !uses.l2_is_writable(*table, &buffer) {
                staying.push(*table);
            }
        }
        if staying.is_empty() {
            break;
        }
        for table in &staying {
            replaced.tables.remove(table);
            for entry in entries.values().filter(|entry| entry.table == *table) {
                count(image, extent, entry, counts, true)?;
            }
        }
    }
    for ((_, table), entry) in entries {
        if replaced.tables.contains(table) {
            replaced.entries.push(*entry);
        } else {
            replaced.staying.push(*entry);
        }
    }
    Ok(replaced)
}

/// What becomes of L2 entries without data that lead to no cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct Replaced {
    /// The tables in which they are replaced.
    pub tables: BTreeSet<Offset>,
    /// Those entries.
    pub entries: Vec<UnalignedEmpty>,
    /// The others.
    pub staying: Vec<UnalignedEmpty>,
}

impl Replaced {
    /// How many entries of a table are replaced.
    pub fn in_table(&self, table: Offset) -> u64 {
        let here = self.entries.iter().filter(|entry| entry.table == table);
        here.count() as u64
    }
}

/// Whether an entry's cluster is counted, and counts it once more or once less.
fn count(
    image: &Image,
    extent: &Extent,
    entry: &UnalignedEmpty,
    counts: &mut RefcountTable,
    adds: bool,
) -> Result<(), RepairError> {
    let geometry = image.geometry();
    let (offset, length) = (entry.offset, geometry.cluster_size());
    if image.header.has_data_file() || !extent.holds(geometry, offset, length) {
        return Ok(());
    }
    let run = Region { offset, length }.clusters(geometry);
    if adds {
        return Ok(counts.add(run, entry.uses.all)?);
    }
    for cluster in run.iter() {
        let count = counts.get(cluster);
        counts.set(cluster, count.saturating_sub(entry.uses.all))?;
    }
    Ok(())
}
