//! Clusters that are used as two things, or twice by one layer.
//!
//! A cluster of guest data may have as many references as there are layers, and compressed clusters
//! share theirs. So the counts alone show an overlap only where nothing is shared; otherwise the L2
//! tables are read again, with the layers that each belongs to.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::RepairError;
use super::make::Draft;
use crate::format::entry::{L1Entry, L2Kind};
use crate::references::{for_each_entry, l2_runs};
use crate::table::RefcountTable;
use crate::units::{Cluster, Region};

/// The first cluster that is found. The uses of refcount structures are no matter: a rebuild takes them
/// away; nor are those by entries that read as zeros and have an impossible offset: nothing is lost there.
/// `counts` are the references but for those of present refcount structures.
pub(super) fn look_for(
    draft: &Draft<'_>,
    mut counts: RefcountTable,
) -> Result<Option<Cluster>, RepairError> {
    for entry in &draft.look.references.unaligned_empty {
        if !draft.replaced.contains_key(&entry.table)
            && let Some(run) = entry.counted(&draft.image)
        {
            counts.remove(run, entry.uses.all)?;
        }
    }
    let walked = &draft.look.references;
    let mut shares_data = false;
    for (cluster, count) in counts.above(1) {
        let as_kinds = [&walked.as_l1, &walked.as_l2, &walked.as_other];
        match as_kinds.map(|kind| kind.get(cluster)) {
            [0, 0, 0] => shares_data = true,
            // Layers share tables.
            [uses, 0, 0] | [0, uses, 0] if uses == count => {}
            _ => return Ok(Some(cluster)),
        }
    }
    if shares_data && !draft.image.header.has_data_file() {
        return among_data(draft, &counts);
    }
    Ok(None)
}

/// Looks through the L2 tables for shared clusters that one layer uses twice as data, or that are
/// used both as data and as compressed data.
fn among_data(draft: &Draft<'_>, counts: &RefcountTable) -> Result<Option<Cluster>, RepairError> {
    let geometry = draft.image.geometry();
    let mut layers = Layers::new();
    let of_table = layers.of_tables(draft)?;
    // By which set of layers each shared cluster is used.
    let mut seen = RefcountTable::new(*geometry);
    let mut bytes = vec![0; geometry.cluster_size() as usize];
    for ((table, _), own) in draft.look.references.l2_tables.iter().zip(of_table) {
        draft.storage.read_at(*table, &mut bytes)?;
        for run in l2_runs(draft.image.format(), &bytes) {
            let (region, set) = match run.entry.kind(draft.image.format()) {
                L2Kind::Normal(offset) | L2Kind::PreallocatedZero(offset) => {
                    // Any other that is not aligned is damage, which has been found before.
                    if !geometry.is_aligned(offset) {
                        continue;
                    }
                    let length = run.count * geometry.cluster_size();
                    (Region { offset, length }, own)
                }
                L2Kind::Compressed(region) => (region, COMPRESSED),
                L2Kind::PlainZero | L2Kind::Unallocated => continue,
            };
            for cluster in region.clusters(geometry).iter() {
                // A table that data uses as well has been found before.
                if counts.get(cluster) > 1 {
                    let (union, meets) = layers.union(seen.get(cluster) as usize, set);
                    seen.set(cluster, union as u64)?;
                    if meets {
                        return Ok(Some(cluster));
                    }
                }
            }
        }
    }
    Ok(None)
}

/// The set of layers that stands for compressed data of any.
const COMPRESSED: usize = 1;

/// Sets of layers, each there once, by number: a bit for each distinct L1 table. 0 is the empty set.
struct Layers {
    sets: Vec<Rc<[u64]>>,
    numbers: BTreeMap<Rc<[u64]>, usize>,
}

impl Layers {
    fn new() -> Self {
        Self {
            sets: vec![Rc::default(); COMPRESSED + 1],
            numbers: BTreeMap::new(),
        }
    }

    fn number(&mut self, set: Rc<[u64]>) -> usize {
        *self.numbers.entry(set).or_insert_with_key(|set| {
            self.sets.push(Rc::clone(set));
            self.sets.len() - 1
        })
    }

    /// The union of two, and whether clusters that they use overlap: they have a layer in common, or
    /// one of them alone is that of compressed data.
    fn union(&mut self, one: usize, other: usize) -> (usize, bool) {
        if one == 0 {
            return (other, false);
        }
        if one == COMPRESSED || other == COMPRESSED {
            return (other, one != other);
        }
        let (a, b) = (&*self.sets[one], &*self.sets[other]);
        let meets = a.iter().zip(b).any(|(a, b)| a & b != 0);
        let union = a.iter().zip(b).map(|(a, b)| a | b).collect();
        (self.number(union), meets)
    }

    /// Which layers each L2 table belongs to.
    fn of_tables(&mut self, draft: &Draft<'_>) -> Result<Vec<usize>, RepairError> {
        let (storage, references) = (draft.storage, &draft.look.references);
        let (l1_tables, l2_tables) = (&references.l1_tables, &references.l2_tables);
        let mut of_table = vec![0; l2_tables.len()];
        for (number, l1) in l1_tables.iter().enumerate() {
            // The layers that share it count as one: what they share they share as a whole.
            let mut set = vec![0; l1_tables.len().div_ceil(64)];
            set[number / 64] |= 1 << (number % 64);
            let set = self.number(set.into());
            for_each_entry(storage, l1.offset, u64::from(l1.entries), |_, entry| {
                let offset = L1Entry(entry).l2_table();
                if let Ok(table) = l2_tables.binary_search_by_key(&offset, |(offset, _)| *offset) {
                    (of_table[table], _) = self.union(of_table[table], set);
                }
                Ok::<_, RepairError>(())
            })?;
        }
        Ok(of_table)
    }
}
