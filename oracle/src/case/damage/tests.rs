//! Damage is deterministic, says what it changed, and bears any bytes at all.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::act::random_bytes;
use super::{Applied, Damage, ReftableDamage, SparseBytes, apply, random_damage};
use crate::case::synthetic::{Content, Run, Synthetic};
use crate::case::{Image, build};

/// A cluster of data and one of zeros, in clusters of 512 bytes.
fn small_image() -> SparseBytes {
    let run = |content| Run {
        skip: 0,
        clusters: 1,
        content,
    };
    let image = Synthetic {
        cluster_bits: 9,
        guest: vec![run(Content::Data), run(Content::Zero)],
        ..Synthetic::default()
    };
    build::image(&Image::Synthetic(image)).unwrap()
}

fn undo(image: &mut SparseBytes, applied: &Applied) {
    for change in applied.changes.iter().rev() {
        image.put(change.at, &change.before);
    }
}

#[test]
fn damage_is_deterministic_and_names_every_byte_it_changed() {
    let mut effects = 0;
    for seed in 0..2_000 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for damage in random_damage(&mut rng) {
            let (mut first, mut second) = (small_image(), small_image());
            let applied = apply(&mut first, &damage);
            assert_eq!(apply(&mut second, &damage), applied);
            assert_eq!(first, second, "{damage:?}");
            effects += usize::from(!applied.is_nothing());
            undo(&mut first, &applied);
            assert_eq!(first, small_image(), "{damage:?}");
        }
    }
    assert!(effects > 500, "only {effects} acts of damage had an effect");
}

#[test]
fn damage_bears_any_bytes() {
    for seed in 0..3_000 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed.into());
        let mut image = small_image();
        for _ in 0..rng.random_range(0..6) {
            let at = rng.random_range(0..image.len());
            image.put(at, &[rng.random()]);
        }
        for damage in random_damage(&mut rng) {
            apply(&mut image, &damage);
        }
        let mut noise = SparseBytes::default();
        noise.put(0, &random_bytes(seed, 700));
        let gone = Damage::Reftable(ReftableDamage::Gone);
        assert!(apply(&mut noise, &gone).is_nothing());
    }
}

#[test]
fn a_reftable_that_is_gone_leaves_offset_and_clusters_zero() {
    let mut image = small_image();
    apply(&mut image, &Damage::Reftable(ReftableDamage::Gone));
    assert_eq!(image.bytes(48, 12), [0; 12]);
}
