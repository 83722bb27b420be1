//! Where new refcount structures and a new snapshot table go, and their bytes.

use std::collections::{BTreeMap, BTreeSet};

use super::place::Room;
use super::snapshots::Snapshots;
use super::{Built, Patched, Refused, Spec};
use crate::audit::{Bytes, Referrer, Unreadable, Wrong, audit};
use crate::case::Algorithm;

/// New refcount structures: the reftable, and the refblock of each range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub reftable: u64,
    pub reftable_clusters: u64,
    pub refblocks: BTreeMap<u64, u64>,
}

impl Spec<'_> {
    /// Clusters that one refblock covers, and entries of a reftable cluster.
    pub(super) const fn geometry(&self) -> (u64, u64) {
        (self.own.header.refblock_entries(), self.cluster_size / 8)
    }

    /// Rule 4: the first cluster that the file must not reach, of what is missing at its end.
    fn growth_limit(&self, replaced_stay: &dyn Fn(Referrer) -> bool) -> Option<u64> {
        let mut limits = Vec::new();
        for region in &self.own.past_end {
            let whole_clusters = matches!(
                region.referrer,
                Referrer::Header | Referrer::Data { .. } | Referrer::BitmapData { .. }
            );
            if region.referrer.is_structure() || !replaced_stay(region.referrer) {
                continue;
            }
            if region.counted {
                if !whole_clusters {
                    limits.push(self.own.length / self.cluster_size);
                }
                continue;
            }
            let end = region.offset.saturating_add(region.bytes);
            limits.push((region.offset / self.cluster_size).max(self.file));
            limits.push(end.saturating_sub(self.cluster_size) / self.cluster_size);
        }
        if self.own.snapshots.past_end {
            limits.push(self.own.length / self.cluster_size);
        }
        limits.into_iter().min()
    }

    /// Clusters of which the disk does not credibly say whether they are allocated.
    fn doubtful(&self, counts: &BTreeMap<u64, u64>) -> BTreeSet<u64> {
        let (covered, _) = self.geometry();
        let mut ranges: BTreeSet<u64> = (0..self.file.div_ceil(covered))
            .filter(|range| self.own.disk.entries.get(range).is_none())
            .collect();
        for corruption in &self.own.corruptions {
            if let Referrer::Refblock { index } = corruption.referrer
                && !matches!(corruption.wrong, Wrong::TooManyReferences { .. })
            {
                ranges.insert(index);
            }
        }
        for (index, offset) in self.own.disk.refblocks() {
            if !self.own.disk.is_readable(offset) {
                ranges.insert(index);
            }
        }
        for (&cluster, &count) in counts {
            let said = self.own.disk.count(cluster);
            if said.is_some_and(|said| said < count.min(self.max)) && cluster < self.own.clusters {
                ranges.insert(cluster / covered);
            }
        }
        let clusters = |range: u64| {
            let first = range.saturating_mul(covered).min(self.file);
            first..first.saturating_add(covered).min(self.file)
        };
        ranges.into_iter().flat_map(clusters).collect()
    }

    /// Plans the new structures, and a new snapshot table's place; the counts get theirs.
    pub(super) fn build(
        &self,
        references: &BTreeMap<u64, u64>,
        keeps: bool,
        snapshots: &Snapshots,
        counts: &mut BTreeMap<u64, u64>,
        after: Option<&dyn Bytes>,
    ) -> Result<Result<Built, Refused>, Unreadable> {
        let covered = self.covered();
        let replaced = self.replaced()?;
        let mut growth = self.growth_limit(&|referrer| !replaced.contains(&referrer));
        // QEMU's algorithms count the present structures while they build.
        let planned = self.ask.algorithm == Algorithm::Planned;
        let ground = self.final_counts(references, keeps, planned).0;
        if let Some((&counted, _)) = ground.range(self.file..).next() {
            growth = Some(growth.map_or(counted, |limit| limit.min(counted)));
        }
        let capacity = self.ask.capacity.map(|bytes| bytes / self.cluster_size);
        let limit = growth.into_iter().chain(capacity).min().unwrap_or(u64::MAX);
        let mut reserved = covered.clone();
        reserved.extend(self.left_by_snapshots(snapshots));
        let structures = self.own.references.keys().copied();
        let structures = structures.filter(|&cluster| self.structure_uses(cluster) > 0);
        let claimed = self
            .own
            .past_end
            .iter()
            .filter(|region| !region.counted && region.referrer == Referrer::Reftable);
        let claimed = claimed.flat_map(|region| region.offset / self.cluster_size..self.file);
        if !self.ask.reuse_old {
            reserved.extend(structures.chain(claimed));
        }
        let mut credible = reserved.clone();
        credible.extend(self.doubtful(references));
        let refused = |refused: Refused| {
            let grows =
                growth.is_some_and(|limit| capacity.is_none_or(|capacity| limit < capacity));
            if refused == Refused::NoSpace && grows {
                Refused::GrowthWouldHide
            } else {
                refused
            }
        };
        if self.ask.algorithm != Algorithm::Planned {
            return self.read_layout(snapshots, counts, &covered, limit, after);
        }
        let mut place = None;
        if let Snapshots::Anew(entries) = snapshots {
            let clusters = self.snapshot_bytes(*entries)?.len() as u64;
            let clusters = clusters.div_ceil(self.cluster_size);
            let inside = self.file.min(limit);
            let tries = [
                (&credible, inside),
                (&credible, limit),
                (&reserved, inside),
                (&reserved, limit),
            ];
            let found = tries.iter().find_map(|&(taken, limit)| {
                let room = Room {
                    counts,
                    taken,
                    limit,
                };
                if clusters == 0 {
                    Some(0)
                } else {
                    room.run_of(clusters)
                }
            });
            let Some(found) = found else {
                return Ok(Err(refused(Refused::NoSpace)));
            };
            for cluster in found..found + clusters {
                counts.insert(cluster, 1);
            }
            place = Some(found);
        }
        let mut layout = Err(Refused::NoSpace);
        for taken in [&credible, &reserved] {
            layout = self.place(counts, taken, self.file.min(limit));
            if layout == Err(Refused::NoSpace) && limit > self.file {
                layout = self.place(counts, taken, limit);
            }
            if layout != Err(Refused::NoSpace) {
                break;
            }
        }
        Ok(match layout {
            Ok(layout) => {
                count_layout(&layout, counts);
                Ok((place, layout))
            }
            Err(why) => Err(refused(why)),
        })
    }

    /// The layout of QEMU's algorithms, as it is found afterwards: in clusters that are free.
    fn read_layout(
        &self,
        snapshots: &Snapshots,
        counts: &mut BTreeMap<u64, u64>,
        covered: &BTreeSet<u64>,
        limit: u64,
        after: Option<&dyn Bytes>,
    ) -> Result<Result<Built, Refused>, Unreadable> {
        let Some(after) = after else {
            return Ok(Err(Refused::NoSpace));
        };
        let found = audit(after)?;
        let layout = Layout {
            reftable: found.disk.reftable_offset / self.cluster_size,
            reftable_clusters: found.disk.reftable_clusters,
            refblocks: found
                .disk
                .refblocks()
                .map(|(index, offset)| (index, offset / self.cluster_size))
                .collect(),
        };
        // What was not written, as a header's damaged size says, is no layout, and may be endless.
        let end = layout.reftable.saturating_add(layout.reftable_clusters);
        if end > found.length.div_ceil(self.cluster_size).min(limit) {
            return Ok(Err(Refused::NoSpace));
        }
        let mut place = None;
        if let Snapshots::Anew(entries) = snapshots {
            let first = found.header.snapshots_offset / self.cluster_size;
            let clusters = self.snapshot_bytes(*entries)?.len() as u64;
            for cluster in first..first + clusters.div_ceil(self.cluster_size) {
                if counts.insert(cluster, 1).is_some() || cluster >= limit {
                    return Ok(Err(Refused::NoSpace));
                }
            }
            place = Some(first);
        }
        count_layout(&layout, counts);
        let reftable = layout.reftable..end;
        for cluster in layout.refblocks.values().copied().chain(reftable) {
            let free = counts.get(&cluster) == Some(&1)
                && cluster < limit
                && !covered.contains(&cluster)
                && self.structure_uses(cluster) == 0;
            if !free {
                return Ok(Err(Refused::NoSpace));
            }
        }
        Ok(Ok((place, layout)))
    }

    /// Writes new refblocks and the reftable, and the pointer to it.
    pub(super) fn write_structures(
        &self,
        layout: &Layout,
        counts: &BTreeMap<u64, u64>,
        patched: &mut Patched<'_>,
    ) -> Result<(), Unreadable> {
        let (covered, _) = self.geometry();
        let mut table = vec![0; (layout.reftable_clusters * self.cluster_size) as usize];
        for (&range, &place) in &layout.refblocks {
            let mut block = vec![0; self.cluster_size as usize];
            for (&cluster, &count) in counts.range(range * covered..(range + 1) * covered) {
                self.put(&mut block, cluster - range * covered, count);
            }
            patched.write(place * self.cluster_size, &block)?;
            let entry = (place * self.cluster_size).to_be_bytes();
            if let Some(word) = table.get_mut(range as usize * 8..range as usize * 8 + 8) {
                word.copy_from_slice(&entry);
            }
        }
        let offset = layout.reftable * self.cluster_size;
        patched.write(offset, &table)?;
        patched.write(48, &offset.to_be_bytes())?;
        let clusters = layout.reftable_clusters as u32;
        Ok(patched.write(56, &clusters.to_be_bytes())?)
    }

    /// Sets a refcount in a refblock, cut to the width.
    fn put(&self, block: &mut [u8], index: u64, count: u64) {
        let bits = self.own.header.refcount_bits();
        let count = count.min(self.max);
        if bits >= 8 {
            let width = (bits / 8) as usize;
            let at = index as usize * width;
            block[at..at + width].copy_from_slice(&count.to_be_bytes()[8 - width..]);
        } else {
            let byte = &mut block[(index * bits / 8) as usize];
            let shift = index * bits % 8;
            *byte = *byte & !((self.max as u8) << shift) | (count as u8) << shift;
        }
    }

    /// Sets the refcounts that differ in the refblocks that there are.
    pub(super) fn write_in_place(
        &self,
        counts: &BTreeMap<u64, u64>,
        patched: &mut Patched<'_>,
    ) -> Result<(), Unreadable> {
        let (covered, _) = self.geometry();
        for (index, offset) in self.own.disk.refblocks() {
            let mut block = self.read(offset)?;
            let first = index.saturating_mul(covered);
            for cluster in first..first.saturating_add(covered).min(self.own.clusters) {
                let due = counts.get(&cluster).copied().unwrap_or(0).min(self.max);
                if self.own.disk.count(cluster).is_some_and(|said| said != due) {
                    self.put(&mut block, cluster - first, due);
                }
            }
            patched.change(offset, &block)?;
        }
        Ok(())
    }
}

/// Counts the clusters of new structures.
fn count_layout(layout: &Layout, counts: &mut BTreeMap<u64, u64>) {
    let reftable = layout.reftable..layout.reftable + layout.reftable_clusters;
    for cluster in layout.refblocks.values().copied().chain(reftable) {
        let count = counts.entry(cluster).or_insert(0);
        *count = count.saturating_add(1);
    }
}
