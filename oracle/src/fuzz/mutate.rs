//! Changes a qcow2 image as a fuzzer wants it changed: by kind of structure, so that what comes out
//! is still opened and followed. Numbers of its own, like everything in the oracle.

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

mod entry;
mod view;

use entry::{refcount, table_entry};
use view::{Table, View};

/// "QFI\xfb".
const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Bytes of a version 3 header as QEMU writes it.
const HEADER: usize = 112;
/// The smallest image that is worth changing: one cluster.
const SMALLEST: usize = 512;
/// Sizes of clusters, as binary logarithms: large ones leave little that fits into an input.
const CLUSTER_BITS: [u32; 10] = [9, 9, 9, 9, 9, 9, 10, 12, 14, 16];

/// Of so many images one may keep a table that is longer than the file: reading it takes as long as
/// thousands of others do.
const LONG_TABLES: u32 = 512;

/// A header field: where it is, and its bytes.
type Field = (usize, usize);

/// Header fields whose values the format leaves open.
const FIELDS: [Field; 14] = [
    (8, 8),   // backing file: offset
    (16, 4),  // backing file: length of its name
    (24, 8),  // virtual size
    (32, 4),  // encryption
    (36, 4),  // L1 table: entries
    (40, 8),  // L1 table: offset
    (48, 8),  // reftable: offset
    (56, 4),  // reftable: clusters
    (60, 4),  // snapshots: count
    (64, 8),  // snapshot table: offset
    (72, 8),  // incompatible features
    (80, 8),  // compatible features
    (88, 8),  // autoclear features
    (100, 4), // header length
];

/// What is changed.
#[derive(Clone, Copy)]
enum Kind {
    HeaderField,
    Extension,
    L1,
    L2,
    Reftable,
    Refcount,
    Snapshot,
    Bitmap,
    Clusters,
    Length,
}

/// Kinds, those more often that lead deeper.
const KINDS: [Kind; 16] = [
    Kind::HeaderField,
    Kind::HeaderField,
    Kind::Extension,
    Kind::L1,
    Kind::L1,
    Kind::L2,
    Kind::L2,
    Kind::L2,
    Kind::L2,
    Kind::Reftable,
    Kind::Reftable,
    Kind::Refcount,
    Kind::Refcount,
    Kind::Snapshot,
    Kind::Bitmap,
    Kind::Clusters,
];

/// Changes the image in the first `size` bytes of `data`, which may become as many as `data` has;
/// how many it has then. The same seed changes the same image in the same way.
#[must_use]
pub fn mutate(data: &mut [u8], size: usize, seed: u32) -> usize {
    let mut rng = ChaCha8Rng::seed_from_u64(seed.into());
    let mut size = size.min(data.len());
    for _ in 0..rng.random_range(1..=4) {
        // A change of length is rare: it moves the end under everything.
        let kind = if rng.random_ratio(1, 24) {
            Kind::Length
        } else {
            *KINDS.choose(&mut rng).unwrap_or(&Kind::L2)
        };
        size = change(kind, data, size, &mut rng);
    }
    keep_plausible(data, size, &mut rng)
}

/// Puts right what would end every run at the header; most of the time.
#[must_use]
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
    data[..4].copy_from_slice(&MAGIC);
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

fn change(kind: Kind, data: &mut [u8], size: usize, rng: &mut ChaCha8Rng) -> usize {
    let Some(view) = View::of(&data[..size]) else {
        return keep_plausible(data, size, rng);
    };
    let image = &mut data[..size];
    match kind {
        Kind::HeaderField => header_field(image, &view, rng),
        Kind::Extension => extension(image, &view, rng),
        Kind::L1 => table_entry(image, &view, view.l1, rng),
        Kind::L2 => {
            if let Some(table) = view.any_l2(image, rng) {
                table_entry(image, &view, table, rng);
            }
        }
        Kind::Reftable => table_entry(image, &view, view.reftable, rng),
        Kind::Refcount => refcount(image, &view, rng),
        Kind::Snapshot => snapshot(image, &view, rng),
        Kind::Bitmap => bitmap(image, &view, rng),
        Kind::Clusters => clusters(image, &view, rng),
        Kind::Length => return length(data, size, &view, rng),
    }
    size
}

fn header_field(image: &mut [u8], view: &View, rng: &mut ChaCha8Rng) {
    let (at, bytes) = *FIELDS.choose(rng).unwrap_or(&FIELDS[0]);
    let old = read(image, at, bytes);
    let value = match rng.random_range(0..6) {
        0 => old ^ 1 << rng.random_range(0..bytes * 8),
        1 => old.wrapping_add(1),
        2 => old.wrapping_sub(1),
        3 => view.any_place(rng),
        // Known features are in the lowest bits.
        _ if bytes == 8 && (72..96).contains(&at) => old ^ 1 << rng.random_range(0..5),
        4 => rng.random_range(0..16),
        _ => 1 << rng.random_range(0..bytes * 8),
    };
    write(image, at, bytes, value);
    if rng.random_ratio(1, 8) {
        write(image, 96, 4, rng.random_range(0..=6));
    }
}

/// Header extensions begin after the header: a type, a length, and data.
fn extension(image: &mut [u8], view: &View, rng: &mut ChaCha8Rng) {
    const BITMAPS: u64 = 0x2385_2875;
    const LUKS: u64 = 0x0537_be77;
    const NAMES: u64 = 0x6803_f857;
    const DATA_FILE: u64 = 0x4441_5441;
    let at = read(image, 100, 4) as usize;
    let (kind, length) = *[
        (BITMAPS, 24),
        (LUKS, 16),
        (NAMES, 48),
        (DATA_FILE, 8),
        (0, 0),
    ]
    .choose(rng)
    .unwrap_or(&(0, 0));
    if image.len() < at + 8 + 32 {
        return;
    }
    match rng.random_range(0..3) {
        0 => {
            write(image, at, 4, kind);
            write(image, at + 4, 4, length);
            // An external data file has a feature bit and a name.
            let features = read(image, 72, 8) & !(1 << 2);
            write(image, 72, 8, features | u64::from(kind == DATA_FILE) << 2);
        }
        1 => {
            write(image, at, 4, kind);
            write(image, at + 4, 4, length);
            if kind == LUKS {
                // An offset and a length, under its encryption method.
                write(image, 32, 4, 2);
                write(image, at + 8, 8, view.any_place(rng));
                write(image, at + 16, 8, rng.random_range(0..2048));
            } else {
                write(image, at + 8, 8, rng.random_range(0..3_u64) << 32);
                write(image, at + 16, 8, rng.random_range(0..96));
                write(image, at + 24, 8, view.any_place(rng));
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

/// The fixed part of a snapshot table entry is 40 bytes; its L1 table and sizes matter.
fn snapshot(image: &mut [u8], view: &View, rng: &mut ChaCha8Rng) {
    let Some(at) = view
        .snapshots
        .filter(|at| *at <= image.len().saturating_sub(72))
    else {
        return;
    };
    match rng.random_range(0..6) {
        0 => write(image, at, 8, view.any_place(rng)),
        1 => write(image, at, 8, view.l1.at as u64),
        2 => write(image, at + 8, 4, rng.random_range(0..64)),
        3 => write(image, at + 8, 4, 1 << rng.random_range(0..32)),
        4 => write(image, at + 12, 4, rng.random()),
        _ => write(
            image,
            at + 36,
            4,
            *[0, 8, 16, 24, 1024, 1032].choose(rng).unwrap_or(&16),
        ),
    }
}

/// A word of what the bitmap extension leads to, or of what that leads to.
fn bitmap(image: &mut [u8], view: &View, rng: &mut ChaCha8Rng) {
    let Some(directory) = view
        .bitmaps
        .filter(|at| at.saturating_add(24) <= image.len())
    else {
        return;
    };
    let table = read(image, directory, 8) as usize;
    if rng.random_ratio(1, 2) && table != 0 && table.saturating_add(64) <= image.len() {
        let table = Table {
            at: table,
            entries: 8,
            extended: false,
        };
        return table_entry(image, view, table, rng);
    }
    match rng.random_range(0..4) {
        0 => write(image, directory, 8, view.any_place(rng)),
        1 => write(image, directory + 8, 4, rng.random_range(0..9)),
        2 => write(image, directory + 12, 4, rng.random_range(0..8)),
        _ => write(
            image,
            directory + rng.random_range(16..24_usize),
            1,
            rng.random_range(0..40),
        ),
    }
}

/// Copies, exchanges or clears a whole cluster.
fn clusters(image: &mut [u8], view: &View, rng: &mut ChaCha8Rng) {
    let cluster = 1 << view.cluster_bits;
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
fn length(data: &mut [u8], size: usize, view: &View, rng: &mut ChaCha8Rng) -> usize {
    let cluster = 1 << view.cluster_bits;
    let whole = size / SMALLEST * SMALLEST;
    let length = match rng.random_range(0..4) {
        0 => whole.saturating_sub(cluster).max(SMALLEST),
        1 => whole + cluster,
        _ => whole + rng.random_range(0..super::image::WAYS.len()),
    }
    .min(data.len());
    if length > size {
        data[size..length].fill(0);
    }
    length
}

/// A big-endian number; 0 where there are no bytes.
fn read(bytes: &[u8], at: usize, count: usize) -> u64 {
    let field = at.checked_add(count).and_then(|end| bytes.get(at..end));
    field.map_or(0, |field| {
        field
            .iter()
            .fold(0, |sum, &byte| sum << 8 | u64::from(byte))
    })
}

/// Writes the low bytes of a number, big-endian, where there is room for them.
fn write(bytes: &mut [u8], at: usize, count: usize, value: u64) {
    let field = at.checked_add(count).and_then(|end| bytes.get_mut(at..end));
    if let Some(field) = field {
        field.copy_from_slice(&value.to_be_bytes()[8 - count..]);
    }
}
