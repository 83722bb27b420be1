//! L2 tables and what they lead to.

use std::convert::Infallible;

use super::{L2Uses, Region, Result, UnalignedEmpty, Walker};
use crate::finding::{Finding, Referrer};
use crate::format::entry::{L2Entry, L2Format, L2Kind, OFFSET_MASK};
use crate::geometry::Geometry;
use crate::image::{Extent, Image};
use crate::table::Run;
use crate::units::{Cluster, ClusterCount, Offset};

/// A piece of an L2 table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L2Item {
    /// Entries with nothing unusual, each one's cluster after that of the entry before, all with
    /// the same COPIED bit.
    Run {
        /// The first entry's number.
        index: u64,
        /// The first one's cluster.
        offset: Offset,
        /// How many entries.
        count: u64,
        /// Their COPIED bit.
        copied: bool,
    },
    /// Any other entry that is not all zeros.
    Entry {
        /// Its number.
        index: u64,
        /// The entry.
        entry: L2Entry,
    },
}

/// Hands over the pieces of an L2 table in order.
pub fn for_each_item<E>(
    geometry: &Geometry,
    format: L2Format,
    table: &[u8],
    mut visit: impl FnMut(L2Item) -> Result<(), E>,
) -> Result<(), E> {
    let cluster_size = geometry.cluster_size();
    let mut entries = entries_of(table, format.extended).peekable();
    while let Some((index, entry)) = entries.next() {
        if entry.raw == 0 && entry.subclusters == 0 {
            continue;
        }
        let Some(offset) = entry.plain_offset(geometry) else {
            visit(L2Item::Entry { index, entry })?;
            continue;
        };
        let mut count = 1;
        // A plain entry differs from its predecessor by the cluster size and nothing else.
        let mut expected = entry.raw + cluster_size;
        // The last cluster that an entry can lead to has no successor: bit 56 is reserved.
        while expected & OFFSET_MASK != 0
            && entries
                .next_if(|(_, next)| next.raw == expected && !next.has_contradicting_subclusters())
                .is_some()
        {
            count += 1;
            expected += cluster_size;
        }
        visit(L2Item::Run {
            index,
            offset,
            count,
            copied: entry.copied(),
        })?;
    }
    Ok(())
}

/// The entries of an L2 table, numbered.
fn entries_of(table: &[u8], extended: bool) -> impl Iterator<Item = (u64, L2Entry)> + '_ {
    let words = table.as_chunks::<8>().0;
    let entries = words
        .chunks_exact(if extended { 2 } else { 1 })
        .map(|words| L2Entry {
            raw: u64::from_be_bytes(words[0]),
            subclusters: words.get(1).map_or(0, |bitmap| u64::from_be_bytes(*bitmap)),
        });
    (0..).zip(entries)
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
pub fn looks_like_l2_table(image: &Image, extent: &Extent, bytes: &[u8]) -> bool {
    let (geometry, format) = (image.geometry(), L2Format::of(&image.header));
    let (mut sound, mut unsound) = (0, 0);
    let Ok(()) = for_each_item(geometry, format, bytes, |item| {
        let (count, is_sound) = match item {
            L2Item::Run { count, .. } => (count, true),
            L2Item::Entry { entry, .. } => (1, is_sound(entry, format, geometry, extent)),
        };
        if is_sound {
            sound += count;
        } else {
            unsound += count;
        }
        Ok::<_, Infallible>(())
    });
    unsound <= sound
}

/// Whether an entry is as entries are.
fn is_sound(entry: L2Entry, format: L2Format, geometry: &Geometry, extent: &Extent) -> bool {
    match entry.kind(format) {
        // Where the file grows, it does not grow over what one leads to: the answer stays.
        L2Kind::Compressed { offset, .. } => {
            !entry.copied() && !format.data_file && offset.0 < extent.bytes
        }
        L2Kind::Normal(offset) | L2Kind::PreallocatedZero(offset) => {
            let aligned = geometry.is_aligned(offset);
            !entry.has_reserved_bits() && (aligned || holds_no_data(entry, format))
        }
        L2Kind::PlainZero | L2Kind::Unallocated => !entry.has_reserved_bits(),
    }
}

impl Walker<'_> {
    /// Reads each L2 table once, and those with something unusual again, in ascending order.
    pub(super) fn walk_l2_tables(&mut self) -> Result<()> {
        let mut tables = std::mem::take(&mut self.l2_tables).into_sorted();
        let (geometry, format) = (self.geometry, self.format);
        let cluster_size = geometry.cluster_size();
        for (offset, uses) in &tables {
            self.count_region(Referrer::L2Table, *offset, cluster_size, uses.all)?;
        }
        tables.retain(|(offset, _)| !self.skips(Referrer::L2Table, *offset));
        let mut buffer = vec![0; cluster_size as usize];
        for (table, uses) in self.count_usual_tables(&tables)? {
            self.storage.read_at(table, &mut buffer)?;
            let mut visit = Visit {
                table,
                uses,
                index: 0,
                next_contiguous: None,
            };
            for_each_item(&geometry, format, &buffer, |item| match item {
                L2Item::Run { offset, count, .. } => self.visit_run(&mut visit, offset, count),
                L2Item::Entry { index, entry } => {
                    visit.index = index;
                    self.visit_l2_entry(&mut visit, entry)
                }
            })?;
            if !looks_like_l2_table(self.image, &self.extent, &buffer) {
                let finding = Finding::NotATable { table };
                self.references.dead_ends.push(finding);
            }
        }
        self.references.l2_tables = tables;
        Ok(())
    }

    /// Counts clusters that the active layer maps, and those that do not follow on.
    const fn count_mapped(&mut self, visit: &mut Visit, offset: Offset, count: u64) {
        let (tally, active) = (&mut self.references.tally, visit.uses.active);
        tally.allocated += active * count;
        if let Some(expected) = visit.next_contiguous
            && expected.0 != offset.0
        {
            tally.fragmented += active;
        }
        let end = offset.0 + count * self.geometry.cluster_size();
        visit.next_contiguous = Some(Offset(end));
    }

    /// Counts data clusters side by side; those past the end of the file one by one as such.
    fn visit_run(&mut self, visit: &mut Visit, offset: Offset, count: u64) -> Result<()> {
        self.count_mapped(visit, offset, count);
        if self.image.header.has_data_file() {
            return Ok(());
        }
        let (geometry, times) = (self.geometry, visit.uses.all);
        let first = geometry.cluster_of(offset);
        let inside = Cluster(self.extent.clusters.0).since(first).0.min(count);
        let run = Run::new(first, ClusterCount(inside));
        self.references.table.add(run, times)?;
        for past_end in inside..count {
            let offset = Offset(offset.0 + (past_end << geometry.cluster_bits()));
            self.count_region(Referrer::Data, offset, geometry.cluster_size(), times)?;
        }
        Ok(())
    }

    fn visit_l2_entry(&mut self, visit: &mut Visit, entry: L2Entry) -> Result<()> {
        let (table, index, times) = (visit.table, visit.index, visit.uses.all);
        let kind = entry.kind(self.format);
        let compressed = matches!(kind, L2Kind::Compressed { .. });
        if !compressed && entry.has_reserved_bits() {
            let entry = entry.raw;
            let finding = Finding::L2Reserved {
                table,
                index,
                entry,
            };
            self.corruption(finding, times);
        }
        match kind {
            L2Kind::Compressed { offset, length } => {
                return self.visit_compressed(visit, entry, offset, length);
            }
            L2Kind::Normal(offset) | L2Kind::PreallocatedZero(offset) => {
                return self.visit_cluster(visit, entry, offset);
            }
            L2Kind::Unallocated if entry.has_allocated_subclusters() => {
                let subclusters = entry.subclusters;
                let finding = Finding::SubclustersUnallocated {
                    table,
                    index,
                    subclusters,
                };
                self.corruption(finding, times);
            }
            L2Kind::PlainZero | L2Kind::Unallocated => {}
        }
        Ok(())
    }

    fn visit_compressed(
        &mut self,
        visit: &Visit,
        entry: L2Entry,
        offset: Offset,
        length: u64,
    ) -> Result<()> {
        let (table, index, uses) = (visit.table, visit.index, visit.uses);
        let (copied, subclusters, entry) = (entry.copied(), entry.subclusters, entry.raw);
        if copied {
            let finding = Finding::CompressedCopied {
                table,
                index,
                entry,
            };
            self.corruption(finding, uses.all);
        }
        let not_counted = if self.image.header.has_data_file() {
            Finding::CompressedInDataFile {
                table,
                index,
                entry,
            }
        } else if subclusters != 0 {
            Finding::CompressedSubclusters {
                table,
                index,
                entry,
            }
        } else {
            // A compressed cluster is fragmented by nature (observed).
            let tally = &mut self.references.tally;
            tally.allocated += uses.active;
            tally.compressed += uses.active;
            tally.fragmented += uses.active;
            return self.count_region(Referrer::Compressed, offset, length, uses.all);
        };
        self.corruption(not_counted, uses.all);
        Ok(())
    }

    fn visit_cluster(&mut self, visit: &mut Visit, entry: L2Entry, offset: Offset) -> Result<()> {
        let (geometry, format) = (self.geometry, self.format);
        let (table, index, uses) = (visit.table, visit.index, visit.uses);
        if entry.has_contradicting_subclusters() {
            let subclusters = entry.subclusters;
            let finding = Finding::SubclustersContradict {
                table,
                index,
                subclusters,
            };
            self.corruption(finding, uses.all);
        }
        let aligned = geometry.is_aligned(offset);
        // One with reserved bits set as well may have been something else: a compressed cluster
        // whose bit 62 is gone, or guest data where a table is expected.
        let empty = !aligned && holds_no_data(entry, format) && !entry.has_reserved_bits();
        if !aligned && !empty {
            let finding = Finding::DataUnaligned {
                table,
                index,
                offset,
            };
            self.corruption(finding, uses.all);
        }
        self.count_mapped(visit, offset, 1);
        if empty {
            return self.visit_unaligned_empty(visit, offset);
        }
        if format.data_file {
            return Ok(());
        }
        self.count_region(Referrer::Data, offset, geometry.cluster_size(), uses.all)
    }

    /// An entry that reads as zeros and leads to no cluster. Nothing can be lost behind it.
    fn visit_unaligned_empty(&mut self, visit: &Visit, offset: Offset) -> Result<()> {
        let (table, index, uses) = (visit.table, visit.index, visit.uses);
        let geometry = self.geometry;
        let position = Offset(table.0 + index * self.format.entry_bytes());
        let finding = Finding::EmptyUnaligned {
            table,
            index,
            offset,
        };
        self.harmless(finding, uses.all);
        let entry = UnalignedEmpty {
            table,
            uses,
            offset,
        };
        let entries = &mut self.references.unaligned_empty;
        entries.insert((position, table), entry);
        let length = geometry.cluster_size();
        if self.image.header.has_data_file() {
            return Ok(());
        }
        if self.extent.holds(&geometry, offset, length) {
            let run = Region { offset, length }.clusters(&geometry);
            return Ok(self.references.table.add(run, uses.all)?);
        }
        let referrer = Referrer::Data;
        let finding = Finding::PastEnd {
            referrer,
            offset,
            length,
        };
        self.harmless(finding, uses.all);
        Ok(())
    }
}

/// The table that is being read, and where its last mapped cluster ended.
struct Visit {
    table: Offset,
    uses: L2Uses,
    /// The number of its entry that is looked at.
    index: u64,
    next_contiguous: Option<Offset>,
}
