//! What the builder lays out is what the format says. Images of every kind, from a few hundred
//! seeds: the same seed gives the same bytes, and qemu-img, where it is installed, finds nothing
//! wrong with any that has its refcount structures.

mod common;

use common::{Scratch, from_seed, qemu_img_check};
use recount_oracle::case::build::lay_out;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::synthetic::{Structures, Synthetic};
use recount_oracle::case::{Image, StorageLimit};

const SEEDS: u64 = 400;

#[test]
fn the_same_value_gives_the_same_bytes() {
    for seed in 0..SEEDS {
        let image = Image::Synthetic(from_seed(seed));
        let [first, second] = [(); 2].map(|()| {
            let mut bytes = SparseBytes::default();
            let layout = lay_out(&image).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            layout.write(StorageLimit::Growing, &mut bytes).unwrap();
            bytes
        });
        assert!(first == second, "seed {seed} gives different bytes");
        assert_eq!(first.bytes(0, 4), b"QFI\xfb", "seed {seed}");
    }
}

#[test]
fn qemu_img_finds_nothing_wrong_with_what_is_built() {
    let scratch = Scratch::new();
    let mut checked = 0;
    for seed in 0..SEEDS {
        let mut image: Synthetic = from_seed(seed);
        // Without structures there is nothing to find right. An encrypted image wants its key; it
        // is checked without encryption.
        image.structures = match image.structures {
            Structures::Absent => Structures::default(),
            correct @ Structures::Correct { .. } => correct,
        };
        image.luks = false;
        let layout = lay_out(&Image::Synthetic(image.clone())).unwrap();
        let mut file = scratch.file("image.qcow2");
        layout.write(StorageLimit::Growing, &mut file).unwrap();
        let Some(check) = qemu_img_check(&scratch.path("image.qcow2")) else {
            eprintln!("qemu-img is not installed: images are built and not checked");
            assert!(file.metadata().unwrap().len() > 0);
            continue;
        };
        assert_eq!(
            check.exit,
            Some(0),
            "seed {seed}: {image:?}\n{}",
            check.stderr
        );
        checked += 1;
    }
    assert!(checked == SEEDS || checked == 0);
}
