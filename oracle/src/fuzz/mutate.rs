//! Changes a qcow2 image as a fuzzer wants it changed: by kind of structure, so that what comes out
//! is still opened and followed. Mostly a case's damage is done to it; beside that, what a case does
//! not do: extensions and entries where there are none, clusters that are copied, other lengths.

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::audit::{COMPRESSED, COPIED};
use crate::case::damage::{SparseBytes, apply, random_damage};
use crate::format::{BITMAPS, DATA_FILE_NAME, FEATURE_NAMES, LUKS_HEADER, MAGIC};

/// Bytes of a version 3 header as QEMU writes it.
const HEADER: usize = 112;
/// The smallest image that is worth changing: one cluster.
const SMALLEST: usize = 512;
/// Sizes of clusters, as binary logarithms: large ones leave little that fits into an input.
const CLUSTER_BITS: [u32; 10] = [9, 9, 9, 9, 9, 9, 10, 12, 14, 16];
/// Of so many images one may keep a table that is longer than the file: reading it takes as long as
/// thousands of others do.
const LONG_TABLES: u32 = 512;

/// Changes the image in the first `size` bytes of `data`, which may become as many as `data` has;
/// how many it has then. The same seed changes the same image in the same way.
pub fn mutate(data: &mut [u8], size: usize, seed: u32) -> usize {
    let mut rng = ChaCha8Rng::seed_from_u64(seed.into());
    let mut size = size.min(data.len());
    for _ in 0..rng.random_range(1..=3) {
        size = keep_plausible(data, size, &mut rng);
        if size < SMALLEST {
            break;
        }
        let image = &mut data[..size];
        match rng.random_range(0..24) {
            // A change of length is rare: it moves the end under everything.
            0 => size = length(data, size, &mut rng),
            1..=2 => extension(image, &mut rng),
            3..=4 => clusters(image, &mut rng),
            5..=9 => word(image, &mut rng),
            _ => size = damage(image, &mut rng),
        }
    }
    keep_plausible(data, size, &mut rng)
}

/// Does what damages cases.
fn damage(image: &mut [u8], rng: &mut ChaCha8Rng) -> usize {
    let mut damaged = SparseBytes::default();
    damaged.put(0, image);
    for act in random_damage(rng) {
        apply(&mut damaged, &act);
    }
    let damaged = damaged.bytes(0, image.len().min(damaged.len() as usize));
    image[..damaged.len()].copy_from_slice(&damaged);
    damaged.len()
}

/// Puts right what would end every run at the header; most of the time.
pub fn keep_plausible(data: &mut [u8], size: usize, rng: &mut ChaCha8Rng) -> usize {
    let mut size = size;
    if size < SMALLEST {
        if data.len() < SMALLEST {
            return size;
        }
        data[size..SMALLEST].fill(0);
        size = SMALLEST;
    }
    if rng.random_ratio(1, 64) {
        return size;
    }
    write(data, 0, 4, MAGIC);
    let version = read(data, 4, 4);
    if !(2..=3).contains(&version) {
        write(data, 4, 4, 3);
    }
    if !(9..=21).contains(&read(data, 20, 4)) {
        let bits = *CLUSTER_BITS.choose(rng).unwrap_or(&9);
        write(data, 20, 4, bits.into());
    }
    if read(data, 96, 4) > 6 {
        write(data, 96, 4, 4);
    }
    let cluster = 1 << read(data, 20, 4);
    if !(104..=cluster).contains(&read(data, 100, 4)) {
        write(data, 100, 4, HEADER as u64);
    }
    // Dirty, corrupt, external data file, compression type, extended L2 entries: those there are.
    let features = read(data, 72, 8);
    write(data, 72, 8, features & 0x1f);
    keep_tables_plausible(data, size, cluster, rng);
    size
}

/// Tables begin at clusters, and the L1 table is as long as the virtual disk needs.
fn keep_tables_plausible(data: &mut [u8], size: usize, cluster: u64, rng: &mut ChaCha8Rng) {
    let clusters = (size as u64 / cluster).max(2);
    let in_file = size as u64 / 64;
    for (at, count_at, most) in [(40, 36, in_file), (48, 56, clusters), (64, 60, 64)] {
        let offset = read(data, at, 8);
        if !offset.is_multiple_of(cluster) || offset >= 1 << 56 {
            let place = rng.random_range(1..clusters) * cluster;
            write(data, at, 8, place);
        }
        let count = read(data, count_at, 4);
        if count > most && !rng.random_ratio(1, LONG_TABLES) {
            write(data, count_at, 4, count % 64);
        }
    }
    let covered = cluster * (cluster / 8);
    let entries = read(data, 36, 4);
    if read(data, 24, 8).div_ceil(covered) > entries && rng.random_ratio(15, 16) {
        write(data, 24, 8, covered.saturating_mul(entries));
    }
}

/// Changes a word of the header or, mostly, of anything else, so that it can become an entry.
fn word(image: &mut [u8], rng: &mut ChaCha8Rng) {
    let (range, bytes) = if rng.random_ratio(1, 4) {
        (0..HEADER / 4, 4)
    } else {
        (0..image.len() / 8, 8)
    };
    let at = rng.random_range(range) * bytes;
    let old = read(image, at, bytes);
    let flags = old & (COPIED | COMPRESSED);
    let value = match rng.random_range(0..8) {
        0 => old ^ 1 << rng.random_range(0..bytes * 8),
        1 => old.wrapping_add(1),
        2 => old.wrapping_sub(1),
        3 => rng.random_range(0..16),
        4 => {
            let inside = place(image, rng).wrapping_add(rng.random_range(0..512));
            COMPRESSED | rng.random_range(0..4) << 56 | inside
        }
        5 => COPIED | place(image, rng),
        _ => flags | place(image, rng),
    };
    write(image, at, bytes, value);
}

/// An offset that an entry might have: mostly of a cluster of the file.
fn place(image: &[u8], rng: &mut ChaCha8Rng) -> u64 {
    let cluster = cluster_size(image) as u64;
    let clusters = (image.len() as u64 / cluster).max(1);
    match rng.random_range(0..12) {
        // The L1 table, and the reftable.
        0 => read(image, 40, 8),
        1 => read(image, 48, 8),
        2 => 0,
        // Just past the end, and far past it.
        3 => (clusters + rng.random_range(0..3)) * cluster,
        4 => 1 << rng.random_range(30..63),
        // Inside a cluster.
        5 => rng.random_range(0..clusters) * cluster + 512,
        _ => rng.random_range(0..clusters) * cluster,
    }
}

/// Header extensions begin after the header: a type, a length, and data.
fn extension(image: &mut [u8], rng: &mut ChaCha8Rng) {
    let at = read(image, 100, 4) as usize;
    let (kind, length) = *[
        (BITMAPS, 24),
        (LUKS_HEADER, 16),
        (FEATURE_NAMES, 48),
        (DATA_FILE_NAME, 8),
        (0, 0),
    ]
    .choose(rng)
    .unwrap_or(&(0, 0));
    if image.len() < at + 8 + 32 {
        return;
    }
    let how = rng.random_range(0..3);
    if how < 2 {
        write(image, at, 4, kind);
        write(image, at + 4, 4, length);
    }
    match how {
        0 => {
            // An external data file has a feature bit and a name.
            let features = read(image, 72, 8) & !(1 << 2);
            write(
                image,
                72,
                8,
                features | u64::from(kind == DATA_FILE_NAME) << 2,
            );
        }
        1 => {
            if kind == LUKS_HEADER {
                // An offset and a length, under its encryption method.
                write(image, 32, 4, 2);
                let place = place(image, rng);
                write(image, at + 8, 8, place);
                write(image, at + 16, 8, rng.random_range(0..2048));
            } else {
                write(image, at + 8, 8, rng.random_range(0..3_u64) << 32);
                write(image, at + 16, 8, rng.random_range(0..96));
                let place = place(image, rng);
                write(image, at + 24, 8, place);
            }
            // Bitmaps count only under the first autoclear bit.
            write(image, 88, 8, u64::from(kind == BITMAPS));
        }
        _ => {
            let field = at + rng.random_range(0..8_usize) * 4;
            write(image, field, 4, rng.random_range(0..128));
        }
    }
}

/// Copies, exchanges or clears a whole cluster.
fn clusters(image: &mut [u8], rng: &mut ChaCha8Rng) {
    let cluster = cluster_size(image);
    let count = image.len() / cluster;
    if count < 3 {
        return;
    }
    let from = rng.random_range(1..count) * cluster;
    let to = rng.random_range(1..count) * cluster;
    if rng.random_ratio(1, 4) {
        image[to..to + cluster].fill(0);
    } else {
        image.copy_within(from..from + cluster, to);
    }
}

/// Cuts the image short, lengthens it, or changes the odd bytes at its end that choose how it is
/// repaired.
fn length(data: &mut [u8], size: usize, rng: &mut ChaCha8Rng) -> usize {
    let cluster = cluster_size(data);
    let whole = size / SMALLEST * SMALLEST;
    let length = match rng.random_range(0..4) {
        0 => whole.saturating_sub(cluster).max(SMALLEST),
        1 => whole + cluster,
        _ => whole + rng.random_range(0..super::image::WAYS.len()),
    };
    let length = length.min(data.len());
    if length > size {
        data[size..length].fill(0);
    }
    length
}

/// Bytes of a cluster, of an image that says something plausible.
fn cluster_size(image: &[u8]) -> usize {
    1 << read(image, 20, 4).clamp(9, 21)
}

/// A big-endian number; 0 where there are no bytes.
pub fn read(bytes: &[u8], at: usize, count: usize) -> u64 {
    let field = at.checked_add(count).and_then(|end| bytes.get(at..end));
    field.map_or(0, |field| {
        field
            .iter()
            .fold(0, |sum, &byte| sum << 8 | u64::from(byte))
    })
}

/// Writes the low bytes of a number, big-endian, where there is room for them.
pub fn write(bytes: &mut [u8], at: usize, count: usize, value: u64) {
    let field = at.checked_add(count).and_then(|end| bytes.get_mut(at..end));
    if let Some(field) = field {
        field.copy_from_slice(&value.to_be_bytes()[8 - count..]);
    }
}
