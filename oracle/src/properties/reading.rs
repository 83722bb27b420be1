//! What the audit says of some bytes, be they a toy or an image: all that properties look at.

use std::ops::Range;

use itertools::Itertools;
use litemap::LiteMap;

use crate::audit::{self, Audit, Bytes, Referrers, Unreadable};
use crate::case::model::Model;
use crate::toy::{ToyStructure, structure};

/// Longest list of referrers in a message.
const NAMED_MAX: usize = 3;

/// How bytes are to be read.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Pointer, reftable and refblocks; who refers to what is known beforehand, and that the `old`
    /// clusters must stay untouched until the switch.
    Toy(Model),
    /// A qcow2 image.
    Image,
}

impl Kind {
    /// Reads bytes.
    pub fn read(&self, bytes: &dyn Bytes) -> Result<Reading, Unreadable> {
        Ok(match self {
            Self::Toy(toy) => {
                let structure = structure(bytes, toy)?;
                let own = structure.own_clusters(toy);
                let foreign = (0..).zip(toy.references.iter().copied());
                let mut references: LiteMap<u64, u64> =
                    foreign.filter(|&(_, count)| count > 0).collect();
                for (&cluster, &uses) in &own {
                    *references.entry(cluster).or_insert(0) += uses;
                }
                Reading {
                    cluster_bits: toy.shape().cluster_bits().into(),
                    max_refcount: u64::MAX >> (64 - (1 << toy.refcount_order)),
                    own,
                    references,
                    found: Found::Toy(structure),
                    beside_the_header: None,
                }
            }
            Self::Image => Reading::of_image(audit::audit(bytes)?, bytes)?,
        })
    }
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
    /// All that the audit found.
    pub found: Found,
    /// The same without tables in the header's cluster, where there are some: a repair changes what
    /// these say, and does not count what they lead to.
    beside_the_header: Option<Box<Audit>>,
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
        let beside = audit
            .header_is_table
            .then(|| audit::audit_beside_the_header(bytes));
        let beside_the_header = beside.transpose()?.map(Box::new);
        let counted = beside_the_header.as_deref().unwrap_or(&audit);
        let own = counted.references.iter().map(|(&cluster, by)| {
            let uses = by.iter().filter(|by| by.is_structure());
            (cluster, uses.count() as u64)
        });
        Ok(Self {
            cluster_bits: audit.header.cluster_bits,
            max_refcount: audit.header.max_refcount(),
            own: own.filter(|&(_, uses)| uses > 0).collect(),
            references: counted.references.iter().map(count).collect(),
            beside_the_header,
            found: Found::Image(Box::new(audit)),
        })
    }

    /// Bytes of a cluster.
    pub const fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// The header's pointer to the reftable: byte offset and clusters.
    pub const fn pointer(&self) -> (u64, u64) {
        match &self.found {
            Found::Toy(toy) => (toy.reftable_offset, toy.reftable_clusters),
            Found::Image(audit) => (audit.header.reftable_offset, audit.header.reftable_clusters),
        }
    }

    /// References to a cluster.
    pub fn references_to(&self, cluster: u64) -> u64 {
        self.references.get(&cluster).copied().unwrap_or(0)
    }

    /// References to a cluster but for those of the refcount structures.
    pub fn foreign_references_to(&self, cluster: u64) -> u64 {
        self.references_to(cluster) - self.own.get(&cluster).copied().unwrap_or(0)
    }

    /// The refcounts on disk that are not 0.
    pub const fn counts(&self) -> &LiteMap<u64, u64> {
        match &self.found {
            Found::Toy(toy) => &toy.counts,
            Found::Image(audit) => audit.disk.counts(),
        }
    }

    /// The refcount of a cluster on disk; `None` where it cannot be read.
    pub fn count(&self, cluster: u64) -> Option<u64> {
        match &self.found {
            Found::Toy(toy) => Some(toy.counts.get(&cluster).copied().unwrap_or(0)),
            Found::Image(audit) => audit.disk.count(cluster),
        }
    }

    /// Whether a cluster is looked at: those past the end of the file to which nothing refers that a
    /// repair counts are not, whatever their refcounts.
    pub fn is_checked(&self, cluster: u64) -> bool {
        self.counted().is_none_or(|own| cluster < own.clusters)
    }

    /// Clusters with references or a refcount.
    pub fn clusters_in_use(&self) -> impl Iterator<Item = u64> {
        let counted = self.counts().keys();
        counted.merge(self.references.keys()).dedup().copied()
    }

    /// The audit of an image as a repair counts: without tables in the header's cluster.
    pub fn counted(&self) -> Option<&Audit> {
        self.beside_the_header.as_deref().or_else(|| self.audit())
    }

    /// The clusters of refcount structures that end past the end of the file.
    pub fn cut_structures(&self) -> impl Iterator<Item = Range<u64>> {
        let past_end = self.audit().into_iter().flat_map(|audit| &audit.past_end);
        let cut = past_end.filter(|region| region.referrer.is_structure());
        cut.map(|region| {
            let end = region.offset.saturating_add(region.bytes);
            region.offset >> self.cluster_bits..end.div_ceil(self.cluster_size())
        })
    }

    /// The audit of an image.
    pub const fn audit(&self) -> Option<&Audit> {
        match &self.found {
            Found::Toy(_) => None,
            Found::Image(audit) => Some(audit),
        }
    }

    /// Whether a cluster is an image's header.
    pub const fn is_header(&self, cluster: u64) -> bool {
        cluster == 0 && self.audit().is_some()
    }

    /// Who refers to a cluster, for a person.
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
                    let named = by.iter().take(NAMED_MAX).join(", ");
                    let more = by.len().saturating_sub(NAMED_MAX);
                    let more = (more > 0).then(|| format!(" and {more} more"));
                    format!("referred to by {named}{}", more.unwrap_or_default())
                }
            },
        }
    }
}
