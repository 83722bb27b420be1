//! What the builder lays out is what the format says. Images of every kind, from a few hundred
//! seeds: the same seed gives the same bytes, and qemu-img, where it is installed, finds nothing
//! wrong with any that has its refcount structures.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output};

use arbitrary::{Arbitrary, Unstructured};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use recount_oracle::case::build::lay_out;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::synthetic::{Structures, Synthetic};
use recount_oracle::case::{Image, StorageLimit};

const SEEDS: u64 = 400;

fn synthetic(seed: u64) -> Synthetic {
    let mut bytes = vec![0; 4096];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    Synthetic::arbitrary(&mut Unstructured::new(&bytes)).unwrap()
}

/// `None` without qemu-img.
fn check(image: &Path) -> Option<Output> {
    let mut command = Command::new("qemu-img");
    command.args(["check", "--output=json", "-f", "qcow2"]);
    command.arg(image).output().ok()
}

#[test]
fn the_same_value_gives_the_same_bytes() {
    for seed in 0..SEEDS {
        let image = Image::Synthetic(synthetic(seed));
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
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("base.raw"), vec![1; 1 << 16]).unwrap();
    let path = directory.path().join("image.qcow2");
    let mut checked = 0;
    for seed in 0..SEEDS {
        let mut image = synthetic(seed);
        // Without structures there is nothing to find right. An encrypted image wants its key; it
        // is checked without encryption.
        image.structures = match image.structures {
            Structures::Absent => Structures::default(),
            correct @ Structures::Correct { .. } => correct,
        };
        image.luks = false;
        let layout = lay_out(&Image::Synthetic(image.clone())).unwrap();
        let mut file = File::create(&path).unwrap();
        layout.write(StorageLimit::Growing, &mut file).unwrap();
        let Some(output) = check(&path) else {
            eprintln!("qemu-img is not installed: images are built and not checked");
            assert!(file.metadata().unwrap().len() > 0);
            continue;
        };
        let [stdout, stderr] = [output.stdout, output.stderr].map(String::from_utf8);
        assert_eq!(
            output.status.code(),
            Some(0),
            "seed {seed}: {image:?}\n{}{}",
            stderr.unwrap(),
            stdout.unwrap(),
        );
        checked += 1;
    }
    assert!(checked == SEEDS || checked == 0);
}
