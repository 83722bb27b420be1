//! L2 tables and what they lead to.

use super::scan::{followers, zeros};
use super::{L2Uses, Result, UnalignedEmpty, Walker};
use crate::finding::{Finding, L2Place, Referrer};
use crate::format::entry::{L2Entry, L2Format, L2Kind, OFFSET_MASK};
use crate::image::Image;
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

/// Whether an entry with an offset reads as zeros only.
pub fn holds_no_data(entry: L2Entry, format: L2Format) -> bool {
    if format.extended {
        return !entry.has_allocated_subclusters();
    }
    matches!(entry.kind(format), L2Kind::PreallocatedZero(_))
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
        L2Kind::Compressed { offset, .. } => {
            let is_counted = !format.data_file && (!format.extended || entry.subclusters == 0);
            is_counted && !entry.copied() && offset.0 < image.extent.bytes
        }
        L2Kind::Normal(offset) | L2Kind::PreallocatedZero(offset) => {
            let aligned = format.geometry.is_aligned(offset);
            !entry.has_reserved_bits() && (aligned || holds_no_data(entry, format))
        }
        L2Kind::PlainZero | L2Kind::Unallocated => !entry.has_reserved_bits(),
    }
}

impl Walker<'_> {
    /// Reads each L2 table once, and those with something unusual again, in ascending order.
    pub(super) fn walk_l2_tables(&mut self) -> Result<()> {
        let mut tables: Vec<_> = std::mem::take(&mut self.l2_tables).into_iter().collect();
        let length = self.geometry.cluster_size();
        for (offset, uses) in &tables {
            let offset = *offset;
            self.count_region(Referrer::L2Table, Region { offset, length }, uses.all)?;
        }
        tables.retain(|(offset, _)| !self.skips(Referrer::L2Table, *offset));
        let mut buffer = vec![0; length as usize];
        for (table, uses) in self.count_usual_tables(&tables)? {
            self.storage.read_at(table, &mut buffer)?;
            let next_contiguous = None;
            let mut visit = Visit {
                table,
                uses,
                next_contiguous,
            };
            for run in l2_runs(self.format, &buffer) {
                self.visit_run(&mut visit, run)?;
            }
            if !looks_like_l2_table(self.image, &buffer) {
                self.references.dead_ends.push(Finding::NotATable { table });
            }
        }
        self.references.l2_tables = tables;
        Ok(())
    }

    fn visit_run(&mut self, visit: &mut Visit, run: L2Run) -> Result<()> {
        let L2Run { index, entry, .. } = run;
        let (place, times) = (L2Place(visit.table, index), visit.uses.all);
        let kind = entry.kind(self.format);
        let compressed = matches!(kind, L2Kind::Compressed { .. });
        if !compressed && entry.has_reserved_bits() {
            self.corruption(Finding::L2Reserved(place, entry.raw), times);
        }
        match kind {
            L2Kind::Compressed { offset, length } => {
                let region = Region { offset, length };
                return self.visit_compressed(place, visit.uses, entry, region);
            }
            L2Kind::Normal(offset) | L2Kind::PreallocatedZero(offset) => {
                return self.visit_clusters(visit, run, offset);
            }
            L2Kind::Unallocated if entry.has_allocated_subclusters() => {
                let finding = Finding::SubclustersUnallocated(place, entry.subclusters);
                self.corruption(finding, times);
            }
            L2Kind::PlainZero | L2Kind::Unallocated => {}
        }
        Ok(())
    }

    fn visit_compressed(
        &mut self,
        place: L2Place,
        uses: L2Uses,
        entry: L2Entry,
        region: Region,
    ) -> Result<()> {
        if entry.copied() {
            self.corruption(Finding::CompressedCopied(place, entry.raw), uses.all);
        }
        let not_counted = if self.format.data_file {
            Finding::CompressedInDataFile(place, entry.raw)
        } else if entry.subclusters != 0 {
            Finding::CompressedSubclusters(place, entry.raw)
        } else {
            // A compressed cluster is fragmented by nature (observed).
            let tally = &mut self.references.tally;
            tally.allocated += uses.active;
            tally.compressed += uses.active;
            tally.fragmented += uses.active;
            return self.count_region(Referrer::Compressed, region, uses.all);
        };
        self.corruption(not_counted, uses.all);
        Ok(())
    }

    /// Data clusters side by side from `offset` on.
    fn visit_clusters(&mut self, visit: &mut Visit, run: L2Run, offset: Offset) -> Result<()> {
        let L2Run { entry, count, .. } = run;
        let (place, uses) = (L2Place(visit.table, run.index), visit.uses);
        if entry.has_contradicting_subclusters() {
            let finding = Finding::SubclustersContradict(place, entry.subclusters);
            self.corruption(finding, uses.all);
        }
        let aligned = self.geometry.is_aligned(offset);
        // One with reserved bits set as well may have been something else: a compressed cluster
        // whose bit 62 is gone, or guest data where a table is expected.
        let empty = !aligned && holds_no_data(entry, self.format) && !entry.has_reserved_bits();
        if !aligned && !empty {
            self.corruption(Finding::DataUnaligned(place, offset), uses.all);
        }
        let tally = &mut self.references.tally;
        tally.allocated += uses.active * count;
        let follows = visit.next_contiguous.is_none_or(|next| next == offset);
        tally.fragmented += uses.active * u64::from(!follows);
        let length = self.geometry.cluster_size();
        let at = |index| Offset(offset.0 + index * length);
        visit.next_contiguous = Some(at(count));
        if empty {
            return self.visit_unaligned_empty(place, uses, Region { offset, length });
        }
        if self.format.data_file {
            return Ok(());
        }
        let length = count * length;
        let whole = Region { offset, length };
        if self.image.holds(whole) {
            return self.count_region(Referrer::Data, whole, uses.all);
        }
        // Those past the end of the file are reported one by one.
        let length = self.geometry.cluster_size();
        for offset in (0..count).map(at) {
            self.count_region(Referrer::Data, Region { offset, length }, uses.all)?;
        }
        Ok(())
    }

    /// An entry that reads as zeros and leads to no cluster. Nothing can be lost behind it.
    fn visit_unaligned_empty(
        &mut self,
        place: L2Place,
        uses: L2Uses,
        region: Region,
    ) -> Result<()> {
        let L2Place(table, index) = place;
        let position = Offset(table.0 + index * self.format.entry_bytes());
        self.harmless(Finding::EmptyUnaligned(place, region.offset), uses.all);
        let entry = UnalignedEmpty {
            table,
            uses,
            region,
        };
        let entries = &mut self.references.unaligned_empty;
        entries.insert((position, table), entry);
        if self.format.data_file {
            return Ok(());
        }
        if self.image.holds(region) {
            let run = region.clusters(&self.geometry);
            return Ok(self.references.table.add(run, uses.all)?);
        }
        self.harmless(Finding::PastEnd(Referrer::Data, region), uses.all);
        Ok(())
    }
}

/// The table that is being read, and where its last mapped cluster ended.
struct Visit {
    table: Offset,
    uses: L2Uses,
    next_contiguous: Option<Offset>,
}
