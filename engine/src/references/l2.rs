//! L2 tables and what they lead to.

use std::convert::Infallible;

use super::{L2Uses, Region, UnalignedEmpty, WalkError, Walker};
use crate::finding::{Finding, Referrer};
use crate::format::entry::{L2Entry, L2Format, L2Kind, OFFSET_MASK};
use crate::geometry::Geometry;
use crate::image::{Extent, Image};
use crate::table::Run;
use crate::units::{ClusterCount, Offset};

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
        let entry = match item {
            L2Item::Run { count, .. } => {
                sound += count;
                return Ok(());
            }
            L2Item::Entry { entry, .. } => entry,
        };
        let is_sound = match entry.kind(format) {
            // Where the file grows, it does not grow over what one leads to: the answer stays.
            L2Kind::Compressed { offset, .. } => {
                !entry.copied() && !format.data_file && offset.0 < extent.bytes
            }
            L2Kind::Normal(offset) | L2Kind::PreallocatedZero(offset) => {
                let aligned = geometry.is_aligned(offset);
                !entry.has_reserved_bits() && (aligned || holds_no_data(entry, format))
            }
            L2Kind::PlainZero | L2Kind::Unallocated => !entry.has_reserved_bits(),
        };
        if is_sound {
            sound += 1;
        } else {
            unsound += 1;
        }
        Ok::<_, Infallible>(())
    });
    unsound <= sound
}

impl Walker<'_> {
    /// Reads each L2 table once, and those with something unusual again, in ascending order.
    pub(super) fn walk_l2_tables(&mut self) -> Result<(), WalkError> {
        let mut tables = std::mem::take(&mut self.l2_tables).into_sorted();
        let cluster_size = self.image.geometry().cluster_size();
        for (offset, uses) in &tables {
            self.count_region(Referrer::L2Table, *offset, cluster_size, uses.all)?;
        }
        tables.retain(|(offset, _)| !self.skips(Referrer::L2Table, *offset));
        let unusual = self.count_usual_tables(&tables)?;
        let geometry = *self.image.geometry();
        let mut buffer = vec![0; geometry.cluster_size() as usize];
        for number in unusual {
            let (offset, uses) = tables[number];
            self.storage.read_at(offset, &mut buffer)?;
            let mut next_contiguous = None;
            let format = self.l2_format();
            for_each_item(&geometry, format, &buffer, |item| {
                let mut visit = Visit {
                    table: offset,
                    uses,
                    next_contiguous: &mut next_contiguous,
                };
                self.visit_l2_item(&mut visit, item)
            })?;
            if !looks_like_l2_table(self.image, &self.extent, &buffer) {
                let finding = Finding::NotATable { table: offset };
                self.references.dead_ends.push(finding);
            }
        }
        self.references.l2_tables = tables;
        Ok(())
    }

    fn visit_l2_item(&mut self, visit: &mut Visit<'_>, item: L2Item) -> Result<(), WalkError> {
        match item {
            L2Item::Run { offset, count, .. } => {
                self.count_mapped(visit.uses, visit.next_contiguous, offset, count);
                if self.image.header.has_data_file() {
                    return Ok(());
                }
                self.count_data_run(offset, count, visit.uses.all)
            }
            L2Item::Entry { index, entry } => self.visit_l2_entry(visit, index, entry),
        }
    }

    /// Counts clusters that the active layer maps, and those that do not follow on.
    const fn count_mapped(
        &mut self,
        uses: L2Uses,
        next_contiguous: &mut Option<Offset>,
        offset: Offset,
        count: u64,
    ) {
        self.references.allocated += uses.active * count;
        if let Some(expected) = *next_contiguous
            && expected.0 != offset.0
        {
            self.references.fragmented += uses.active;
        }
        let end = offset.0 + count * self.image.header.geometry.cluster_size();
        *next_contiguous = Some(Offset(end));
    }

    /// Counts data clusters side by side; those past the end of the file one by one as such.
    fn count_data_run(&mut self, offset: Offset, count: u64, times: u64) -> Result<(), WalkError> {
        let geometry = *self.image.geometry();
        let run = self.run_at(offset, count);
        let past = self.extent.clusters.0;
        let inside = run.count.0.min(past.saturating_sub(run.first.0));
        let inside_run = Run::new(run.first, ClusterCount(inside));
        self.references.table.add(inside_run, times)?;
        for past_end in inside..count {
            let offset = Offset(offset.0 + (past_end << geometry.cluster_bits()));
            self.count_region(Referrer::Data, offset, geometry.cluster_size(), times)?;
        }
        Ok(())
    }

    fn visit_l2_entry(
        &mut self,
        visit: &mut Visit<'_>,
        index: u64,
        entry: L2Entry,
    ) -> Result<(), WalkError> {
        let format = self.l2_format();
        let (table, times) = (visit.table, visit.uses.all);
        let kind = entry.kind(format);
        let compressed = matches!(kind, L2Kind::Compressed { .. });
        if !compressed && entry.has_reserved_bits() {
            self.corruption(
                Finding::L2Reserved {
                    table,
                    index,
                    entry: entry.raw,
                },
                times,
            );
        }
        match kind {
            L2Kind::Compressed { offset, length } => {
                self.visit_compressed(visit, index, entry, offset, length)
            }
            L2Kind::Normal(offset) | L2Kind::PreallocatedZero(offset) => {
                self.visit_cluster(visit, index, entry, offset)
            }
            L2Kind::PlainZero => Ok(()),
            L2Kind::Unallocated => {
                if entry.has_allocated_subclusters() {
                    let subclusters = entry.subclusters;
                    let finding = Finding::SubclustersUnallocated {
                        table,
                        index,
                        subclusters,
                    };
                    self.corruption(finding, times);
                }
                Ok(())
            }
        }
    }

    fn visit_compressed(
        &mut self,
        visit: &Visit<'_>,
        index: u64,
        entry: L2Entry,
        offset: Offset,
        length: u64,
    ) -> Result<(), WalkError> {
        let (table, uses, raw) = (visit.table, visit.uses, entry.raw);
        if entry.copied() {
            let finding = Finding::CompressedCopied {
                table,
                index,
                entry: raw,
            };
            self.corruption(finding, uses.all);
        }
        let not_counted = if self.image.header.has_data_file() {
            Some(Finding::CompressedInDataFile {
                table,
                index,
                entry: raw,
            })
        } else if entry.subclusters != 0 {
            Some(Finding::CompressedSubclusters {
                table,
                index,
                entry: raw,
            })
        } else {
            None
        };
        if let Some(finding) = not_counted {
            self.corruption(finding, uses.all);
            return Ok(());
        }
        self.count_region(Referrer::Compressed, offset, length, uses.all)?;
        // A compressed cluster is fragmented by nature (observed).
        self.references.allocated += uses.active;
        self.references.compressed += uses.active;
        self.references.fragmented += uses.active;
        Ok(())
    }

    fn visit_cluster(
        &mut self,
        visit: &mut Visit<'_>,
        index: u64,
        entry: L2Entry,
        offset: Offset,
    ) -> Result<(), WalkError> {
        let format = self.l2_format();
        let geometry = *self.image.geometry();
        let (table, uses) = (visit.table, visit.uses);
        if entry.has_contradicting_subclusters() {
            let subclusters = entry.subclusters;
            self.corruption(
                Finding::SubclustersContradict {
                    table,
                    index,
                    subclusters,
                },
                uses.all,
            );
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
        self.count_mapped(uses, visit.next_contiguous, offset, 1);
        if empty {
            return self.visit_unaligned_empty(visit, index, offset);
        }
        if format.data_file {
            return Ok(());
        }
        self.count_region(Referrer::Data, offset, geometry.cluster_size(), uses.all)
    }

    /// An entry that reads as zeros and leads to no cluster. Nothing can be lost behind it.
    fn visit_unaligned_empty(
        &mut self,
        visit: &Visit<'_>,
        index: u64,
        offset: Offset,
    ) -> Result<(), WalkError> {
        let (table, uses, geometry) = (visit.table, visit.uses, *self.image.geometry());
        let position = Offset(table.0 + index * self.l2_format().entry_bytes());
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
        self.references
            .unaligned_empty
            .insert((position, table), entry);
        if self.image.header.has_data_file() {
            return Ok(());
        }
        let length = geometry.cluster_size();
        if self.extent.holds(&geometry, offset, length) {
            let run = Region { offset, length }.clusters(&geometry);
            return Ok(self.references.table.add(run, uses.all)?);
        }
        let finding = Finding::PastEnd {
            referrer: Referrer::Data,
            offset,
            length,
        };
        self.harmless(finding, uses.all);
        Ok(())
    }
}

/// The table that is being read, and where its last mapped cluster ended.
struct Visit<'a> {
    table: Offset,
    uses: L2Uses,
    next_contiguous: &'a mut Option<Offset>,
}
