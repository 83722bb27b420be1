//! Changes one entry of a table, or one refcount.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::view::{OFFSET, Table, View};
use super::{read, write};

const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;

/// Changes an entry: mostly one that is not 0, sometimes any.
pub(super) fn table_entry(image: &mut [u8], view: &View, table: Table, rng: &mut ChaCha8Rng) {
    let used = view.any_used(image, table, rng);
    let any = table
        .at
        .saturating_add(rng.random_range(0..table.entries.max(1)) * 8);
    let at = match used {
        Some(at) if rng.random_ratio(7, 8) => at,
        _ => any,
    };
    if at >= image.len() {
        return;
    }
    // The second word of an extended entry is 32 bits of zero and 32 of allocated subclusters.
    if table.extended && (at.wrapping_sub(table.at)) % 16 == 8 {
        let bits = match rng.random_range(0..4) {
            0 => 0,
            1 => u64::MAX,
            2 => u64::from(u32::MAX) << 32,
            _ => read(image, at, 8) ^ 1 << rng.random_range(0..64),
        };
        return write(image, at, 8, bits);
    }
    let old = read(image, at, 8);
    let new = changed(old, view, rng);
    write(image, at, 8, new);
}

fn changed(old: u64, view: &View, rng: &mut ChaCha8Rng) -> u64 {
    let flags = old & !OFFSET;
    match rng.random_range(0..10) {
        0 => old ^ COPIED,
        1 => old ^ 1 << rng.random_range(0..64),
        2 => ZERO,
        3 => old ^ ZERO,
        4 => 0,
        5 => compressed(view, rng),
        6 => old.wrapping_add(1 << view.cluster_bits),
        _ => flags | view.any_place(rng),
    }
}

/// An entry of compressed data somewhere in the file.
fn compressed(view: &View, rng: &mut ChaCha8Rng) -> u64 {
    let sector_bits = view.cluster_bits - 8;
    let sectors = rng.random_range(0..1_u64 << sector_bits);
    let place = view.any_place(rng).wrapping_add(rng.random_range(0..512));
    COMPRESSED | sectors << (62 - sector_bits) | place & ((1 << (62 - sector_bits)) - 1)
}

/// Changes a refcount in a refblock that the reftable leads to.
pub(super) fn refcount(image: &mut [u8], view: &View, rng: &mut ChaCha8Rng) {
    let Some(entry) = view.any_used(image, view.reftable, rng) else {
        return;
    };
    let refblock = (read(image, entry, 8) & OFFSET) as usize;
    let width = 1_u32 << view.refcount_order.min(6);
    // Mostly clusters that the file has.
    let clusters = (image.len() >> view.cluster_bits).max(1);
    let covered = (8_usize << view.cluster_bits) / width as usize;
    let most = if rng.random_ratio(7, 8) {
        clusters.min(covered)
    } else {
        covered
    };
    let index = rng.random_range(0..most);
    let max = u64::MAX >> (64 - width);
    let count = match rng.random_range(0..5) {
        0 => 0,
        1 => 1,
        2 => 2.min(max),
        3 => max,
        _ => rng.random_range(0..=max),
    };
    if width >= 8 {
        let bytes = (width / 8) as usize;
        return write(image, refblock.saturating_add(index * bytes), bytes, count);
    }
    // Narrow counts fill a byte from its low bits up.
    let bit = index * width as usize;
    let at = refblock.saturating_add(bit / 8);
    let byte = read(image, at, 1);
    let shift = bit % 8;
    write(image, at, 1, byte & !(max << shift) | count << shift);
}
