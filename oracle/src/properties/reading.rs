//! What the audit says of some bytes, be they a toy or an image: all that properties look at.

use itertools::{EitherOrBoth, Itertools};
use litemap::LiteMap;

use crate::audit::{
    self, Audit, Bytes, Corruption, Referrer, Referrers, Refusal, ToyGeometry, ToyStructure,
    Unreadable, Wrong,
};

/// Bits 9 to 55 of an L1 or L2 entry (specification, "Cluster mapping").
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Bits 1 to 8 and 56 to 61 of an L2 entry that is not compressed.
const L2_RESERVED: u64 = 0x3f00_0000_0000_01fe;
/// An L2 entry that reads as zeros.
const ZERO: u64 = 1;
const ALLOCATED_SUBCLUSTERS: u64 = 0xffff_ffff;
/// Snapshots of an image, at most.
const SNAPSHOTS_MAX: u64 = 65_536;
/// Longest list of referrers in a message.
const NAMED_MAX: usize = 3;

/// How bytes are to be read.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Pointer, reftable and refblocks; who refers to what is known beforehand.
    Toy(Toy),
    /// A qcow2 image.
    Image,
}

/// What is known of a toy beforehand.
#[derive(Clone, Debug)]
pub struct Toy {
    /// Its sizes.
    pub geometry: ToyGeometry,
    /// References of each cluster, those of new structures not included.
    pub references: Vec<u64>,
    /// Clusters of the old structures that must stay untouched until the switch.
    pub reserved: Vec<u32>,
}

impl Kind {
    /// Reads bytes.
    pub fn read(&self, bytes: &dyn Bytes) -> Result<Reading, Unreadable> {
        Ok(match self {
            Self::Toy(toy) => {
                let structure = audit::structure(bytes, toy.geometry)?;
                let own = structure.own_clusters(toy.geometry);
                let foreign = (0..).zip(toy.references.iter().copied());
                let foreign = foreign.filter(|&(_, count)| count > 0);
                let all = own.iter().map(|(&cluster, &uses)| (cluster, uses));
                let all = all.merge_join_by(foreign, |own, foreign| own.0.cmp(&foreign.0));
                let sum = |references: EitherOrBoth<(u64, u64)>| {
                    let both = |own: (u64, u64), foreign: (u64, u64)| (own.0, own.1 + foreign.1);
                    references.reduce(both)
                };
                let mut references = LiteMap::with_capacity(own.len() + toy.references.len());
                references.extend(all.map(sum));
                Reading {
                    nowhere: None,
                    cluster_bits: u64::from(toy.geometry.cluster_bits),
                    max_refcount: u64::MAX >> (64 - (1 << toy.geometry.refcount_order)),
                    own,
                    references,
                    found: Found::Toy(structure),
                }
            }
            Self::Image => Reading::of_image(audit::audit(bytes)?, bytes)?,
        })
    }
}

/// How often each cluster belongs to the refcount structures.
fn own_clusters(audit: &Audit) -> LiteMap<u64, u64> {
    let own = audit.references.iter().map(|(&cluster, by)| {
        let uses = by.iter().filter(|by| by.is_structure()).count();
        (cluster, uses as u64)
    });
    own.filter(|&(_, uses)| uses > 0).collect()
}

/// What first leads nowhere in an image, so that clusters may be in use without a reference.
pub fn nowhere(audit: &Audit, bytes: &dyn Bytes) -> Result<Option<String>, Unreadable> {
    Ok(first_dead_end(audit, bytes)?
        .or_else(|| table_in_header(audit))
        .or_else(|| table_past_the_end(audit)))
}

/// Whether something leads nowhere in an image that a repair has not replaced: an entry that led
/// somewhere before and to no cluster after it does not hide anything.
pub fn leads_nowhere_still(
    audit: &Audit,
    before: &dyn Bytes,
    after: &dyn Bytes,
) -> Result<bool, Unreadable> {
    let mut left = audit.clone();
    left.corruptions.clear();
    for corruption in &audit.corruptions {
        if !is_replaced(audit, before, after, corruption)? {
            left.corruptions.push(corruption.clone());
        }
    }
    Ok(nowhere(&left, before)?.is_some())
}

/// Whether the L2 entry that a corruption is about has lost its offset.
fn is_replaced(
    audit: &Audit,
    before: &dyn Bytes,
    after: &dyn Bytes,
    corruption: &Corruption,
) -> Result<bool, Unreadable> {
    let Some((at, _)) = entry_of(audit, before, corruption)? else {
        return Ok(false);
    };
    let (mut old, mut new) = ([0; 8], [0; 8]);
    before.read(at, &mut old)?;
    after.read(at, &mut new)?;
    Ok(u64::from_be_bytes(old) & OFFSET != 0 && u64::from_be_bytes(new) & OFFSET == 0)
}

/// The first entry that leads nowhere. Those with reserved bits are followed by their offset, and
/// those that hold no data lead nowhere by right.
fn first_dead_end(audit: &Audit, bytes: &dyn Bytes) -> Result<Option<String>, Unreadable> {
    for corruption in audit.leads_nowhere() {
        let followed = match (corruption.referrer, corruption.wrong) {
            // What a number of snapshots that is too large takes for some are none.
            (Referrer::Data { .. }, Wrong::Reserved { .. })
            | (
                Referrer::SnapshotTable,
                Wrong::Unreadable {
                    refusal: Refusal::SnapshotCount { .. },
                },
            ) => true,
            (_, Wrong::Reserved { entry }) => entry & OFFSET != 0,
            // Whatever more there are of, they are no snapshots.
            (
                Referrer::SnapshotTable,
                Wrong::Unreadable {
                    refusal: Refusal::Table { .. },
                },
            ) => audit.header.snapshots > SNAPSHOTS_MAX,
            _ => is_empty_and_astray(audit, bytes, corruption)?,
        };
        if !followed {
            return Ok(Some(corruption.to_string()));
        }
    }
    Ok(None)
}

/// A table with a cluster behind the end of the file. qemu counts that cluster and reads zeros.
fn table_past_the_end(audit: &Audit) -> Option<String> {
    let is_table = |by: &&Referrer| {
        matches!(
            by,
            Referrer::L1 { .. }
                | Referrer::L2 { .. }
                | Referrer::SnapshotTable
                | Referrer::BitmapDirectory
                | Referrer::BitmapTable { .. }
        )
    };
    let end = audit.length.div_ceil(audit.header.cluster_size());
    let mut behind = audit.references.range(end..);
    let table = behind.find_map(|(_, by)| by.iter().find(is_table))?;
    Some(format!("{table} leads past the end of the file"))
}

/// A table that is said to be where the header is, and thus is not known.
fn table_in_header(audit: &Audit) -> Option<String> {
    let header = &audit.header;
    let in_header = |offset: u64| offset < header.cluster_size();
    if header.snapshots > 0 && in_header(header.snapshots_offset) {
        return Some("the snapshot table is said to be the header".to_owned());
    }
    let mut layers = audit.layers.iter();
    let layer = layers.find(|layer| layer.l1_entries > 0 && in_header(layer.l1_offset))?;
    Some(format!(
        "the L1 table of {} is said to be the header",
        layer.id
    ))
}

/// Whether something leads into the header, which is then read as a table: a repair that writes its
/// new pointer changes what that table says.
#[must_use]
pub fn takes_header_for_a_table(audit: &Audit) -> bool {
    let referrers = audit.references.get(&0);
    referrers.is_some_and(|by| by.len() > 1) || table_in_header(audit).is_some()
}

/// Whether a corruption is an L2 entry that reads as zeros and has an offset inside a cluster. A
/// repair replaces it by one without an offset: what lies there is not its own.
pub(super) fn is_empty_and_astray(
    audit: &Audit,
    bytes: &dyn Bytes,
    corruption: &Corruption,
) -> Result<bool, Unreadable> {
    if !matches!(corruption.wrong, Wrong::Unaligned { .. }) {
        return Ok(false);
    }
    let Some((at, length)) = entry_of(audit, bytes, corruption)? else {
        return Ok(false);
    };
    let mut word = [0; 8];
    bytes.read(at, &mut word)?;
    if u64::from_be_bytes(word) & L2_RESERVED != 0 {
        // It may have been anything, compressed data for one.
        return Ok(false);
    }
    bytes.read(at + length - 8, &mut word)?;
    let word = u64::from_be_bytes(word);
    Ok(if length == 16 {
        word & ALLOCATED_SUBCLUSTERS == 0
    } else {
        word & ZERO != 0
    })
}

/// The L2 entry that a corruption names: byte position and length.
pub(super) fn entry_of(
    audit: &Audit,
    bytes: &dyn Bytes,
    corruption: &Corruption,
) -> Result<Option<(u64, u64)>, Unreadable> {
    match corruption.referrer {
        Referrer::Data { .. } => position_of(audit, bytes, corruption.referrer),
        _ => Ok(None),
    }
}

/// The L1 or L2 entry that a referrer is: byte position and length.
pub(super) fn position_of(
    audit: &Audit,
    bytes: &dyn Bytes,
    referrer: Referrer,
) -> Result<Option<(u64, u64)>, Unreadable> {
    let (layer, l1_index, l2_index) = match referrer {
        Referrer::L2 { layer, l1_index } => (layer, l1_index, None),
        Referrer::Data {
            layer,
            l1_index,
            l2_index,
        }
        | Referrer::Compressed {
            layer,
            l1_index,
            l2_index,
        } => (layer, l1_index, Some(l2_index)),
        _ => return Ok(None),
    };
    let Some(layer) = audit.layers.iter().find(|other| other.id == layer) else {
        return Ok(None);
    };
    let l1_entry = layer.l1_offset + l1_index * 8;
    let Some(l2_index) = l2_index else {
        return Ok(Some((l1_entry, 8)));
    };
    let mut entry = [0; 8];
    bytes.read(l1_entry, &mut entry)?;
    let table = u64::from_be_bytes(entry) & OFFSET;
    let length = if audit.header.extended_l2() { 16 } else { 8 };
    Ok(table.checked_add(l2_index * length).map(|at| (at, length)))
}

/// What the audit says of some bytes.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Binary logarithm of the cluster size.
    pub cluster_bits: u64,
    /// The largest refcount.
    pub max_refcount: u64,
    /// How often each cluster belongs to the refcount structures.
    pub own: LiteMap<u64, u64>,
    /// References of each cluster, the structures' own included.
    pub references: LiteMap<u64, u64>,
    /// The first entry that leads nowhere, so that clusters may be in use without a reference.
    pub nowhere: Option<String>,
    /// All that the audit found.
    pub found: Found,
}

/// All that the audit found.
#[derive(Clone, Debug)]
pub enum Found {
    /// In a toy.
    Toy(ToyStructure),
    /// In an image.
    Image(Box<Audit>),
}

impl Reading {
    /// Of an image in these bytes, by what the audit says of them.
    pub fn of_image(audit: Audit, bytes: &dyn Bytes) -> Result<Self, Unreadable> {
        let count = |(&cluster, by): (&u64, &Referrers)| (cluster, by.len() as u64);
        Ok(Self {
            nowhere: nowhere(&audit, bytes)?,
            cluster_bits: audit.header.cluster_bits,
            max_refcount: audit.header.max_refcount(),
            own: own_clusters(&audit),
            references: audit.references.iter().map(count).collect(),
            found: Found::Image(Box::new(audit)),
        })
    }

    /// Bytes of a cluster.
    #[must_use]
    pub const fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// The header's pointer to the reftable: byte offset and clusters.
    #[must_use]
    pub const fn pointer(&self) -> (u64, u64) {
        match &self.found {
            Found::Toy(toy) => (toy.reftable_offset, toy.reftable_clusters),
            Found::Image(audit) => (audit.header.reftable_offset, audit.header.reftable_clusters),
        }
    }

    /// References to a cluster.
    #[must_use]
    pub fn references_to(&self, cluster: u64) -> u64 {
        self.references.get(&cluster).copied().unwrap_or(0)
    }

    /// References to a cluster but for those of the refcount structures.
    #[must_use]
    pub fn foreign_references_to(&self, cluster: u64) -> u64 {
        self.references_to(cluster) - self.own.get(&cluster).copied().unwrap_or(0)
    }

    /// The refcounts on disk that are not 0.
    #[must_use]
    pub const fn counts(&self) -> &LiteMap<u64, u64> {
        match &self.found {
            Found::Toy(toy) => &toy.counts,
            Found::Image(audit) => audit.disk.counts(),
        }
    }

    /// The refcount of a cluster on disk; `None` where it cannot be read.
    #[must_use]
    pub fn count(&self, cluster: u64) -> Option<u64> {
        match &self.found {
            Found::Toy(toy) => Some(toy.counts.get(&cluster).copied().unwrap_or(0)),
            Found::Image(audit) => audit.disk.count(cluster),
        }
    }

    /// Whether a check looks at a cluster: those past the end of the file that nothing refers to
    /// are not looked at, whatever their refcounts.
    #[must_use]
    pub const fn is_checked(&self, cluster: u64) -> bool {
        match &self.found {
            Found::Toy(_) => true,
            Found::Image(audit) => cluster < audit.clusters,
        }
    }

    /// Clusters with references or a refcount.
    pub fn clusters_in_use(&self) -> impl Iterator<Item = u64> {
        let counted = self.counts().keys();
        counted.merge(self.references.keys()).dedup().copied()
    }

    /// Whether something leads into the header of an image: see [`takes_header_for_a_table`].
    #[must_use]
    pub fn takes_header_for_a_table(&self) -> bool {
        self.audit().is_some_and(takes_header_for_a_table)
    }

    /// Whether an entry leads nowhere, so that clusters may be in use without a reference.
    #[must_use]
    pub const fn is_blind(&self) -> bool {
        self.nowhere.is_some()
    }

    /// The audit of an image.
    #[must_use]
    pub const fn audit(&self) -> Option<&Audit> {
        match &self.found {
            Found::Toy(_) => None,
            Found::Image(audit) => Some(audit),
        }
    }

    /// Who refers to a cluster, for a person.
    #[must_use]
    pub fn referrers(&self, cluster: u64) -> String {
        match &self.found {
            Found::Toy(_) => {
                let own = self.own.get(&cluster).copied().unwrap_or(0);
                let others = self.foreign_references_to(cluster);
                match (others, own) {
                    (0, 0) => "nothing refers to it".to_owned(),
                    (0, _) => "it belongs to the refcount structures".to_owned(),
                    (_, 0) => format!("it has {others} references"),
                    _ => format!("it has {others} references and belongs to the structures"),
                }
            }
            Found::Image(audit) => match audit.references.get(&cluster) {
                None => "nothing refers to it".to_owned(),
                Some(by) => {
                    let named = by.iter().take(NAMED_MAX).map(Referrer::to_string);
                    let named = named.collect::<Vec<_>>().join(", ");
                    let more = by.len().saturating_sub(NAMED_MAX);
                    let more = if more > 0 {
                        format!(" and {more} more")
                    } else {
                        String::new()
                    };
                    format!("referred to by {named}{more}")
                }
            },
        }
    }
}
