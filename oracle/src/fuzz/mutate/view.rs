//! Where the tables of an image are, as far as that can be told.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::read;

/// The host offset in an entry of an L1 or L2 table.
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Most entries of a table that are looked at.
const ENTRIES_MAX: usize = 1 << 16;
/// The header's field of incompatible features, and its bit for extended L2 entries.
const EXTENDED_L2: (usize, u64) = (72, 1 << 4);

/// A table of 64-bit entries.
#[derive(Clone, Copy)]
pub(super) struct Table {
    /// Byte position in the image.
    pub at: usize,
    /// How many entries.
    pub entries: usize,
    /// Whether every second word is a subcluster bitmap.
    pub extended: bool,
}

/// The tables.
pub(super) struct View {
    pub cluster_bits: u32,
    pub refcount_order: u32,
    pub l1: Table,
    pub reftable: Table,
    /// Byte position of the snapshot table.
    pub snapshots: Option<usize>,
    /// Byte position of the bitmap directory.
    pub bitmaps: Option<usize>,
    extended: bool,
    length: usize,
}

impl View {
    /// `None` where the header makes no sense.
    pub fn of(image: &[u8]) -> Option<Self> {
        if image.len() < super::SMALLEST {
            return None;
        }
        let cluster_bits = u32::try_from(read(image, 20, 4)).ok()?;
        if !(9..=21).contains(&cluster_bits) {
            return None;
        }
        let version_3 = read(image, 4, 4) == 3;
        let extended = version_3 && read(image, EXTENDED_L2.0, 8) & EXTENDED_L2.1 != 0;
        let table = |at: usize, entries: u64| Table {
            at: read(image, at, 8) as usize,
            entries: (entries as usize).min(ENTRIES_MAX),
            extended: false,
        };
        let reftable_entries = read(image, 56, 4) << (cluster_bits - 3);
        let snapshots = (read(image, 60, 4) > 0).then(|| read(image, 64, 8) as usize);
        Some(Self {
            cluster_bits,
            refcount_order: if version_3 {
                read(image, 96, 4) as u32 & 7
            } else {
                4
            },
            l1: table(40, read(image, 36, 4)),
            reftable: table(48, reftable_entries),
            snapshots,
            bitmaps: bitmap_directory(image),
            extended,
            length: image.len(),
        })
    }

    /// One of the L2 tables that the active L1 table leads to.
    pub fn any_l2(&self, image: &[u8], rng: &mut ChaCha8Rng) -> Option<Table> {
        let at = self.any_used(image, self.l1, rng)?;
        Some(Table {
            at: (read(image, at, 8) & OFFSET) as usize,
            entries: 1 << (self.cluster_bits - 3),
            extended: self.extended,
        })
    }

    /// The byte position of an entry that is not 0.
    pub fn any_used(&self, image: &[u8], table: Table, rng: &mut ChaCha8Rng) -> Option<usize> {
        let present = table.entries.min(self.length.saturating_sub(table.at) / 8);
        if present == 0 {
            return None;
        }
        let start = rng.random_range(0..present);
        let places = (start..present)
            .chain(0..start)
            .map(|index| table.at + index * 8);
        { places }.find(|&at| read(image, at, 8) != 0)
    }

    /// An offset that an entry might have: mostly of a cluster of the file.
    pub fn any_place(&self, rng: &mut ChaCha8Rng) -> u64 {
        let clusters = (self.length as u64 >> self.cluster_bits).max(1);
        match rng.random_range(0..12) {
            0 => self.l1.at as u64,
            1 => self.reftable.at as u64,
            2 => 0,
            // Just past the end, and far past it.
            3 => (clusters + rng.random_range(0..3)) << self.cluster_bits,
            4 => 1 << rng.random_range(30..63),
            // Inside a cluster.
            5 => (rng.random_range(0..clusters) << self.cluster_bits) + 512,
            _ => rng.random_range(0..clusters) << self.cluster_bits,
        }
    }
}

/// Where the extension for bitmaps says that their directory is.
fn bitmap_directory(image: &[u8]) -> Option<usize> {
    const BITMAPS: u64 = 0x2385_2875;
    let mut at = read(image, 100, 4) as usize;
    while at + 32 <= image.len() {
        let (kind, length) = (read(image, at, 4), read(image, at + 4, 4));
        match kind {
            0 => return None,
            BITMAPS => return Some(read(image, at + 24, 8) as usize),
            _ => at += 8 + (length as usize).next_multiple_of(8),
        }
    }
    None
}
