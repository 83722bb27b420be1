//! How an act of damage is done: which field it means, and what is written there.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::find::{Entry, Structures};
use super::{
    Among, Applied, BitmapDamage, Change, Damage, HeaderDamage, PointerDamage, RefblockDamage,
    ReftableDamage, SnapshotDamage, SparseBytes, To,
};
use crate::audit::COMPRESSED;
use crate::case::Pick;
use crate::case::refcount::{self, Refcount};
use crate::format::REFTABLE_MAX;

/// Byte positions of the header's fields.
const L1_ENTRIES: u64 = 36;
const L1_OFFSET: u64 = 40;
const REFTABLE_OFFSET: u64 = 48;
const REFTABLE_CLUSTERS: u64 = 56;
const SNAPSHOT_COUNT: u64 = 60;
const SNAPSHOT_TABLE: u64 = 64;
const INCOMPATIBLE: u64 = 72;

/// Writes into the image and keeps what was there.
pub(super) struct Pen<'a> {
    pub(super) image: &'a mut SparseBytes,
    pub(super) found: &'a Structures,
    pub(super) applied: Applied,
}

impl Pen<'_> {
    /// Does what there is to do; `None` where the image has no such structure.
    pub(super) fn act(&mut self, damage: &Damage) -> Option<()> {
        let found = self.found;
        match *damage {
            Damage::Reftable(how) => self.reftable(how),
            Damage::ReftableEntry { entry, becomes } => {
                let used = found.reftable.iter();
                let used = used.filter(|entry| entry.value != 0);
                self.point(entry.among(used)?.at, becomes);
            }
            Damage::Refblock { refblock, becomes } => self.refblock(refblock, becomes)?,
            Damage::Refcount { among, cluster, to } => self.refcount(among, cluster, to)?,
            Damage::L1Entry {
                table,
                entry,
                becomes,
            } => {
                let tables = found.l1_tables.iter();
                let table = table.among(tables.filter(|entries| !entries.is_empty()))?;
                self.point(entry.among(table)?.at, becomes);
            }
            Damage::L2Entry { entry, becomes } => {
                self.point(entry.among(&found.l2_entries)?.at, becomes);
            }
            Damage::Compressed { entry, bit } => {
                let compressed = found.l2_entries.iter();
                let compressed = compressed.filter(|entry| entry.value & COMPRESSED != 0);
                let becomes = PointerDamage::Bit { bit: bit % 62 };
                self.point(entry.among(compressed)?.at, becomes);
            }
            Damage::Subclusters {
                entry,
                allocated,
                zero,
            } => {
                let entry = entry.among(&found.l2_entries)?;
                if found.header.extended_l2() {
                    // Low half: subclusters that are allocated; high half: that read as zeros.
                    let bitmap = u64::from(allocated) | u64::from(zero) << 32;
                    self.change(entry.at + 8, |_| bitmap);
                }
            }
            Damage::Snapshot { snapshot, becomes } => {
                self.snapshot(*snapshot.among(&found.snapshots)?, becomes);
            }
            Damage::Bitmap { bitmap, becomes } => self.bitmap(bitmap, becomes)?,
            Damage::Header(how) => self.header(how),
            Damage::Truncated { clusters, bytes } => self.truncate(clusters, bytes)?,
        }
        Some(())
    }

    /// Replaces bytes; never makes the file longer.
    fn write(&mut self, at: u64, bytes: &[u8]) {
        let room = self.image.len().saturating_sub(at);
        let bytes = &bytes[..bytes.len().min(room as usize)];
        if !bytes.is_empty() {
            let before = self.image.bytes(at, bytes.len());
            self.image.put(at, bytes);
            let after = bytes.to_vec();
            self.applied.changes.push(Change { at, before, after });
        }
    }

    fn set32(&mut self, at: u64, field: u32) {
        self.write(at, &field.to_be_bytes());
    }

    /// Changes the field of 64 bits at byte `at`.
    fn change(&mut self, at: u64, change: impl FnOnce(u64) -> u64) {
        let field = change(self.image.number(at, 8));
        self.write(at, &field.to_be_bytes());
    }

    /// Damages the field at byte `at`, which leads to a cluster.
    fn point(&mut self, at: u64, becomes: PointerDamage) {
        let found = self.found;
        self.change(at, |field| becomes.of(field, found));
    }

    fn truncate(&mut self, clusters: u8, odd_bytes: u16) -> Option<()> {
        let length = self.image.len();
        let cut = u64::from(clusters) * self.found.header.cluster_size() + u64::from(odd_bytes);
        let at = length - cut.checked_rem(length)?;
        let before = self.image.bytes(at, (length - at) as usize);
        self.image.set_len(at);
        let after = Vec::new();
        self.applied.changes.push(Change { at, before, after });
        Some(())
    }

    fn header(&mut self, how: HeaderDamage) {
        let newer = self.found.header.version >= 3;
        match how {
            HeaderDamage::L1Offset(becomes) => self.point(L1_OFFSET, becomes),
            HeaderDamage::L1Entries(entries) => self.set32(L1_ENTRIES, entries),
            HeaderDamage::Bit { bit } => {
                let bit = u64::from(bit % 832);
                let at = bit / 32 * 4;
                let field = self.image.number(at, 4) as u32;
                self.set32(at, field ^ (1 << (bit % 32)));
            }
            HeaderDamage::Dirty if newer => self.change(INCOMPATIBLE, |bits| bits | 1),
            HeaderDamage::Corrupt if newer => self.change(INCOMPATIBLE, |bits| bits | 2),
            HeaderDamage::Feature { field, bit } if newer => {
                let at = INCOMPATIBLE + 8 * u64::from(field % 3);
                self.change(at, |bits| bits ^ (1 << (bit % 64)));
            }
            HeaderDamage::Dirty | HeaderDamage::Corrupt | HeaderDamage::Feature { .. } => (),
        }
    }

    fn reftable(&mut self, how: ReftableDamage) {
        let header = &self.found.header;
        let (offset, clusters) = (header.reftable_offset, header.reftable_clusters);
        let length = clusters * header.cluster_size();
        // The header may name any number of clusters by now; of more than these nobody opens it.
        let length = length.min(REFTABLE_MAX);
        let inside = length.min(self.found.length.saturating_sub(offset)) as usize;
        match how {
            ReftableDamage::Gone => self.write(REFTABLE_OFFSET, &[0; 12]),
            ReftableDamage::OffsetZero => self.change(REFTABLE_OFFSET, |_| 0),
            ReftableDamage::Offset(becomes) => self.point(REFTABLE_OFFSET, becomes),
            ReftableDamage::Clusters(clusters) => self.set32(REFTABLE_CLUSTERS, clusters),
            ReftableDamage::Zeroed => self.write(offset, &vec![0; inside]),
            ReftableDamage::Random { seed } => self.write(offset, &random_bytes(seed, inside)),
        }
    }

    fn snapshot(&mut self, at: u64, how: SnapshotDamage) {
        match how {
            SnapshotDamage::L1Offset(becomes) => self.point(at, becomes),
            SnapshotDamage::L1OffsetBytes(bytes) => {
                self.change(at, |offset| offset.wrapping_add(bytes.into()));
            }
            SnapshotDamage::L1Entries(entries) => self.set32(at + 8, entries),
            SnapshotDamage::ExtraData(size) => self.set32(at + 36, size),
            SnapshotDamage::Count(count) => self.set32(SNAPSHOT_COUNT, count),
            SnapshotDamage::Table(becomes) => self.point(SNAPSHOT_TABLE, becomes),
        }
    }

    fn bitmap(&mut self, which: Pick, how: BitmapDamage) -> Option<()> {
        let extension = self.found.bitmaps_extension?;
        let bitmap = which.among(&self.found.bitmaps)?;
        match how {
            BitmapDamage::TableEntry { entry, becomes } => {
                self.point(entry.among(&bitmap.entries)?.at, becomes);
            }
            BitmapDamage::TableOffset(becomes) => self.point(bitmap.at, becomes),
            BitmapDamage::TableEntries(entries) => self.set32(bitmap.at + 8, entries),
            BitmapDamage::Flags(flags) => self.set32(bitmap.at + 12, flags),
            BitmapDamage::Count(count) => self.set32(extension, count),
            BitmapDamage::DirectorySize(size) => self.change(extension + 8, |_| size.into()),
            BitmapDamage::DirectoryOffset(becomes) => self.point(extension + 16, becomes),
        }
        Some(())
    }

    fn refblock(&mut self, which: Pick, how: RefblockDamage) -> Option<()> {
        let refblocks: Vec<&Entry> = self.found.refblocks().map(|(_, entry)| entry).collect();
        let at = which.among(&refblocks)?.value;
        let length = self.found.header.cluster_size() as usize;
        let bytes = match how {
            RefblockDamage::Zeroed => vec![0; length],
            RefblockDamage::Ones => vec![0xff; length],
            RefblockDamage::Random { seed } => random_bytes(seed, length),
            RefblockDamage::CopyOf { refblock } => {
                let other = refblock.among(&refblocks)?.value;
                self.image.bytes(other, length)
            }
            RefblockDamage::Scattered { seed } => {
                self.scatter(at, seed);
                return Some(());
            }
        };
        self.write(at, &bytes);
        Some(())
    }

    /// Changes up to 16 refcounts, more often those of the refblock's first clusters.
    fn scatter(&mut self, refblock: u64, seed: u32) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed.into());
        let refcounts = self.found.header.refblock_entries();
        let near = self.found.clusters().clamp(1, refcounts);
        for _ in 0..rng.random_range(1..=16) {
            let most = if rng.random_ratio(3, 4) {
                near
            } else {
                refcounts
            };
            let index = rng.random_range(0..most);
            let place = Refcount::new(self.found.header.refcount_order as u32, refblock, index);
            self.set_refcount(place, rng.random_range(0..5));
        }
    }

    fn set_refcount(&mut self, place: Refcount, value: u64) {
        let bytes = place.with(self.image, value);
        self.write(place.at, &bytes);
    }

    fn refcount(&mut self, among: Among, which: Pick, to: To) -> Option<()> {
        let found = self.found;
        let (order, per_refblock) = (
            found.header.refcount_order as u32,
            found.header.refblock_entries(),
        );
        let mut candidates = Vec::new();
        for (range, entry) in found.refblocks() {
            let first = range * per_refblock;
            let (from, until) = match among {
                Among::Allocated | Among::Free => (first, found.clusters()),
                // A handful is enough to choose from.
                Among::PastEnd => (found.clusters().max(first), found.clusters() + 64),
            };
            for cluster in from..until.min(first + per_refblock) {
                let place = Refcount::new(order, entry.value, cluster - first);
                let allocated = place.read(self.image) > 0;
                if among == Among::PastEnd || (among == Among::Allocated) == allocated {
                    candidates.push(place);
                }
            }
        }
        let place = *which.among(&candidates)?;
        let (value, most) = (place.read(self.image), refcount::largest(order));
        let value = match to {
            To::Zero => 0,
            To::Up => value.saturating_add(1).min(most),
            To::Down => value.saturating_sub(1),
            To::Max => most,
            To::Exactly(value) => value.into(),
        };
        self.set_refcount(place, value);
        Some(())
    }
}

/// As many random bytes as asked for, the same for the same seed.
pub(super) fn random_bytes(seed: u32, length: usize) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed.into());
    let mut bytes = vec![0; length];
    rng.fill(&mut bytes[..]);
    bytes
}
