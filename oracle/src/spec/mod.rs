//! What a repair is, as a small and naive program: from damaged bytes and options to the bytes that
//! there have to be afterwards, or the reason why nothing is written. It shares nothing with the
//! engine; the rules are those of the contract, and stand here one after the other.

mod bytes;
mod compare;
mod damage;
mod layout;
mod tables;

use std::collections::{BTreeMap, BTreeSet};

use recount::{RepairOptions, Scope};

pub use compare::Difference;
pub use damage::{Class, Damage};

use crate::audit::{
    Audit, Bytes, Referrer, SnapshotEntry, SnapshotsEnd, Unreadable, Wrong, audit,
    audit_beside_the_header,
};
use crate::case::Algorithm;
use bytes::Patched;
use layout::Layout;

const DIRTY_AND_CORRUPT: u64 = 3;
const KNOWN_AUTOCLEAR: u64 = 3;
const EXTRA_MAX: u64 = 1024;
const EXTRA_MIN: u64 = 16;

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

impl Ask {
    /// What the engine is asked with these options, on storage that can never exceed so many bytes.
    #[must_use]
    pub fn of(options: &RepairOptions, capacity: Option<u64>) -> Self {
        Self {
            only_leaks: options.scope == Scope::Leaks,
            algorithm: match options.algorithm {
                recount::Algorithm::Planned => Algorithm::Planned,
                recount::Algorithm::FirstFit => Algorithm::FirstFit,
                recount::Algorithm::Tail => Algorithm::Tail,
            },
            reuse_old: options.reuse_old,
            release_unreachable: options.release_unreachable,
            capacity,
        }
    }
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
    let beside;
    let own = if seen.header_is_table {
        beside = audit_beside_the_header(image)?;
        &beside
    } else {
        seen
    };
    let spec = Spec {
        image,
        ask,
        seen,
        own,
        cluster_size: own.header.cluster_size(),
        file: own.length.div_ceil(own.header.cluster_size()),
        max: own.header.max_refcount(),
        real_length: image.length()?,
    };
    Ok(match spec.repair(after)? {
        Ok(repaired) => Expected::Repaired(Box::new(repaired)),
        Err(refused) => Expected::Refused(refused),
    })
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

/// What becomes of the snapshot table.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Snapshots {
    Stay,
    /// The header names so many.
    Named(usize),
    /// A new table with so many.
    Anew(usize),
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

    /// What becomes of the snapshot table: rule 7.
    fn snapshots(&self, sound: bool) -> Result<Snapshots, Refused> {
        let header = &self.own.header;
        let released = self.ask.release_unreachable && !self.ask.only_leaks;
        let may_change = !self.ask.only_leaks && (sound || released);
        let table = &self.seen.snapshots;
        let untouched = table.past_end || !may_change;
        let mends = match table.ends {
            None => true,
            Some(SnapshotsEnd::ExtraData) => may_change,
            Some(SnapshotsEnd::Place | SnapshotsEnd::Nonsense) => false,
            Some(_) => released,
        };
        let only_snapshots = self.seen.blocked.is_none() || table.ends.is_some();
        if !only_snapshots || table.ends.is_some() && (!mends || untouched) {
            return Err(Refused::CheckGivesUp);
        }
        if untouched {
            return Ok(Snapshots::Stay);
        }
        let mut left = table.entries.as_slice();
        if released {
            if table.ends == Some(SnapshotsEnd::BehindBlank) {
                let blank = left.iter().position(|entry| entry.blank);
                left = &left[..blank.unwrap_or(left.len())];
            }
            let last = left.iter().rposition(|entry| !entry.blank);
            left = &left[..last.map_or(0, |last| last + 1)];
        }
        let misshapen = |entry: &SnapshotEntry| {
            entry.extra > EXTRA_MAX || header.version == 3 && entry.extra < EXTRA_MIN
        };
        Ok(if left.iter().any(misshapen) {
            Snapshots::Anew(left.len())
        } else if (left.len() as u64) < header.snapshots {
            Snapshots::Named(left.len())
        } else {
            Snapshots::Stay
        })
    }

    /// Clusters that the snapshot table takes up no more.
    fn left_by_snapshots(&self, snapshots: &Snapshots) -> Vec<u64> {
        let clusters = |bytes: u64| {
            let first = self.own.header.snapshots_offset;
            first / self.cluster_size..(first + bytes).div_ceil(self.cluster_size)
        };
        let before = clusters(self.own.snapshots.bytes);
        let after = match snapshots {
            Snapshots::Stay => return Vec::new(),
            Snapshots::Named(left) => clusters(self.bytes_of(*left)),
            Snapshots::Anew(_) => clusters(0),
        };
        before.filter(|cluster| !after.contains(cluster)).collect()
    }

    /// Takes them out of the counts.
    fn take_out_snapshots(&self, snapshots: &Snapshots, counts: &mut BTreeMap<u64, u64>) {
        for cluster in self.left_by_snapshots(snapshots) {
            if let Some(count) = counts.get_mut(&cluster) {
                *count -= 1;
            }
        }
        counts.retain(|_, count| *count > 0);
    }

    /// Bytes that so many entries of the present snapshot table take.
    fn bytes_of(&self, entries: usize) -> u64 {
        let table = &self.own.snapshots;
        if entries == table.entries.len() {
            return table.bytes;
        }
        let last = table.entries[..entries].last();
        last.map_or(0, |last| {
            last.at + last.bytes - self.own.header.snapshots_offset
        })
    }

    /// Corruptions and check errors that a check finds afterwards, wrong COPIED bits aside.
    fn errors_left(
        &self,
        replaced: &BTreeSet<Referrer>,
        references: &BTreeMap<u64, u64>,
        counts: &BTreeMap<u64, u64>,
        snapshots: &Snapshots,
        rebuilt: bool,
    ) -> u64 {
        let stays = |corruption: &&crate::audit::Corruption| {
            let overflow = matches!(corruption.wrong, Wrong::TooManyReferences { .. });
            let extra = matches!(corruption.wrong, Wrong::ShortExtraData { .. });
            let structure = rebuilt && corruption.referrer.is_structure();
            let mended = extra && *snapshots != Snapshots::Stay;
            !replaced.contains(&corruption.referrer) && !overflow && !structure && !mended
        };
        let stay = self.seen.corruptions.iter().filter(stays).count() as u64;
        let overflow: u64 = counts
            .values()
            .map(|count| count.saturating_sub(self.max))
            .sum();
        let low = if self.ask.only_leaks {
            let low = |(&cluster, &count): (&u64, &u64)| {
                let said = self.own.disk.count(cluster);
                said.is_some_and(|said| said < count.min(self.max))
            };
            references.iter().filter(|entry| low(*entry)).count() as u64
        } else {
            0
        };
        let unreadable = if rebuilt { 0 } else { self.own.check_errors };
        stay + overflow + low + unreadable + u64::from(self.seen.header_is_table)
    }

    fn free(
        &self,
        counts: &BTreeMap<u64, u64>,
        kept: &BTreeMap<u64, u64>,
        rebuilt: bool,
        snapshots: &Snapshots,
        patched: &Patched<'_>,
    ) -> BTreeSet<u64> {
        if !kept.is_empty() {
            return BTreeSet::new();
        }
        let covered = self.covered();
        let leaked = self.own.disk.counts().keys().copied();
        let structures = self.own.references.keys().copied();
        let structures = structures.filter(|&cluster| {
            (rebuilt && self.structure_uses(cluster) > 0) || *snapshots != Snapshots::Stay
        });
        let claimed = self
            .own
            .past_end
            .iter()
            .filter(|region| rebuilt && region.referrer.is_structure());
        let claimed = claimed.flat_map(|region| region.offset / self.cluster_size..self.file);
        let all = leaked.chain(structures).chain(claimed);
        let free = |cluster: &u64| {
            !counts.contains_key(cluster) && !covered.contains(cluster) && !patched.has(*cluster)
        };
        all.filter(free).collect()
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
