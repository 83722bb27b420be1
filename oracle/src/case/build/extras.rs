//! The snapshot table, the bitmaps and the encryption header.

use super::allocator::Allocator;
use super::geometry::Sizes;
use super::guest::Guest;
use super::header::{Pointers, Region};
use super::{Counts, Piece, luks, stamp};
use crate::case::impossible::{Impossible, in_range};
use crate::case::synthetic::{Bitmap, Synthetic};

/// Most bytes of bits of one bitmap that qemu takes.
const BITMAP_BYTES_MAX: u64 = 512 << 20;
/// Bitmap type 1: dirty tracking.
const DIRTY_TRACKING: u8 = 1;
/// Bitmap table entry, bit 0: all ones, without a cluster.
const ALL_ONES: u64 = 1;

/// Where everything is put.
pub(super) struct Place<'a> {
    pub(super) sizes: &'a Sizes,
    pub(super) allocator: &'a mut Allocator,
    pub(super) counts: &'a mut Counts,
    pub(super) pieces: &'a mut Vec<Piece>,
}

impl Place<'_> {
    /// Clusters for these bytes, counted and, when they are known already, filled.
    fn region(&mut self, bytes: u64) -> Result<Region, Impossible> {
        let clusters = self.sizes.clusters(bytes);
        let first = self.allocator.take(clusters)?;
        for cluster in first..first + clusters {
            *self.counts.entry(cluster).or_default() += 1;
        }
        let offset = self.sizes.offset(first);
        Ok(Region { offset, bytes })
    }

    fn filled(&mut self, bytes: Vec<u8>) -> Result<Region, Impossible> {
        let region = self.region(bytes.len() as u64)?;
        let offset = region.offset;
        self.pieces.push(Piece { offset, bytes });
        Ok(region)
    }
}

/// Lays out the extras of an image and points the header at them.
pub(super) fn lay_out(
    image: &Synthetic,
    guest: &Guest,
    place: &mut Place<'_>,
    pointers: &mut Pointers,
) -> Result<(), Impossible> {
    if guest.layers.len() > 1 {
        let table = snapshot_table(image, guest, place.sizes);
        pointers.snapshots = guest.layers.len() as u64 - 1;
        pointers.snapshots_offset = place.filled(table)?.offset;
    }
    if image.luks {
        let region = place.region(luks::LENGTH)?;
        let (offset, bytes) = (region.offset, luks::bytes());
        place.pieces.push(Piece { offset, bytes });
        pointers.luks = Some(region);
    }
    let mut directory = Vec::new();
    for (number, bitmap) in image.bitmaps.iter().enumerate() {
        let (table, entries) = bitmap_table(image, number, *bitmap, place)?;
        directory.extend(directory_entry(number, *bitmap, table, entries));
    }
    if !directory.is_empty() {
        pointers.bitmap_directory = Some(place.filled(directory)?);
    }
    Ok(())
}

/// The snapshot table (specification, "Snapshots").
fn snapshot_table(image: &Synthetic, guest: &Guest, sizes: &Sizes) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, layer) in guest.layers.iter().enumerate().skip(1) {
        let id = number.to_string();
        let name = format!("snapshot {number}");
        let mut extra = Vec::new();
        if image.version == 3 {
            extra.extend_from_slice(&0_u64.to_be_bytes()); // VM state size.
            extra.extend_from_slice(&image.virtual_size().to_be_bytes());
        }
        out.extend_from_slice(&sizes.offset(layer.l1_cluster).to_be_bytes());
        out.extend_from_slice(&(guest.l1_entries as u32).to_be_bytes());
        out.extend_from_slice(&(id.len() as u16).to_be_bytes());
        out.extend_from_slice(&(name.len() as u16).to_be_bytes());
        out.extend_from_slice(&[0; 20]); // Date, VM clock, VM state size.
        out.extend_from_slice(&(extra.len() as u32).to_be_bytes());
        out.extend_from_slice(&extra);
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(name.as_bytes());
        out.resize(out.len().next_multiple_of(8), 0);
    }
    out
}

/// A bitmap's clusters and its table; gives where the table is and how many entries it has.
fn bitmap_table(
    image: &Synthetic,
    number: usize,
    bitmap: Bitmap,
    place: &mut Place<'_>,
) -> Result<(Region, u64), Impossible> {
    let bits = image.virtual_size().div_ceil(1 << bitmap.granularity_bits);
    let entries = place.sizes.clusters(bits.div_ceil(8));
    let most = BITMAP_BYTES_MAX / place.sizes.cluster;
    in_range("a bitmap table's number of entries", entries, 1, most)?;
    let named = u64::from(bitmap.clusters) + u64::from(bitmap.all_ones);
    if named > entries {
        return Err(Impossible::BitmapTooSmall {
            bitmap: number,
            named,
            entries,
        });
    }
    let mut table = Vec::new();
    for entry in 0..bitmap.clusters {
        let cluster = place.region(place.sizes.cluster)?.offset / place.sizes.cluster;
        let label = (number as u64) << 32 | u64::from(entry);
        stamp(place.pieces, place.sizes, cluster, "bitmap", label);
        table.extend(place.sizes.offset(cluster).to_be_bytes());
    }
    for _ in 0..bitmap.all_ones {
        table.extend(ALL_ONES.to_be_bytes());
    }
    let region = place.region(entries * 8)?;
    let (offset, bytes) = (region.offset, table);
    place.pieces.push(Piece { offset, bytes });
    Ok((region, entries))
}

/// An entry of the bitmap directory (specification, "Bitmaps").
fn directory_entry(number: usize, bitmap: Bitmap, table: Region, entries: u64) -> Vec<u8> {
    let name = format!("bitmap {number}");
    let mut out = table.offset.to_be_bytes().to_vec();
    out.extend_from_slice(&(entries as u32).to_be_bytes());
    out.extend_from_slice(&0_u32.to_be_bytes()); // Flags.
    out.push(DIRTY_TRACKING);
    out.push(bitmap.granularity_bits as u8);
    out.extend_from_slice(&(name.len() as u16).to_be_bytes());
    out.extend_from_slice(&0_u32.to_be_bytes()); // Extra data.
    out.extend_from_slice(name.as_bytes());
    out.resize(out.len().next_multiple_of(8), 0);
    out
}
