//! The snapshot table, the bitmaps and the encryption header.

use super::guest::Guest;
use super::header::Pointers;
use super::synthetic::Builder;
use super::{fields, luks};
use crate::case::synthetic::Bitmap;
use crate::case::validate::{Impossible, in_range};
use crate::format::{ALL_ONES, BITMAP_BYTES_MAX};

/// Bitmap type 1: dirty tracking.
const DIRTY_TRACKING: u64 = 1;

/// Lays out the extras of an image and points the header at them.
pub(super) fn lay_out(
    builder: &mut Builder<'_>,
    guest: &Guest,
    pointers: &mut Pointers,
) -> Result<(), Impossible> {
    if guest.layers.len() > 1 {
        let table = builder.snapshot_table(guest);
        pointers.snapshots = guest.layers.len() as u64 - 1;
        pointers.snapshots_offset = builder.filled(&table)?;
    }
    if builder.image.luks {
        let offset = builder.region(luks::LENGTH)?;
        builder.bytes.put(offset, &luks::bytes());
        pointers.luks = Some((offset, luks::LENGTH));
    }
    let mut directory = Vec::new();
    for (number, bitmap) in (0..).zip(&builder.image.bitmaps) {
        directory.extend(builder.bitmap(number, *bitmap)?);
    }
    if !directory.is_empty() {
        let offset = builder.filled(&directory)?;
        pointers.bitmap_directory = Some((offset, directory.len() as u64));
    }
    Ok(())
}

impl Builder<'_> {
    /// Clusters for so many bytes, counted; the byte at which they begin.
    fn region(&mut self, bytes: u64) -> Result<u64, Impossible> {
        let clusters = self.sizes.clusters(bytes);
        let first = self.allocator.take(clusters)?;
        (first..first + clusters).for_each(|cluster| self.refer(cluster));
        Ok(self.sizes.offset(first))
    }

    /// The same, for these bytes.
    fn filled(&mut self, bytes: &[u8]) -> Result<u64, Impossible> {
        let offset = self.region(bytes.len() as u64)?;
        self.bytes.put(offset, bytes);
        Ok(offset)
    }

    /// The snapshot table (specification, "Snapshots").
    fn snapshot_table(&self, guest: &Guest) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, layer) in guest.layers.iter().enumerate().skip(1) {
            let (id, name) = (number.to_string(), format!("snapshot {number}"));
            let extra: &[u8] = &match self.image.version {
                2 => Vec::new(),
                _ => fields([(0, 8), (self.image.virtual_size(), 8)]), // VM state size, disk size.
            };
            out.extend(fields([
                (self.sizes.offset(layer.l1_cluster), 8),
                (guest.l1_entries, 4),
                (id.len() as u64, 2),
                (name.len() as u64, 2),
                (0, 8), // Date.
                (0, 8), // VM clock.
                (0, 4), // VM state size.
                (extra.len() as u64, 4),
            ]));
            out.extend([extra, id.as_bytes(), name.as_bytes()].concat());
            out.resize(out.len().next_multiple_of(8), 0);
        }
        out
    }

    /// Writes a bitmap's clusters and its table; gives its entry of the bitmap directory
    /// (specification, "Bitmaps").
    fn bitmap(&mut self, number: u64, bitmap: Bitmap) -> Result<Vec<u8>, Impossible> {
        let bits = self.image.virtual_size();
        let bits = bits.div_ceil(1 << bitmap.granularity_bits);
        let entries = self.sizes.clusters(bits.div_ceil(8));
        let most = BITMAP_BYTES_MAX / self.sizes.cluster;
        in_range("a bitmap table's number of entries", entries, 1, most)?;
        let named = u64::from(bitmap.clusters) + u64::from(bitmap.all_ones);
        in_range("a bitmap's number of named entries", named, 0, entries)?;
        let mut table = Vec::new();
        for entry in 0..bitmap.clusters {
            let offset = self.region(self.sizes.cluster)?;
            let label = number << 32 | u64::from(entry);
            self.stamp(offset >> self.sizes.cluster_bits, "bitmap", label);
            table.extend(offset.to_be_bytes());
        }
        for _ in 0..bitmap.all_ones {
            table.extend(ALL_ONES.to_be_bytes());
        }
        let offset = self.region(entries * 8)?;
        self.bytes.put(offset, &table);
        let name = format!("bitmap {number}");
        let mut out = fields([
            (offset, 8),
            (entries, 4),
            (0, 4), // Flags.
            (DIRTY_TRACKING, 1),
            (bitmap.granularity_bits.into(), 1),
            (name.len() as u64, 2),
            (0, 4), // Extra data.
        ]);
        out.extend(name.as_bytes());
        out.resize(out.len().next_multiple_of(8), 0);
        Ok(out)
    }
}
