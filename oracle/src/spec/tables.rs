//! L1 and L2 tables: which are written to, and what.

use std::collections::{BTreeMap, BTreeSet};

use super::layout::Layout;
use super::snapshots::Snapshots;
use super::{DIRTY_AND_CORRUPT, KNOWN_AUTOCLEAR, Patched, Spec};
use crate::audit::{Header, Referrer, Unreadable};

const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const L1_RESERVED: u64 = !(OFFSET | COPIED);
const L2_RESERVED: u64 = 0x3f00_0000_0000_01fe;
const LOW: u64 = 0xffff_ffff;

/// An entry of an L2 table that is not all zeros.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry {
    /// With a cluster, of data or of zeros.
    Data {
        word: u64,
        offset: u64,
        holds_data: bool,
    },
    Compressed {
        word: u64,
        offset: u64,
    },
    /// Without a cluster.
    Nothing {
        word: u64,
    },
}

pub(super) fn word(bytes: &[u8]) -> u64 {
    bytes[..8]
        .iter()
        .fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

/// The entries that are not all zeros, by number.
pub(super) fn entries<'a>(
    header: &'a Header,
    table: &'a [u8],
) -> impl Iterator<Item = (u64, Entry)> + 'a {
    let extended = header.extended_l2();
    let raw = (0..).zip(table.chunks_exact(if extended { 16 } else { 8 }));
    raw.filter_map(move |(index, raw)| {
        let bitmap = if extended { word(&raw[8..]) } else { 0 };
        let word = word(raw);
        let offset = word & OFFSET;
        let zero = !extended && word & ZERO != 0;
        Some((
            index,
            if word == 0 && bitmap == 0 {
                return None;
            } else if word & COMPRESSED != 0 {
                let x = 62 - (header.cluster_bits - 8);
                let offset = word & ((1 << x) - 1);
                Entry::Compressed { word, offset }
            } else if offset == 0 && (zero || !(header.external_data() && word & COPIED != 0)) {
                Entry::Nothing { word }
            } else {
                let holds_data = if extended { bitmap & LOW != 0 } else { !zero };
                Entry::Data {
                    word,
                    offset,
                    holds_data,
                }
            },
        ))
    })
}

/// Whether no more entries make no sense than do; `length` is that of the file.
pub(super) fn reads_as_l2_table(header: &Header, length: u64, table: &[u8]) -> bool {
    let (mut sound, mut unsound) = (0, 0);
    for (_, entry) in entries(header, table) {
        let makes_sense = match entry {
            // What begins past the end of the file does so afterwards: it does not grow over it.
            Entry::Compressed { word, offset, .. } => {
                word & COPIED == 0 && !header.external_data() && offset < length
            }
            Entry::Data {
                word,
                offset,
                holds_data,
                ..
            } => word & L2_RESERVED == 0 && (header.is_aligned(offset) || !holds_data),
            Entry::Nothing { word } => word & L2_RESERVED == 0,
        };
        if makes_sense {
            sound += 1;
        } else {
            unsound += 1;
        }
    }
    unsound <= sound
}

/// The entry that reads the same without a cluster.
fn without_cluster(header: &Header, bitmap: u64) -> (u64, u64) {
    if header.extended_l2() {
        (0, (bitmap | bitmap << 32) & !LOW)
    } else {
        (ZERO, 0)
    }
}

impl Spec<'_> {
    /// The entries that are replaced: rule 6. Those that stay may lead to tables, which then are not
    /// written to either.
    pub(super) fn replaced(&self) -> Result<BTreeSet<Referrer>, Unreadable> {
        let mut replaced: BTreeSet<Referrer> =
            self.own.empty.iter().map(|entry| entry.referrer).collect();
        loop {
            let mut stay = BTreeSet::new();
            for entry in &self.own.empty {
                if replaced.contains(&entry.referrer)
                    && !self.l2_writable(entry.table, &replaced)?
                {
                    stay.insert(entry.referrer);
                }
            }
            if stay.is_empty() {
                return Ok(replaced);
            }
            replaced.retain(|referrer| !stay.contains(referrer));
        }
    }

    /// Whether all uses of a cluster are of a kind, in the final state: refcount structures that are
    /// replaced do not count.
    fn used_only(
        &self,
        cluster: u64,
        replaced: &BTreeSet<Referrer>,
        is_kind: impl Fn(&Referrer) -> bool,
    ) -> bool {
        let uses = self.own.references.get(&cluster).into_iter().flatten();
        // What is given up of the snapshot table is not there in the final state either.
        let given_up = if self.ask.release_unreachable {
            let snapshots = self.snapshots(false).unwrap_or(Snapshots::Stay);
            self.left_by_snapshots(&snapshots).contains(&cluster)
        } else {
            false
        };
        let mut staying = uses.filter(|use_| {
            let goes = use_.is_structure() && !self.ask.only_leaks
                || given_up && **use_ == Referrer::SnapshotTable;
            !goes && !replaced.contains(*use_)
        });
        // What only the header leads to, taken for an L1 table, is no use.
        staying.next().is_some_and(&is_kind) && staying.all(is_kind)
    }

    fn l2_writable(&self, offset: u64, replaced: &BTreeSet<Referrer>) -> Result<bool, Unreadable> {
        let cluster = offset / self.cluster_size;
        // Another table that lies over this one is not this one.
        let uses = self
            .own
            .tables
            .iter()
            .filter(|table| table.offset == offset);
        let is_l2 = |referrer: &Referrer| match *referrer {
            Referrer::L2 { layer, l1_index } => uses
                .clone()
                .any(|table| (table.layer, table.l1_index) == (layer, l1_index)),
            _ => false,
        };
        Ok(offset.is_multiple_of(self.cluster_size)
            && cluster != 0
            && offset + self.cluster_size <= self.own.length
            && !self.covered().contains(&cluster)
            && self.used_only(cluster, replaced, is_l2)
            && reads_as_l2_table(&self.own.header, self.own.length, &self.read(offset)?))
    }

    fn l1_writable(&self, replaced: &BTreeSet<Referrer>) -> Result<bool, Unreadable> {
        let header = &self.own.header;
        let (offset, bytes) = (header.l1_offset, header.l1_entries * 8);
        if offset.saturating_add(bytes) > self.own.length {
            return Ok(false);
        }
        let covered = self.covered();
        let is_l1 = |referrer: &Referrer| matches!(referrer, Referrer::L1 { .. });
        let mut clusters = offset / self.cluster_size..(offset + bytes).div_ceil(self.cluster_size);
        let alone = clusters.all(|cluster| {
            cluster != 0 && !covered.contains(&cluster) && self.used_only(cluster, replaced, is_l1)
        });
        let words = self.l1_entries()?;
        let is_unsound = |&&(_, entry): &&(u64, u64)| {
            entry & L1_RESERVED != 0 || !header.is_aligned(entry & OFFSET)
        };
        let unsound = words.iter().filter(is_unsound).count();
        Ok(alone && unsound <= words.len() - unsound)
    }

    /// The entries of the active L1 table that are not 0; of one in the header's cluster none.
    fn l1_entries(&self) -> Result<Vec<(u64, u64)>, Unreadable> {
        let header = &self.own.header;
        if header.l1_offset < self.cluster_size {
            // The header is no L1 table, whatever it leads to.
            return Ok(Vec::new());
        }
        let present = self.own.length.saturating_sub(header.l1_offset);
        let bytes = (header.l1_entries * 8).min(present);
        let mut table = vec![0; bytes.next_multiple_of(8) as usize];
        self.image.read(header.l1_offset, &mut table)?;
        let words = (0..)
            .zip(table.chunks_exact(8))
            .map(|(at, raw)| (at, word(raw)));
        Ok(words.filter(|&(_, word)| word != 0).collect())
    }

    /// What COPIED must say of a cluster: rule 9. `None` where its refcount cannot be read.
    fn is_one(&self, cluster: u64, counts: &BTreeMap<u64, u64>, rebuilt: bool) -> Option<bool> {
        let count = counts.get(&cluster).copied().unwrap_or(0);
        if rebuilt {
            return Some(count == 1);
        }
        let said = self.own.disk.count(cluster)?;
        Some(if cluster < self.own.clusters {
            count == 1
        } else {
            said == 1
        })
    }

    /// Replaces entries and sets COPIED bits right; how many stay wrong.
    pub(super) fn write_tables(
        &self,
        replaced: &BTreeSet<Referrer>,
        counts: &BTreeMap<u64, u64>,
        layout: Option<&Layout>,
        kept: &BTreeMap<u64, u64>,
        patched: &mut Patched<'_>,
    ) -> Result<u64, Unreadable> {
        let rebuilt = layout.is_some();
        for entry in &self.own.empty {
            if replaced.contains(&entry.referrer) {
                self.replace(entry.table, entry.l2_index, patched)?;
            }
        }
        let may_write = !self.ask.only_leaks || self.is_else_clean(replaced, kept);
        let mut left = 0;
        let mut fixes: Vec<(u64, u64)> = Vec::new();
        let mut tables = BTreeMap::new();
        let l1_writable = may_write && self.l1_writable(replaced)?;
        for (index, entry) in self.l1_entries()? {
            let table = entry & OFFSET;
            if table == 0 {
                continue;
            }
            let Some(one) = self.is_one(table / self.cluster_size, counts, rebuilt) else {
                continue;
            };
            *tables.entry(table).or_insert(0_u64) += 1;
            if one != (entry & COPIED != 0) {
                if l1_writable {
                    fixes.push((self.own.header.l1_offset + index * 8, entry ^ COPIED));
                } else {
                    left += 1;
                }
            }
        }
        for (table, times) in tables {
            let writable = may_write && self.l2_writable(table, replaced)?;
            for (at, fixed) in self.l2_fixes(table, counts, rebuilt, patched)? {
                if writable {
                    fixes.push((at, fixed));
                } else {
                    left += times;
                }
            }
        }
        for (at, fixed) in fixes {
            patched.write(at, &fixed.to_be_bytes())?;
        }
        Ok(left)
    }

    /// The entries of an L2 table whose COPIED bit is wrong, as they should be.
    fn l2_fixes(
        &self,
        table: u64,
        counts: &BTreeMap<u64, u64>,
        rebuilt: bool,
        patched: &Patched<'_>,
    ) -> Result<Vec<(u64, u64)>, Unreadable> {
        let bytes = patched.read(table, self.cluster_size)?;
        let size = if self.own.header.extended_l2() { 16 } else { 8 };
        let mut fixes = Vec::new();
        for (index, entry) in entries(&self.own.header, &bytes) {
            let Entry::Data { word, offset, .. } = entry else {
                continue;
            };
            let one = if self.own.header.external_data() {
                Some(true)
            } else {
                self.is_one(offset / self.cluster_size, counts, rebuilt)
            };
            if one.is_some_and(|one| one != (word & COPIED != 0)) {
                fixes.push((table + index * size, word ^ COPIED));
            }
        }
        Ok(fixes)
    }

    fn replace(&self, table: u64, index: u64, patched: &mut Patched<'_>) -> Result<(), Unreadable> {
        let size = if self.own.header.extended_l2() { 16 } else { 8 };
        let at = table + index * size;
        let raw = patched.read(at, size)?;
        let bitmap = if size == 16 { word(&raw[8..]) } else { 0 };
        // Every layer that shares the table leads to the entry; it is replaced once.
        if self.own.header.is_aligned(word(&raw) & OFFSET) {
            return Ok(());
        }
        let (entry, bitmap) = without_cluster(&self.own.header, bitmap);
        let bytes = [entry.to_be_bytes(), bitmap.to_be_bytes()].concat();
        Ok(patched.write(at, &bytes[..size as usize])?)
    }

    /// With `-r leaks`: whether nothing is wrong but COPIED bits and what of the snapshot table a new
    /// one would mend.
    fn is_else_clean(&self, replaced: &BTreeSet<Referrer>, kept: &BTreeMap<u64, u64>) -> bool {
        let references = self.references(replaced);
        let wrong = |corruption: &&crate::audit::Corruption| {
            let mended = crate::audit::Wrong::ShortExtraData { bytes: 0 };
            std::mem::discriminant(&corruption.wrong) != std::mem::discriminant(&mended)
        };
        let low = references.iter().any(|(&cluster, &count)| {
            let said = self.own.disk.count(cluster);
            said.is_some_and(|said| said < count.min(self.max))
        });
        kept.is_empty()
            && self.own.check_errors == 0
            && !low
            && !self
                .seen
                .corruptions
                .iter()
                .any(|corruption| wrong(&corruption))
    }

    /// Feature bits: rule 10, and the dirty and corrupt bits where a check finds nothing wrong.
    pub(super) fn write_features(
        &self,
        clean: bool,
        patched: &mut Patched<'_>,
    ) -> Result<(), Unreadable> {
        let header = &self.own.header;
        let incompatible = header.incompatible & !DIRTY_AND_CORRUPT;
        if clean && incompatible != header.incompatible {
            patched.write(72, &incompatible.to_be_bytes())?;
        }
        let autoclear = header.autoclear & KNOWN_AUTOCLEAR;
        if autoclear != header.autoclear && !patched.is_empty() {
            patched.write(88, &autoclear.to_be_bytes())?;
        }
        Ok(())
    }
}
