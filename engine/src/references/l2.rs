//! L2 tables and what they lead to.

use std::collections::BTreeMap;

use super::scan::{followers, zeros};
use super::{L2Uses, Result, UnalignedEmpty, Walker};
use crate::finding::{Finding, L2Place, Referrer};
use crate::format::entry::{L2Entry, L2Format, L2Kind, OFFSET_MASK};
use crate::image::Image;
use crate::table::push;
use crate::units::{Offset, Region};

/// An entry of an L2 table, or several in a row that have nothing unusual about them: each one's
/// cluster is that after the one of the entry before, all have the same COPIED bit, and all have data
/// or none has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L2Run {
    /// The first entry's number.
    pub index: u64,
    /// The first entry.
    pub entry: L2Entry,
    /// How many entries.
    pub count: u64,
}

/// The entries of an L2 table in order, but for those that are all zeros.
pub fn l2_runs(format: L2Format, table: &[u8]) -> impl Iterator<Item = L2Run> {
    let geometry = format.geometry;
    let words = table.as_chunks::<8>().0;
    let width = if format.extended { 2 } else { 1 };
    let entries = words.len() / width;
    let entry_at = move |index: usize| L2Entry {
        raw: u64::from_be_bytes(words[index * width]),
        subclusters: if format.extended {
            u64::from_be_bytes(words[index * width + 1])
        } else {
            0
        },
    };
    let mut next = 0;
    std::iter::from_fn(move || {
        if words.get(next * width) == Some(&[0; 8]) {
            next += zeros(&words[next * width..]) / width;
        }
        let index = next;
        if index >= entries {
            return None;
        }
        let entry = entry_at(index);
        next += 1;
        if entry.is_plain(&geometry) {
            // Each differs from its predecessor by the cluster size and nothing else.
            let follows = |at: &usize| {
                let (steps, follower) = ((*at - index) as u64, entry_at(*at));
                follower.raw == entry.raw + (steps << geometry.cluster_bits())
                    && !follower.has_contradicting_subclusters()
                    && follower.has_allocated_subclusters() == entry.has_allocated_subclusters()
            };
            let following = if format.extended {
                (next..entries).take_while(follows).count()
            } else {
                followers(&words[next..], entry.raw, geometry.cluster_size())
            };
            // The last cluster that an entry can lead to has no successor: bit 56 is reserved.
            let room = (OFFSET_MASK - (entry.raw & OFFSET_MASK)) >> geometry.cluster_bits();
            next += following.min(room as usize);
        }
        Some(L2Run {
            index: index as u64,
            entry,
            count: (next - index) as u64,
        })
    })
}

/// Whether a cluster can be what an L1 entry says that it is: most of its entries are as entries are.
/// An L1 entry gone astray leads to guest data, which nearly always has bits where an L2 table has
/// none or leads past the end of the file; an L2 table has few damaged entries.
pub fn looks_like_l2_table(image: &Image, bytes: &[u8]) -> bool {
    let (mut sound, mut unsound) = (0, 0);
    for run in l2_runs(image.format(), bytes) {
        if is_sound(run.entry, image) {
            sound += run.count;
        } else {
            unsound += run.count;
        }
    }
    unsound <= sound
}

/// Whether an entry is as entries are.
fn is_sound(entry: L2Entry, image: &Image) -> bool {
    let format = image.format();
    match entry.kind(format) {
        // Where the file grows, it does not grow over what is referred to: the answer stays. With an
        // external data file or with subclusters there is no compressed data, and none is counted.
        L2Kind::Compressed(Region { offset, .. }) => {
            let is_counted = !format.data_file && (!format.extended || entry.subclusters == 0);
            is_counted && !entry.copied() && offset.0 < image.extent.bytes
        }
        L2Kind::Normal(offset) | L2Kind::PreallocatedZero(offset) => {
            let aligned = format.geometry.is_aligned(offset);
            !entry.has_reserved_bits() && (aligned || entry.holds_no_data(format))
        }
        L2Kind::PlainZero | L2Kind::Unallocated => !entry.has_reserved_bits(),
    }
}

impl Walker<'_> {
    /// Reads each L2 table once, and those with something unusual again, in ascending order.
    pub(super) fn walk_l2_tables(&mut self, tables: BTreeMap<Offset, L2Uses>) -> Result<()> {
        let mut tables: Vec<_> = tables.into_iter().collect();
        let length = self.geometry.cluster_size();
        for (offset, uses) in &tables {
            let offset = *offset;
            self.count_region(Referrer::L2Table, Region { offset, length }, uses.all)?;
        }
        tables.retain(|(offset, _)| !self.skips(Referrer::L2Table, *offset));
        let mut buffer = vec![0; length as usize];
        for (table, uses) in self.count_usual_tables(&tables)? {
            self.storage.read_at(table, &mut buffer)?;
            (self.uses, self.next_contiguous) = (uses, None);
            // The cause before what comes of it.
            if !looks_like_l2_table(self.image, &buffer) {
                self.references.dead_ends.push(Finding::NotATable { table });
            }
            for run in l2_runs(self.format, &buffer) {
                self.visit_run(L2Place(table, run.index), run)?;
            }
        }
        self.references.l2_tables = tables;
        Ok(())
    }

    fn visit_run(&mut self, place: L2Place, run: L2Run) -> Result<()> {
        let entry = run.entry;
        let kind = entry.kind(self.format);
        if !matches!(kind, L2Kind::Compressed(_)) && entry.has_reserved_bits() {
            self.corruption(Finding::L2Reserved(place, entry.raw), self.uses.all);
        }
        match kind {
            L2Kind::Compressed(region) => self.visit_compressed(place, entry, region)?,
            L2Kind::Normal(offset) | L2Kind::PreallocatedZero(offset) => {
                self.visit_clusters(place, run, offset)?;
            }
            L2Kind::Unallocated if entry.has_allocated_subclusters() => {
                let finding = Finding::SubclustersUnallocated(place, entry.subclusters);
                self.corruption(finding, self.uses.all);
            }
            L2Kind::PlainZero | L2Kind::Unallocated => {}
        }
        Ok(())
    }

    fn visit_compressed(&mut self, place: L2Place, entry: L2Entry, region: Region) -> Result<()> {
        let (L2Entry { raw, subclusters }, uses) = (entry, self.uses);
        if entry.copied() {
            self.corruption(Finding::CompressedCopied(place, raw), uses.all);
        }
        if self.format.data_file {
            self.corruption(Finding::CompressedInDataFile(place, raw), uses.all);
        } else if subclusters != 0 {
            self.corruption(Finding::CompressedSubclusters(place, raw), uses.all);
        } else {
            self.references.tally.add_compressed(uses.active);
            self.count_region(Referrer::Compressed(place), region, uses.all)?;
        }
        Ok(())
    }

    /// Data clusters side by side from `offset` on.
    fn visit_clusters(&mut self, place: L2Place, run: L2Run, offset: Offset) -> Result<()> {
        let L2Run { entry, count, .. } = run;
        if entry.has_contradicting_subclusters() {
            let finding = Finding::SubclustersContradict(place, entry.subclusters);
            self.corruption(finding, self.uses.all);
        }
        let tally = &mut self.references.tally;
        tally.allocated += self.uses.active * count;
        let follows = self.next_contiguous.is_none_or(|next| next == offset);
        tally.fragmented += self.uses.active * u64::from(!follows);
        let length = self.geometry.cluster_size();
        let at = |index| Offset(offset.0 + index * length);
        self.next_contiguous = Some(at(count));
        if entry.is_unaligned_empty(self.format) {
            return self.visit_unaligned_empty(place, Region { offset, length });
        }
        if !self.geometry.is_aligned(offset) {
            self.corruption(Finding::DataUnaligned(place, offset), self.uses.all);
        }
        if self.format.data_file {
            return Ok(());
        }
        // Those past the end of the file are reported one by one.
        let all = count * length;
        let is_inside = self.image.holds(Region {
            offset,
            length: all,
        });
        let together = if is_inside { count } else { 1 };
        for index in (0..count).step_by(together as usize) {
            let (offset, length) = (at(index), together * length);
            let referrer = Referrer::Data(L2Place(place.0, place.1 + index));
            self.count_region(referrer, Region { offset, length }, self.uses.all)?;
        }
        Ok(())
    }

    /// An entry that reads as zeros and leads to no cluster. Nothing can be lost behind it.
    fn visit_unaligned_empty(&mut self, place: L2Place, region: Region) -> Result<()> {
        let table = place.0;
        self.harmless(Finding::EmptyUnaligned(place, region.offset), self.uses.all);
        let entry = UnalignedEmpty {
            table,
            uses: self.uses,
            region,
        };
        push(&mut self.references.unaligned_empty, entry)?;
        if self.format.data_file {
            return Ok(());
        }
        if self.image.holds(region) {
            let run = region.clusters(&self.geometry);
            return Ok(self.references.table.add(run, self.uses.all)?);
        }
        let past_end = Finding::PastEnd(Referrer::Data(place), region);
        self.harmless(past_end, self.uses.all);
        Ok(())
    }
}
