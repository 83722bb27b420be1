//! Recipes from a random number generator: every kind of image, each a few clusters of data, so
//! that making and checking one takes milliseconds.

use rand::{Rng, RngExt};

use super::{Kind, Preallocation, Recipe, Step};

/// A recipe that qemu makes.
pub fn random_recipe(rng: &mut impl Rng) -> Recipe {
    let cluster_bits = match rng.random_range(0..10) {
        0..=3 => 9,
        4 => 16,
        5..=6 => rng.random_range(10..=13),
        _ => rng.random_range(9..=21),
    };
    let kind = match rng.random_range(0..60) {
        0 => Kind::Luks,
        1..=8 => Kind::Backing,
        9..=14 => Kind::DataFile,
        _ => Kind::Plain,
    };
    let mut recipe = Recipe {
        cluster_bits,
        refcount_order: match rng.random_range(0..3) {
            0 => 4,
            _ => rng.random_range(0..=6),
        },
        version_2: rng.random_ratio(1, 8),
        virtual_clusters: virtual_clusters(rng, cluster_bits),
        short_by: if rng.random_ratio(1, 4) {
            rng.random()
        } else {
            0
        },
        zstd: rng.random_ratio(1, 3),
        extended_l2: rng.random_ratio(1, 3),
        lazy_refcounts: rng.random_ratio(1, 5),
        kind,
        preallocation: match rng.random_range(0..16) {
            0..=1 => Preallocation::Metadata,
            2 => Preallocation::Falloc,
            3 => Preallocation::Full,
            _ => Preallocation::Off,
        },
        steps: Vec::new(),
    };
    if kind == Kind::Luks {
        // Creating an encrypted image takes qemu-img seconds, so that there are few different ones,
        // which differ only in what then happens to them.
        recipe = Recipe {
            cluster_bits: if rng.random() { 9 } else { 16 },
            refcount_order: if rng.random() { 4 } else { 6 },
            virtual_clusters: 100,
            kind,
            ..Recipe::default()
        };
    }
    // Preallocated megabytes would take longer than everything else together.
    if u64::from(recipe.virtual_clusters) << cluster_bits > 4 << 20 {
        recipe.preallocation = Preallocation::Off;
    }
    let steps = rng.random_range(1..=12);
    // qemu-img's repair rewrites bitmaps, so that little can be compared in an image with some.
    let bitmaps = rng.random_ratio(1, 5);
    recipe.steps = (0..steps).map(|_| step(rng, &recipe, bitmaps)).collect();
    recipe.settled()
}

/// Small disks; now and then one of several L2 tables.
fn virtual_clusters(rng: &mut impl Rng, cluster_bits: u32) -> u32 {
    let several_tables = cluster_bits <= 13 || rng.random_ratio(1, 6);
    if several_tables && rng.random_ratio(1, 2) {
        let per_table = 1 << (cluster_bits - 3);
        let most = (4 * per_table).min(1 << 20);
        return rng.random_range(per_table..=most);
    }
    rng.random_range(1..=48)
}

fn step(rng: &mut impl Rng, recipe: &Recipe, bitmaps: bool) -> Step {
    let cluster = rng.random_range(0..recipe.virtual_clusters);
    let number = rng.random_range(0..3);
    match rng.random_range(0..32) {
        0..=10 => Step::Write {
            cluster,
            skip: if rng.random() { 0 } else { rng.random() },
            sectors: write_sectors(rng, recipe),
            pattern: rng.random_range(1..=255),
        },
        11..=16 => Step::Compressed {
            cluster,
            pattern: rng.random_range(1..=255),
        },
        17..=19 => Step::Zeroes {
            cluster,
            clusters: rng.random_range(0..4),
            unmap: rng.random(),
        },
        20..=21 => Step::Discard {
            cluster,
            clusters: rng.random_range(0..4),
        },
        26 => Step::DeleteSnapshot(number),
        27 => Step::ApplySnapshot(number),
        28..=29 if bitmaps => Step::Bitmap(number),
        30 if bitmaps => Step::RemoveBitmap(number),
        22..=25 | 28..=30 => Step::Snapshot(number),
        _ => Step::Kill,
    }
}

/// Up to a dozen small clusters, but never more than 64 KiB.
fn write_sectors(rng: &mut impl Rng, recipe: &Recipe) -> u16 {
    let cluster = 1_u16 << (recipe.cluster_bits - 9).min(7);
    let clusters = rng.random_range(1..=12);
    match rng.random_range(0..3) {
        0 => rng.random_range(0..16),
        _ => cluster.saturating_mul(clusters).min(128) - 1,
    }
}
