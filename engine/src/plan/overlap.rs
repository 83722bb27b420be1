//! Clusters that are used as two things, or twice by one layer.
//!
//! A cluster of guest data may have as many references as there are layers, and compressed clusters
//! share theirs. So the counts alone show an overlap only where nothing is shared; otherwise the L2
//! tables are read again, with the layers that each belongs to.

use std::collections::BTreeMap;

use super::RepairError;
use super::damage::Ground;
use super::uses::Uses;
use crate::format::entry::{L1Entry, L2Format, L2Kind};
use crate::references::{L2Item, for_each_entry, for_each_item};
use crate::table::{RefcountTable, Run, RunSet};
use crate::units::{Cluster, ClusterCount, Offset};

/// What is kept is no matter here.
static NOTHING: BTreeMap<Cluster, u64> = BTreeMap::new();

/// The first overlap that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overlaps {
    None,
    At(Cluster),
}

/// Looks for one. The uses of refcount structures are no matter: a rebuild takes them away.
pub(super) fn look_for(ground: &Ground<'_>) -> Result<Overlaps, RepairError> {
    if !ground.counts.has_shared() {
        return Ok(Overlaps::None);
    }
    let mut counts = ground.counts.clone();
    ground.look.old.uncount(&mut counts)?;
    let search = Search { ground, counts };
    let mut shares_data = false;
    let uses = search.tables();
    for (cluster, references) in search.counts.above(1) {
        match uses.of(cluster) {
            TableUse::None => shares_data = true,
            TableUse::One(times) if times == references => {}
            _ => return Ok(Overlaps::At(cluster)),
        }
    }
    if shares_data {
        search.among_data()
    } else {
        Ok(Overlaps::None)
    }
}

struct Search<'a> {
    ground: &'a Ground<'a>,
    /// References but those of refcount structures.
    counts: RefcountTable,
}

/// What a cluster is used as beside guest data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TableUse {
    None,
    /// As one thing, and so often.
    One(u64),
    /// As several things, or twice as one that has but one use.
    Several,
}

/// The tables of an image.
struct Tables<'a> {
    uses: Uses<'a>,
    l1: RunSet,
    others: RunSet,
}

impl Tables<'_> {
    fn of(&self, cluster: Cluster) -> TableUse {
        let (mut times, mut kinds) = (0, 0);
        let mut note = |count: u64| {
            times += count;
            kinds += u64::from(count > 0);
        };
        note(self.uses.as_l2(cluster));
        if self.l1.contains(cluster) {
            note(self.uses.as_l1(cluster));
        }
        if self.others.contains(cluster) {
            let others = self.uses.look.references.others.iter();
            for _ in others.filter(|(_, run)| run.contains(cluster)) {
                note(1);
            }
        }
        match kinds {
            0 => TableUse::None,
            1 => TableUse::One(times),
            _ => TableUse::Several,
        }
    }
}

impl Search<'_> {
    fn tables(&self) -> Tables<'_> {
        let Ground {
            image,
            extent,
            look,
            counts,
            ..
        } = *self.ground;
        let geometry = image.geometry();
        let l1 = look.references.l1_tables.iter();
        let others = look.references.others.iter();
        Tables {
            uses: Uses {
                image,
                extent,
                look,
                counts,
                kept: &NOTHING,
                going: None,
            },
            l1: l1.map(|table| table.region().clusters(geometry)).collect(),
            others: others.map(|(_, run)| *run).collect(),
        }
    }

    fn among_data(&self) -> Result<Overlaps, RepairError> {
        let layers = Layers::of(self.ground)?;
        let geometry = self.ground.image.geometry();
        let mut pass = Pass {
            search: self,
            seen: RefcountTable::new(*geometry),
            compressed: RefcountTable::new(*geometry),
            sets: layers.sets,
            found: None,
        };
        let mut buffer = vec![0; geometry.cluster_size() as usize];
        for ((table, _), set) in self
            .ground
            .look
            .references
            .l2_tables
            .iter()
            .zip(layers.of_table)
        {
            self.ground.storage.read_at(*table, &mut buffer)?;
            let is_replaced = self.ground.replaced.tables.contains(table);
            pass.table(&buffer, set, is_replaced)?;
            if let Some(cluster) = pass.found {
                return Ok(Overlaps::At(cluster));
            }
        }
        Ok(Overlaps::None)
    }
}

/// Sets of layers, each there once, by number; 0 is the empty set.
struct Sets {
    sets: Vec<Vec<u64>>,
    numbers: BTreeMap<Vec<u64>, usize>,
}

impl Sets {
    fn new() -> Self {
        Self {
            sets: vec![Vec::new()],
            numbers: BTreeMap::from([(Vec::new(), 0)]),
        }
    }

    fn number(&mut self, set: Vec<u64>) -> usize {
        let next = self.sets.len();
        let number = *self.numbers.entry(set.clone()).or_insert(next);
        if number == next {
            self.sets.push(set);
        }
        number
    }

    /// The union of two, and whether they have a layer in common.
    fn union(&mut self, one: usize, other: usize) -> (usize, bool) {
        if one == 0 {
            return (other, false);
        }
        let (a, b) = (&self.sets[one], &self.sets[other]);
        let meets = a.iter().zip(b).any(|(a, b)| a & b != 0);
        let at = |set: &Vec<u64>, index: usize| set.get(index).copied().unwrap_or(0);
        let length = a.len().max(b.len());
        let union = (0..length).map(|index| at(a, index) | at(b, index));
        let union = union.collect();
        (self.number(union), meets)
    }
}

/// Which layers each L2 table belongs to.
struct Layers {
    sets: Sets,
    of_table: Vec<usize>,
}

impl Layers {
    fn of(ground: &Ground<'_>) -> Result<Self, RepairError> {
        let references = &ground.look.references;
        let mut sets = Sets::new();
        let mut of_table = vec![0; references.l2_tables.len()];
        for (number, l1) in references.l1_tables.iter().enumerate() {
            // The layers that share it count as one: what they share they share as a whole.
            let mut set = vec![0; number / 64];
            set.push(1 << (number % 64));
            let set = sets.number(set);
            let entries = u64::from(l1.entries);
            for_each_entry(ground.storage, l1.offset, entries, |_, entry| {
                let offset = L1Entry(entry).l2_table();
                let tables = &references.l2_tables;
                if let Ok(table) = tables.binary_search_by_key(&offset, |(offset, _)| *offset) {
                    (of_table[table], _) = sets.union(of_table[table], set);
                }
                Ok::<_, RepairError>(())
            })?;
        }
        Ok(Self { sets, of_table })
    }
}

/// One pass over the L2 tables.
struct Pass<'a> {
    search: &'a Search<'a>,
    /// By which set of layers each shared cluster is used as data, by number.
    seen: RefcountTable,
    /// The shared clusters that compressed data uses.
    compressed: RefcountTable,
    sets: Sets,
    found: Option<Cluster>,
}

impl Pass<'_> {
    fn table(&mut self, bytes: &[u8], set: usize, is_replaced: bool) -> Result<(), RepairError> {
        let image = self.search.ground.image;
        let (geometry, format) = (image.geometry(), L2Format::of(&image.header));
        for_each_item(geometry, format, bytes, |item| {
            let (offset, count) = match item {
                L2Item::Run { offset, count, .. } => (offset, count),
                L2Item::Entry { entry, .. } => match entry.kind(format) {
                    L2Kind::Normal(offset) | L2Kind::PreallocatedZero(offset) => {
                        if !geometry.is_aligned(offset) && is_replaced {
                            return Ok(());
                        }
                        let last = geometry.cluster_size() - 1;
                        let last = geometry.cluster_of(Offset(offset.0.saturating_add(last)));
                        (offset, last.since(geometry.cluster_of(offset)).0 + 1)
                    }
                    L2Kind::Compressed { offset, length } => {
                        return self.compressed(offset, length);
                    }
                    L2Kind::PlainZero | L2Kind::Unallocated => return Ok(()),
                },
            };
            if format.data_file {
                return Ok(());
            }
            self.data(
                Run::new(geometry.cluster_of(offset), ClusterCount(count)),
                set,
            )
        })
    }

    fn data(&mut self, run: Run, set: usize) -> Result<(), RepairError> {
        for cluster in run.iter() {
            // A table that data uses as well has been found before.
            if self.search.counts.get(cluster) < 2 {
                continue;
            }
            let (union, meets) = self.sets.union(self.seen.get(cluster) as usize, set);
            if meets || self.compressed.get(cluster) > 0 {
                self.found = Some(cluster);
            }
            self.seen.set(cluster, union as u64)?;
        }
        Ok(())
    }

    fn compressed(&mut self, offset: Offset, length: u64) -> Result<(), RepairError> {
        let geometry = self.search.ground.image.geometry();
        let region = crate::references::Region { offset, length };
        for cluster in region.clusters(geometry).iter() {
            if self.search.counts.get(cluster) < 2 {
                continue;
            }
            if self.seen.get(cluster) > 0 {
                self.found = Some(cluster);
            }
            self.compressed.set(cluster, 1)?;
        }
        Ok(())
    }
}
