//! What a repair is, as a small and naive program: from damaged bytes and options to the bytes that
//! there have to be afterwards, or the reason why nothing is written. It shares nothing with the
//! engine, reads the image through the audit, and may be slow. Each module quotes its rules.

mod counts;
mod damage;
mod place;
mod snapshots;
mod tables;

use std::collections::{BTreeMap, BTreeSet};

use itertools::chain;

use crate::audit::{Audit, PastEnd, Referrer, Unreadable, audit, counters};
use crate::case::damage::SparseBytes;
use crate::subject::Ask;

pub use damage::Damage;
pub use place::Layout;

use snapshots::Snapshots;

/// Refcounts by cluster, those that are not 0.
pub type Counts = BTreeMap<u64, u64>;

const DIRTY_AND_CORRUPT: u64 = 3;
const KNOWN_AUTOCLEAR: u64 = 3;

/// Why nothing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[expect(missing_docs, reason = "they are what their texts say")]
pub enum Refused {
    #[error("it cannot be opened")]
    NotOpened,
    #[error("a check gives up, and a repair does not mend the cause")]
    CheckGivesUp,
    #[error("the structures have to be built anew, and only leaks were to be repaired")]
    NeedsRebuild,
    #[error("there is no room")]
    NoSpace,
    #[error("there would be room if the file grew over what is missing of it")]
    GrowthWouldHide,
    #[error("the reftable would be over 8 MiB")]
    ReftableTooLarge,
}

/// What has to come of a repair: the image afterwards, or why nothing is written.
pub type Expected = Result<Box<Repaired>, Refused>;

/// The image after a repair.
#[derive(Clone, Debug, Default)]
pub struct Repaired {
    /// All of its bytes.
    pub after: SparseBytes,
    /// Whether something is written.
    pub writes: bool,
    /// Clusters whose content no longer matters.
    pub free: BTreeSet<u64>,
    /// Final counts, true numbers.
    pub counts: Counts,
    /// Refcounts that are kept above the references.
    pub kept: Counts,
    /// What is damaged.
    pub damage: Vec<Damage>,
    /// Whether new structures are built.
    pub rebuilt: bool,
    /// COPIED bits that stay wrong, in tables that are left alone.
    pub left_alone: u64,
}

/// What has to come of a repair of an image that can be opened; `own` is its audit as a repair sees it.
/// `qemus` is where the algorithms of QEMU place new structures, whose layouts qemu-img itself is
/// compared with.
pub fn expect(
    own: &Audit,
    image: &SparseBytes,
    ask: &Ask,
    qemus: Option<Layout>,
) -> Result<Expected, Unreadable> {
    let spec = Spec::new(image, ask, own);
    let mut expected = spec.repair(qemus);
    if let Ok(repaired) = &mut expected {
        spec.write_features(repaired)?;
    }
    Ok(expected)
}

/// The damaged image, what is asked, and what follows from it.
pub(crate) struct Spec<'a> {
    image: &'a SparseBytes,
    ask: &'a Ask,
    /// As a repair sees it: without tables in the header's cluster.
    own: &'a Audit,
    /// Bytes of a cluster, clusters that a refblock covers, clusters of the file.
    size: u64,
    range: u64,
    file: u64,
    /// Clusters of the file that something covers which ends too far past its end to be counted.
    covered: BTreeSet<u64>,
    /// The entries that are replaced.
    replaced: BTreeSet<Referrer>,
    pub(crate) damage: Vec<Damage>,
    pub(crate) kept: Counts,
    /// What becomes of the snapshot table, unless a check gives up.
    snapshots: Option<Snapshots>,
}

impl<'a> Spec<'a> {
    pub(crate) fn new(image: &'a SparseBytes, ask: &'a Ask, own: &'a Audit) -> Self {
        let mut spec = Self {
            image,
            ask,
            size: own.header.cluster_size(),
            range: own.header.refblock_entries(),
            file: own.length.div_ceil(own.header.cluster_size()),
            own,
            covered: BTreeSet::new(),
            replaced: BTreeSet::new(),
            damage: Vec::new(),
            kept: Counts::new(),
            snapshots: None,
        };
        // Each needs those before it.
        spec.covered = spec.past_end(|region| {
            let counts = region.counted || region.referrer.is_structure();
            !counts && !spec.own.reads_as_zeros(region.referrer)
        });
        if ask.options.release_unreachable {
            spec.snapshots = spec.snapshots();
        }
        if !ask.options.only_leaks {
            spec.replace_entries();
        }
        spec.damage = spec.damage();
        spec.kept = spec.kept(0..own.clusters);
        spec.snapshots = spec.snapshots();
        spec
    }

    /// Clusters of the file that are a part of what ends past its end.
    fn past_end(&self, is_asked: impl Fn(&&PastEnd) -> bool) -> BTreeSet<u64> {
        let regions = self.own.past_end.iter().filter(is_asked);
        let clusters = regions.flat_map(|region| region.offset / self.size..self.file);
        clusters.collect()
    }

    /// The refcount that the present structures give.
    fn said(&self, cluster: u64) -> Option<u64> {
        self.own.disk.count(cluster)
    }

    /// Whether a present structure lies there.
    fn is_structure(&self, cluster: u64) -> bool {
        self.own.uses(cluster).any(Referrer::is_structure)
    }

    /// Uses of a cluster but by entries that are replaced.
    fn uses(&self, cluster: u64) -> impl Iterator<Item = &Referrer> + Clone {
        let uses = self.own.uses(cluster);
        uses.filter(|use_| !self.replaced.contains(*use_))
    }

    fn references(&self, cluster: u64) -> u64 {
        self.uses(cluster).count() as u64
    }

    /// The same, but by what is given up of the snapshot table; with or without the structures.
    fn final_uses(&self, cluster: u64, structures: bool) -> impl Iterator<Item = &Referrer> {
        let snapshots = self.snapshots.as_ref();
        let given_up = snapshots.is_some_and(|table| table.given_up.contains(&cluster));
        let uses = self.uses(cluster);
        let uses = uses.filter(move |use_| structures || !use_.is_structure());
        uses.filter(move |use_| !(given_up && **use_ == Referrer::SnapshotTable))
    }

    /// Rule 1: all that is written, but for the feature bits.
    fn repair(&self, qemus: Option<Layout>) -> Expected {
        let snapshots = self.snapshots.as_ref().ok_or(Refused::CheckGivesUp)?;
        let mut repaired = Box::new(Repaired {
            after: self.image.clone(),
            counts: self.counts(true),
            kept: self.kept.clone(),
            damage: self.damage.clone(),
            ..Repaired::default()
        });
        let in_place = self.write_in_place(&mut repaired);
        repaired.rebuilt = !snapshots.anew.is_empty() || self.builds_anew(&in_place);
        if repaired.rebuilt && self.ask.options.only_leaks {
            return Err(Refused::NeedsRebuild);
        }
        if repaired.rebuilt {
            repaired.after = self.image.clone();
            repaired.counts = self.counts(false);
            let layout = self.place(&repaired.counts, snapshots, qemus)?;
            self.write_anew(&mut repaired, &layout, &snapshots.anew);
        }
        self.write_replaced(&mut repaired.after);
        repaired.after.put(60, &snapshots.left.to_be_bytes());
        self.write_copied(&mut repaired);
        let length = repaired.after.len();
        if self.ask.capacity.is_some_and(|capacity| length > capacity) {
            return Err(Refused::NoSpace);
        }
        repaired.writes = repaired.rebuilt || repaired.after != *self.image;
        repaired.free = self.free(&repaired.counts);
        Ok(repaired)
    }

    /// Rule 10: "Before the first other write, unknown autoclear bits are cleared; a repair that
    /// writes nothing else leaves them." The dirty and corrupt bits go where a check of the result
    /// finds nothing.
    fn write_features(&self, repaired: &mut Repaired) -> Result<(), Unreadable> {
        let header = &self.own.header;
        let left = counters(&audit(&repaired.after)?);
        let clean = left.corruptions + left.check_errors == 0 && !self.own.header_is_table;
        let incompatible = header.incompatible & !DIRTY_AND_CORRUPT;
        if clean && incompatible != header.incompatible {
            repaired.after.put(72, &incompatible.to_be_bytes());
            repaired.writes = true;
        }
        let autoclear = header.autoclear & KNOWN_AUTOCLEAR;
        if repaired.writes && autoclear != header.autoclear {
            repaired.after.put(88, &autoclear.to_be_bytes());
        }
        Ok(())
    }

    /// What was allocated or in use, and is not any more. Nothing is while something is kept.
    fn free(&self, counts: &Counts) -> BTreeSet<u64> {
        let used = self.own.references.keys().copied();
        let used = used.filter(|&cluster| self.references(cluster) > 0);
        let allocated = self.own.disk.counts().keys().copied();
        let mut free: BTreeSet<u64> = chain!(allocated, used, self.structures()).collect();
        let matters = |at: &u64| counts.contains_key(at) || self.covered.contains(at);
        free.retain(|at| self.kept.is_empty() && !matters(at));
        free
    }
}
