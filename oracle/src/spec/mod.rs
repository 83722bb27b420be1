//! What a repair is, as a small and naive program: from damaged bytes and options to the bytes that
//! there have to be afterwards, or the reason why nothing is written. It shares nothing with the
//! engine; the rules are those of the contract, and stand here one after the other.

mod afterwards;
mod bytes;
mod class;
mod compare;
mod damage;
mod layout;
mod place;
mod snapshots;
mod tables;

use std::collections::{BTreeMap, BTreeSet};

pub use class::{Diagnosis, class, diagnose, diagnose_audited};
pub use compare::Difference;
pub use damage::{Class, Damage};

use crate::audit::{Audit, Bytes, Referrer, Unreadable, Wrong, audit, audit_beside_the_header};
use crate::case::Algorithm;
use bytes::Patched;
use layout::Layout;
use snapshots::Snapshots;

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

/// What has to come of a repair.
#[derive(Clone, Debug)]
pub enum Expected {
    /// Nothing is written.
    Refused(Refused),
    /// The image as it is afterwards.
    Repaired(Box<Repaired>),
}

/// The image after a repair.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// The clusters that change, whole.
    pub changed: BTreeMap<u64, Vec<u8>>,
    /// Bytes of the file.
    pub length: u64,
    /// Clusters whose content no longer matters.
    pub free: BTreeSet<u64>,
    /// Final counts, true numbers.
    pub counts: BTreeMap<u64, u64>,
    /// Refcounts that are kept above the references.
    pub kept: BTreeMap<u64, u64>,
    /// What is damaged.
    pub damage: Vec<Damage>,
    /// Whether new structures are built.
    pub rebuilt: bool,
    /// COPIED bits that stay wrong, in tables that are left alone.
    pub left_alone: u64,
    cluster_size: u64,
}

/// What has to come of a repair of these bytes. `after` is what came of it: the places of new
/// structures are read there for the algorithms of QEMU, whose layouts qemu-img itself is compared with.
pub fn expect(
    image: &dyn Bytes,
    ask: &Ask,
    after: Option<&dyn Bytes>,
) -> Result<Expected, Unreadable> {
    match audit(image) {
        Ok(seen) => expect_of(&seen, image, ask, after),
        Err(Unreadable::NotOpened(_)) => Ok(Expected::Refused(Refused::NotOpened)),
        Err(error) => Err(error),
    }
}

/// As [`expect`], of an image that has been audited.
pub fn expect_of(
    seen: &Audit,
    image: &dyn Bytes,
    ask: &Ask,
    after: Option<&dyn Bytes>,
) -> Result<Expected, Unreadable> {
    let own = own_audit(image, seen)?;
    let spec = Spec::new(image, ask, seen, &own)?;
    Ok(match spec.repair(after)? {
        Ok(repaired) => Expected::Repaired(Box::new(repaired)),
        Err(refused) => Expected::Refused(refused),
    })
}

/// The image as a repair sees it.
fn own_audit(image: &dyn Bytes, seen: &Audit) -> Result<Audit, Unreadable> {
    if seen.header_is_table {
        audit_beside_the_header(image)
    } else {
        Ok(seen.clone())
    }
}

/// The damaged image and what is asked.
struct Spec<'a> {
    image: &'a dyn Bytes,
    ask: &'a Ask,
    /// As a check sees it.
    seen: &'a Audit,
    /// As a repair sees it: without tables in the header's cluster.
    own: &'a Audit,
    cluster_size: u64,
    /// Clusters of the file.
    file: u64,
    max: u64,
    real_length: u64,
}

impl<'a> Spec<'a> {
    fn new(
        image: &'a dyn Bytes,
        ask: &'a Ask,
        seen: &'a Audit,
        own: &'a Audit,
    ) -> Result<Self, Unreadable> {
        Ok(Self {
            image,
            ask,
            seen,
            own,
            cluster_size: own.header.cluster_size(),
            file: own.length.div_ceil(own.header.cluster_size()),
            max: own.header.max_refcount(),
            real_length: image.length()?,
        })
    }
}

impl Spec<'_> {
    /// Uses of a cluster by reftable and refblocks.
    fn structure_uses(&self, cluster: u64) -> u64 {
        let referrers = self.own.references.get(&cluster).into_iter().flatten();
        referrers.filter(|referrer| referrer.is_structure()).count() as u64
    }

    fn said(&self, cluster: u64) -> u64 {
        self.own.disk.count(cluster).unwrap_or(0)
    }

    fn repair(&self, after: Option<&dyn Bytes>) -> Result<Result<Repaired, Refused>, Unreadable> {
        let all = !self.ask.only_leaks;
        if self.own.header.snapshots > 0 && self.own.header.snapshots_offset < self.cluster_size {
            // The repair would change what the snapshots are.
            return Ok(Err(Refused::CheckGivesUp));
        }
        let replaced = if all {
            self.replaced()?
        } else {
            BTreeSet::new()
        };
        let references = self.references(&replaced);
        let damage = self.damage(&replaced, &references)?;
        let keeps = !damage.is_empty() && !self.ask.release_unreachable;
        let snapshots = match self.snapshots(damage.is_empty()) {
            Ok(snapshots) => snapshots,
            Err(refused) => return Ok(Err(refused)),
        };
        let rebuilds = self.rebuilds(&references, keeps, &snapshots);
        if !all && (self.needs_rebuild(&references) || self.writes_over(&references, keeps)) {
            return Ok(Err(Refused::NeedsRebuild));
        }
        let rebuilds = all && rebuilds;
        let (mut counts, kept) = self.final_counts(&references, keeps, rebuilds);
        if !all {
            // Refcounts that are too low stay.
            for (&cluster, &count) in &references {
                let said = self.own.disk.count(cluster);
                if let Some(said) = said.filter(|&said| said < count.min(self.max)) {
                    counts.insert(cluster, said);
                }
            }
        }
        self.take_out_snapshots(&snapshots, &mut counts);
        let mut patched = Patched::new(self.image, self.cluster_size);
        let (mut table_place, mut layout) = (None, None);
        if rebuilds {
            match self.build(&references, keeps, &snapshots, &mut counts, after)? {
                Ok((place, found)) => (table_place, layout) = (place, Some(found)),
                Err(refused) => return Ok(Err(refused)),
            }
        }
        self.write_snapshots(&snapshots, table_place, &mut patched)?;
        match &layout {
            Some(layout) => self.write_structures(layout, &counts, &mut patched)?,
            None => self.write_in_place(&counts, &mut patched)?,
        }
        let left = self.write_tables(&replaced, &counts, layout.as_ref(), &kept, &mut patched)?;
        let errors = self.errors_left(&replaced, &references, &counts, &snapshots, rebuilds);
        let clean = errors == 0 && left == 0;
        self.write_features(clean, &mut patched)?;
        let length = patched.end().max(self.real_length);
        if self.ask.capacity.is_some_and(|capacity| length > capacity) {
            return Ok(Err(Refused::NoSpace));
        }
        Ok(Ok(Repaired {
            free: self.free(&counts, &kept, rebuilds, &snapshots, &patched),
            changed: patched.into_changed(),
            length,
            counts,
            kept,
            damage,
            rebuilt: rebuilds,
            left_alone: left,
            cluster_size: self.cluster_size,
        }))
    }

    /// References by cluster, those of replaced entries left out.
    fn references(&self, replaced: &BTreeSet<Referrer>) -> BTreeMap<u64, u64> {
        let counted = self.own.references.iter().map(|(&cluster, referrers)| {
            let stays = |referrer: &&Referrer| !replaced.contains(*referrer);
            (cluster, referrers.iter().filter(stays).count() as u64)
        });
        counted.filter(|&(_, count)| count > 0).collect()
    }

    /// Whether qemu can only build the structures anew: rule 3.
    fn needs_rebuild(&self, references: &BTreeMap<u64, u64>) -> bool {
        let in_use = |(&cluster, _): (&u64, &u64)| {
            cluster < self.own.clusters && self.own.disk.count(cluster) == Some(0)
        };
        references.iter().any(in_use)
            || self.own.corruptions.iter().any(|corruption| {
                match (&corruption.referrer, &corruption.wrong) {
                    (Referrer::Reftable, Wrong::PastTheEnd { .. } | Wrong::Unusable { .. }) => true,
                    (Referrer::Refblock { .. }, wrong) => !matches!(
                        wrong,
                        Wrong::PastTheEnd { .. } | Wrong::TooManyReferences { .. }
                    ),
                    _ => false,
                }
            })
    }

    fn rebuilds(
        &self,
        references: &BTreeMap<u64, u64>,
        keeps: bool,
        snapshots: &Snapshots,
    ) -> bool {
        let past_the_end = self.own.corruptions.iter().any(|corruption| {
            matches!(corruption.referrer, Referrer::Refblock { .. })
                && matches!(corruption.wrong, Wrong::PastTheEnd { .. })
        });
        let shared =
            self.own.references.iter().any(|(&cluster, referrers)| {
                self.structure_uses(cluster) > 0 && referrers.len() > 1
            });
        self.needs_rebuild(references)
            || past_the_end
            || shared
            || matches!(snapshots, Snapshots::Anew(_))
            || self.writes_over(references, keeps)
    }

    /// Whether a refblock that has to change is something else too, or part of a table that ends past
    /// the end of the file.
    fn writes_over(&self, references: &BTreeMap<u64, u64>, keeps: bool) -> bool {
        let covered = self.covered();
        self.own.disk.refblocks().any(|(index, offset)| {
            let place = offset / self.cluster_size;
            let alone = references.get(&place) == Some(&1)
                && self.structure_uses(place) == 1
                && !covered.contains(&place);
            if alone {
                return false;
            }
            let entries = self.own.header.refblock_entries();
            let range = index.saturating_mul(entries)..(index + 1).saturating_mul(entries);
            let known = references.keys().chain(self.own.disk.counts().keys());
            let mut known = known.filter(|cluster| range.contains(cluster));
            known.any(|&cluster| {
                let Some(said) = self.own.disk.count(cluster) else {
                    return false;
                };
                let due = references.get(&cluster).copied().unwrap_or(0).min(self.max);
                let changes = if said > due {
                    !keeps
                } else {
                    said < due && !self.ask.only_leaks
                };
                changes && cluster < self.own.clusters
            })
        })
    }

    /// Clusters of the file that something covers which ends too far past its end to be counted.
    fn covered(&self) -> BTreeSet<u64> {
        let dangling = self.own.past_end.iter().filter(|region| {
            !region.counted && !region.referrer.is_structure() && !self.is_empty(region.referrer)
        });
        let clusters = dangling.flat_map(|region| {
            let last = region.offset.saturating_add(region.bytes - 1) / self.cluster_size;
            region.offset / self.cluster_size..self.file.min(last + 1)
        });
        clusters.collect()
    }

    /// Whether an entry reads as zeros and has an impossible offset.
    fn is_empty(&self, referrer: Referrer) -> bool {
        self.own
            .empty
            .iter()
            .any(|entry| entry.referrer == referrer)
    }

    /// Rule 2. What is kept counts as much as the disk says.
    fn final_counts(
        &self,
        references: &BTreeMap<u64, u64>,
        keeps: bool,
        rebuilds: bool,
    ) -> (BTreeMap<u64, u64>, BTreeMap<u64, u64>) {
        let (mut counts, mut kept) = (references.clone(), BTreeMap::new());
        if rebuilds {
            for (&cluster, count) in &mut counts {
                *count -= self.structure_uses(cluster).min(*count);
            }
        }
        for (&cluster, &said) in self.own.disk.counts() {
            let due = references.get(&cluster).copied().unwrap_or(0);
            let known = self.own.disk.count(cluster).is_some() && cluster < self.own.clusters;
            if keeps && known && said > due {
                kept.insert(cluster, said);
                counts.insert(cluster, said);
            }
        }
        counts.retain(|_, count| *count > 0);
        (counts, kept)
    }
}

impl Repaired {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }
}

/// A new snapshot table's place, and the new structures.
type Built = (Option<u64>, Layout);
