//! What a repair is, as a small and naive program: from damaged bytes and options to the bytes that
//! there have to be afterwards, or the reason why nothing is written. It shares nothing with the
//! engine, reads the image through the audit, and may be slow. Each module is a rule of the contract
//! or two, which are quoted.

mod counts;
mod damage;
mod place;
mod snapshots;
mod tables;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

pub use damage::Damage;

use crate::audit::{
    Audit, PastEnd, Referrer, Unreadable, audit, audit_beside_the_header, counters,
};
use crate::case::Algorithm;
use crate::case::damage::SparseBytes;

/// Refcounts by cluster, those that are not 0.
pub type Counts = BTreeMap<u64, u64>;

const DIRTY_AND_CORRUPT: u64 = 3;
const KNOWN_AUTOCLEAR: u64 = 3;

/// What a repair is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Only leaks (`-r leaks`), instead of everything.
    pub only_leaks: bool,
    /// Who places new structures.
    pub algorithm: Algorithm,
    /// New structures may overwrite the old ones.
    pub reuse_old: bool,
    /// What cannot be reached is given up.
    pub release_unreachable: bool,
    /// Bytes that the storage can never exceed.
    pub capacity: Option<u64>,
}

/// Why nothing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// It cannot be opened.
    NotOpened,
    /// A check gives up, and a repair does not mend the cause.
    CheckGivesUp,
    /// `-r leaks` where the structures have to be built anew.
    NeedsRebuild,
    /// There is no room.
    NoSpace,
    /// There would be room if the file grew over what is missing of it.
    GrowthWouldHide,
    /// The reftable would be over 8 MiB.
    ReftableTooLarge,
}

/// What has to come of a repair: the image afterwards, or why nothing is written.
pub type Expected = Result<Box<Repaired>, Refused>;

/// The image after a repair.
#[derive(Clone, Debug)]
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
    /// Bytes of a cluster.
    pub cluster_size: u64,
}

/// What has to come of a repair of these bytes. `after` is what came of it: the places of new
/// structures are read there for the algorithms of QEMU, whose layouts qemu-img itself is compared with.
pub fn expect(
    image: &SparseBytes,
    ask: &Ask,
    after: Option<&SparseBytes>,
) -> Result<Expected, Unreadable> {
    match audit(image) {
        Ok(seen) => expect_of(&seen, image, ask, after),
        Err(Unreadable::NotOpened { .. }) => Ok(Err(Refused::NotOpened)),
        Err(error) => Err(error),
    }
}

/// As [`expect`], of an image that has been audited.
pub fn expect_of(
    seen: &Audit,
    image: &SparseBytes,
    ask: &Ask,
    after: Option<&SparseBytes>,
) -> Result<Expected, Unreadable> {
    let after = after.filter(|_| ask.algorithm != Algorithm::Planned);
    let found = after.map(|after| audit(after)).transpose()?;
    let spec = Spec::new(image, ask, seen)?;
    let mut expected = spec.repair(found.as_ref());
    if let Ok(repaired) = &mut expected {
        spec.write_features(repaired)?;
        let is_full = |capacity| repaired.after.len() > capacity;
        if ask.capacity.is_some_and(is_full) {
            expected = Err(Refused::NoSpace);
        }
    }
    Ok(expected)
}

/// The damaged image, what is asked, and what follows from it.
pub(crate) struct Spec<'a> {
    image: &'a SparseBytes,
    ask: &'a Ask,
    /// As a repair sees it: without tables in the header's cluster.
    own: Cow<'a, Audit>,
    /// Bytes of a cluster, clusters that a refblock covers, the largest refcount, clusters of the file.
    size: u64,
    range: u64,
    max: u64,
    file: u64,
    /// Clusters of the file that something covers which ends too far past its end to be counted.
    covered: BTreeSet<u64>,
    /// The entries that are replaced.
    replaced: BTreeSet<Referrer>,
    pub(crate) damage: Vec<Damage>,
    pub(crate) kept: Counts,
    /// How many entries are left of the snapshot table, and the bytes of a new one, if there has to
    /// be one; unless the repair is refused for it.
    snapshots: Result<(usize, Vec<u8>), Refused>,
}

impl<'a> Spec<'a> {
    pub(crate) fn new(
        image: &'a SparseBytes,
        ask: &'a Ask,
        seen: &'a Audit,
    ) -> Result<Self, Unreadable> {
        let own = if seen.header_is_table {
            Cow::Owned(audit_beside_the_header(image)?)
        } else {
            Cow::Borrowed(seen)
        };
        let mut spec = Self {
            image,
            ask,
            size: own.header.cluster_size(),
            range: own.header.refblock_entries(),
            max: own.header.max_refcount(),
            file: own.length.div_ceil(own.header.cluster_size()),
            own,
            covered: BTreeSet::new(),
            replaced: BTreeSet::new(),
            damage: Vec::new(),
            kept: Counts::new(),
            snapshots: Err(Refused::CheckGivesUp),
        };
        // Each needs those before it.
        spec.covered = spec.past_end(|region| {
            let counts = region.counted || region.referrer.is_structure();
            !counts && !spec.own.reads_as_zeros(region.referrer)
        });
        if ask.release_unreachable {
            spec.snapshots = spec.snapshots();
        }
        if !ask.only_leaks {
            spec.replace_entries();
        }
        spec.damage = spec.damage();
        spec.kept = spec.kept();
        spec.snapshots = spec.snapshots();
        Ok(spec)
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

    /// Uses of a cluster but by entries that are replaced.
    fn uses(&self, cluster: u64) -> impl Iterator<Item = &Referrer> + Clone {
        let uses = self.own.uses(cluster);
        uses.filter(|use_| !self.replaced.contains(*use_))
    }

    fn references(&self, cluster: u64) -> u64 {
        self.uses(cluster).count() as u64
    }

    /// The same, but by what is given up of the snapshot table.
    fn final_uses(&self, cluster: u64) -> impl Iterator<Item = &Referrer> {
        let given_up = self.is_given_up(cluster);
        let uses = self.uses(cluster);
        uses.filter(move |use_| !(given_up && **use_ == Referrer::SnapshotTable))
    }

    /// Rule 1: all that is written, but for the feature bits. `found` is what was found after the
    /// repair.
    fn repair(&self, found: Option<&Audit>) -> Expected {
        let (left, table) = self.snapshots.as_ref().map_err(|&refused| refused)?;
        let mut counts = self.counts(false);
        let mut after = self.image.clone();
        let in_place = self.write_in_place(&counts, &mut after);
        let rebuilt = !table.is_empty() && !self.ask.only_leaks || self.builds_anew(&in_place);
        if rebuilt && self.ask.only_leaks {
            return Err(Refused::NeedsRebuild);
        }
        if rebuilt {
            after = self.image.clone();
            let present = std::mem::replace(&mut counts, self.counts(true));
            let new = table.len() as u64 / self.size;
            let layout = self.place(&counts, &present, new, found)?;
            counts.extend(layout.clusters().map(|cluster| (cluster, 1)));
            self.write_anew(&layout, &counts, table, &mut after);
        }
        self.write_replaced(&mut after);
        if *left as u64 != self.own.header.snapshots {
            write(&mut after, 60, &(*left as u32).to_be_bytes());
        }
        let left_alone = self.write_copied(&counts, rebuilt, &mut after);
        Ok(Box::new(Repaired {
            writes: rebuilt || after != *self.image,
            free: self.free(&counts),
            after,
            counts,
            kept: self.kept.clone(),
            damage: self.damage.clone(),
            rebuilt,
            left_alone,
            cluster_size: self.size,
        }))
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
            write(&mut repaired.after, 72, &incompatible.to_be_bytes());
            repaired.writes = true;
        }
        let autoclear = header.autoclear & KNOWN_AUTOCLEAR;
        if repaired.writes && autoclear != header.autoclear {
            write(&mut repaired.after, 88, &autoclear.to_be_bytes());
        }
        Ok(())
    }

    /// What was allocated or in use, and is not any more. Nothing is while something is kept.
    fn free(&self, counts: &Counts) -> BTreeSet<u64> {
        let used = self.own.references.keys().copied();
        let used = used.filter(|&cluster| self.references(cluster) > 0);
        let allocated = self.own.disk.counts().keys().copied();
        let all = allocated.chain(used).chain(self.structures());
        let free = all.filter(|cluster| {
            let matters = counts.contains_key(cluster) || self.covered.contains(cluster);
            self.kept.is_empty() && !matters
        });
        free.collect()
    }
}

/// Writes bytes, of which there is no more than memory holds.
fn write(after: &mut SparseBytes, offset: u64, bytes: &[u8]) {
    let written = after.write_at(offset, bytes);
    written.expect("positions in a file are below 2^64");
}
