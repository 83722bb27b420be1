//! Telling what a cluster is by its bytes. The recognisers are the engine's: those by which a repair knows
//! that damage hides data.

use std::collections::BTreeSet;

use recount::entry::{L1Entry, L2Kind, l2_runs, present};
use recount::plan::RepairOptions;
use recount::plan::find::{Lost, READ_MAX, SAMPLE};
use recount::{Cluster, Image, Offset, RefcountTable, RepairError, RunSet, Storage, Survey};

/// Entries that are followed to tell a table of tables from an L2 table.
const FOLLOWED: usize = 16;

/// What a cluster looks like, in the order in which it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    L2Table,
    L1Table,
    SnapshotTable,
    Reftable,
    Refblock,
    Data,
    /// What an L2 table that was found leads to as compressed data.
    Compressed,
    Zeros,
    /// As much as is read at most had been read before.
    NotRead,
}

impl Content {
    pub const ALL: [Self; 9] = [
        Self::L2Table,
        Self::L1Table,
        Self::SnapshotTable,
        Self::Reftable,
        Self::Refblock,
        Self::Data,
        Self::Compressed,
        Self::Zeros,
        Self::NotRead,
    ];

    /// The number that stands for it in a table of counts, where 0 is no content.
    const fn number(self) -> u64 {
        self as u64 + 1
    }

    /// That of such a number.
    pub fn of(number: u64) -> Self {
        let mut all = Self::ALL.into_iter();
        all.find(|content| content.number() == number)
            .unwrap_or(Self::NotRead)
    }
}

/// A cluster as an L2 table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundTable {
    pub offset: Offset,
    /// Whether most of its entries are as entries are.
    pub looks_like_one: bool,
    /// Its entries that lead to data.
    pub entries: u64,
    /// Those of them of which the data can be in the file.
    pub whole: u64,
    /// Clusters that they lead to and nothing else does.
    pub lost: u64,
}

/// Looks at clusters, and counts the bytes that it reads.
pub struct Search<'a> {
    storage: &'a dyn Storage,
    image: Image,
    lost: Lost<'a>,
    /// Those in use, in ascending order.
    l2_tables: Vec<Offset>,
    /// The clusters of the present refcount structures.
    structures: RunSet,
    /// What tables that were found lead to as compressed data.
    compressed: RefcountTable,
    bytes_read: u64,
    /// How many it reads at most, but for the table that is being looked at then.
    read_max: u64,
}

impl<'a> Search<'a> {
    /// In an image as it has been looked at.
    pub fn of(
        storage: &'a dyn Storage,
        survey: Survey,
        options: &'a RepairOptions,
    ) -> Result<Self, RepairError> {
        let (image, look) = (survey.image.clone(), &survey.look);
        let l2_tables = look.references.l2_tables.iter();
        Ok(Self {
            storage,
            l2_tables: l2_tables.map(|(offset, _)| *offset).collect(),
            structures: look.old.clusters.clone(),
            compressed: RefcountTable::new(*image.geometry()),
            lost: Lost::of(storage, survey, options)?,
            image,
            bytes_read: 0,
            read_max: READ_MAX,
        })
    }

    /// What all clusters look like that nothing refers to, by number, and the L2 tables among them.
    pub fn look_through(&mut self) -> Result<(RefcountTable, Vec<FoundTable>), RepairError> {
        let mut contents = RefcountTable::new(*self.image.geometry());
        for cluster in self.lost.clusters() {
            contents.set(cluster, Content::NotRead.number())?;
        }
        let mut tables = Vec::new();
        let (mut next, mut data) = (Cluster(0), self.storage.next_data(Offset(0)));
        while let Some(cluster) = contents.next_used(next) {
            next = Cluster(cluster.0 + 1);
            if self.bytes_read > self.read_max {
                break;
            }
            let (offset, end) = (self.offset_of(cluster), self.offset_of(next));
            if data.is_some_and(|data| data < offset) {
                data = self.storage.next_data(offset);
            }
            // There can be many more holes than could be looked at one by one.
            let content = match data {
                Some(data) if data < end => self.content(cluster, &mut tables)?,
                _ => Content::Zeros,
            };
            contents.set(cluster, content.number())?;
        }
        for (cluster, _) in self.compressed.above(0) {
            if contents.get(cluster) == Content::Data.number() {
                contents.set(cluster, Content::Compressed.number())?;
            }
        }
        Ok((contents, tables))
    }

    /// Where something in use as an L2 table does not look like one.
    pub fn not_tables(&mut self) -> Result<BTreeSet<Offset>, RepairError> {
        let mut others = BTreeSet::new();
        for table in std::mem::take(&mut self.l2_tables) {
            let cluster = self.cluster_of(table);
            if self.is_cluster(table) && self.bytes_read <= self.read_max {
                let bytes = self.read(cluster, usize::MAX)?;
                if !self.lost.looks_like_l2_table(&bytes) {
                    others.insert(table);
                }
            }
        }
        Ok(others)
    }

    /// What a cluster is as an L2 table, whatever refers to it.
    pub fn examine(&mut self, cluster: Cluster) -> Result<FoundTable, RepairError> {
        let bytes = self.read(cluster, usize::MAX)?;
        self.table(cluster, &bytes)
    }

    fn content(
        &mut self,
        cluster: Cluster,
        tables: &mut Vec<FoundTable>,
    ) -> Result<Content, RepairError> {
        let sample = self.read(cluster, SAMPLE)?;
        let is_zero = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all | byte) == 0;
        if !is_zero(&sample) && self.lost.is_snapshot(self.offset_of(cluster))? {
            return Ok(Content::SnapshotTable);
        }
        if !self.lost.looks_like_l2_table(&sample) && !self.lost.may_be_refblock(&sample) {
            return Ok(Content::Data);
        }
        let bytes = self.read(cluster, usize::MAX)?;
        if is_zero(&bytes) {
            return Ok(Content::Zeros);
        }
        if self.lost.is_refblock(cluster, &bytes) {
            return Ok(Content::Refblock);
        }
        if let Some(content) = self.table_of_tables(cluster, &bytes)? {
            return Ok(content);
        }
        let table = self.table(cluster, &bytes)?;
        if !table.looks_like_one || table.lost == 0 {
            return Ok(Content::Data);
        }
        tables.push(table);
        Ok(Content::L2Table)
    }

    /// Whether most entries that are followed lead to L2 tables, or to refblocks.
    fn table_of_tables(
        &mut self,
        own: Cluster,
        bytes: &[u8],
    ) -> Result<Option<Content>, RepairError> {
        let words = bytes.as_chunks::<8>().0.iter();
        let entries = words.map(|word| L1Entry(u64::from_be_bytes(*word)));
        let (mut followed, mut to_l2_tables, mut to_refblocks) = (0, 0, 0);
        for entry in entries.filter(|entry| entry.0 != 0).take(FOLLOWED) {
            followed += 1;
            if entry.has_reserved_bits() || !self.is_cluster(entry.l2_table()) {
                continue;
            }
            let target = self.cluster_of(entry.l2_table());
            if self.structures.contains(target) {
                to_refblocks += u64::from(!entry.copied());
            } else if self.l2_tables.binary_search(&entry.l2_table()).is_ok() {
                to_l2_tables += 1;
            } else if target != own && self.lost.contains(target)? {
                let bytes = self.read(target, usize::MAX)?;
                if self.lost.is_refblock(target, &bytes) {
                    to_refblocks += u64::from(!entry.copied());
                } else if self.lost.looks_like_l2_table(&bytes) {
                    to_l2_tables += u64::from(self.lost.behind(target, &bytes)? > 0);
                }
            }
        }
        Ok(if to_refblocks * 2 > followed {
            Some(Content::Reftable)
        } else {
            (to_l2_tables * 2 > followed).then_some(Content::L1Table)
        })
    }

    fn table(&mut self, cluster: Cluster, bytes: &[u8]) -> Result<FoundTable, RepairError> {
        let mut table = FoundTable {
            offset: self.offset_of(cluster),
            looks_like_one: self.lost.looks_like_l2_table(bytes),
            entries: 0,
            whole: 0,
            lost: 0,
        };
        if !table.looks_like_one {
            return Ok(table);
        }
        table.lost = self.lost.behind(cluster, bytes)?;
        let format = self.image.header.l2_format();
        for run in l2_runs(format, bytes) {
            let kind = run.entry.kind(format);
            if matches!(kind, L2Kind::Unallocated | L2Kind::PlainZero) {
                continue;
            }
            let whole = present(&self.image, &run);
            table.entries += run.count;
            table.whole += whole;
            if let L2Kind::Compressed(region) = kind
                && whole > 0
            {
                let last = Offset(region.end().saturating_sub(1));
                for at in self.cluster_of(region.offset).0..=self.cluster_of(last).0 {
                    self.compressed.set(Cluster(at), 1)?;
                }
            }
        }
        Ok(table)
    }

    /// The first bytes of a cluster, or all of them.
    fn read(&mut self, cluster: Cluster, length: usize) -> Result<Vec<u8>, RepairError> {
        let offset = self.offset_of(cluster);
        let size = self.image.geometry().cluster_size();
        let mut bytes = vec![0; length.min(size as usize)];
        let end = offset.0.saturating_add(bytes.len() as u64);
        // Of holes there are more than could be read.
        if self
            .storage
            .next_data(offset)
            .is_some_and(|data| data.0 < end)
        {
            self.storage.read_at(offset, &mut bytes)?;
            self.bytes_read += bytes.len() as u64;
        }
        Ok(bytes)
    }

    /// Whether a cluster of the file begins there, other than the header.
    pub fn is_cluster(&self, offset: Offset) -> bool {
        let size = self.image.geometry().cluster_size();
        offset.0 != 0 && offset.0.is_multiple_of(size) && offset.0 < self.storage.len()
    }

    pub fn cluster_of(&self, offset: Offset) -> Cluster {
        Cluster(offset.0 >> self.image.geometry().cluster_bits())
    }

    fn offset_of(&self, cluster: Cluster) -> Offset {
        Offset(cluster.0 << self.image.geometry().cluster_bits())
    }
}

#[cfg(test)]
#[path = "../../tests/command/image.rs"]
#[expect(dead_code, reason = "the tests of the command use all of it")]
mod image;

#[cfg(test)]
mod tests {
    use recount::MemoryStorage;

    use super::image::{Image, L1};
    use super::*;

    #[test]
    fn what_is_read_has_a_bound() {
        let mut image = Image::clean();
        image.put64(L1, 0);
        let storage = MemoryStorage::growing(image.bytes);
        let survey = Survey::take(&storage, &mut ()).expect("a survey");
        let options = RepairOptions::default();
        let mut search = Search::of(&storage, survey, &options).expect("a search");
        // The table is read twice, its first bytes being all of it; then nothing more.
        search.read_max = 600;
        let (contents, tables) = search.look_through().expect("contents");
        let contents = contents.above(0);
        let contents: Vec<_> = contents
            .map(|(at, number)| (at.0, Content::of(number)))
            .collect();
        let not_read = (5..9).map(|cluster| (cluster, Content::NotRead));
        let expected: Vec<_> = [(4, Content::L2Table)]
            .into_iter()
            .chain(not_read)
            .collect();
        assert_eq!(contents, expected);
        assert_eq!(tables.len(), 1);
    }
}
