//! What the builder lays out is what the format says. Images of every kind, from a few hundred
//! seeds: the same seed gives the same bytes, and qemu-img, where it is installed, finds nothing
//! wrong with any that has its refcount structures and reads what the builder wrote.

mod common;

use std::process::Command;

use common::{Scratch, from_seed, qemu_img_check};
use recount_needs::needs;
use recount_oracle::case::Image;
use recount_oracle::case::build;
use recount_oracle::case::synthetic::{Content, Structures, Synthetic};

const SEEDS: u64 = 400;

#[test]
fn the_same_value_gives_the_same_bytes() {
    for seed in 0..SEEDS {
        let image = Image::Synthetic(from_seed(seed));
        let [first, second] = [(); 2]
            .map(|()| build::image(&image).unwrap_or_else(|error| panic!("seed {seed}: {error}")));
        assert!(first == second, "seed {seed} gives different bytes");
        assert_eq!(first.bytes(0, 4), b"QFI\xfb", "seed {seed}");
    }
}

#[needs(qemu)]
#[test]
fn qemu_img_finds_nothing_wrong_with_what_is_built() {
    let scratch = Scratch::new();
    for seed in 0..SEEDS {
        let mut image: Synthetic = from_seed(seed);
        // Without structures there is nothing to find right. An encrypted image wants its key; it
        // is checked without encryption.
        image.structures = match image.structures {
            Structures::Absent => Structures::default(),
            correct @ Structures::Correct { .. } => correct,
        };
        image.luks = false;
        let bytes = build::image(&Image::Synthetic(image.clone())).unwrap();
        scratch.store("image.qcow2", &bytes);
        let check = qemu_img_check(&scratch.path("image.qcow2"));
        assert_eq!(
            check.exit,
            Some(0),
            "seed {seed}: {image:?}\n{}",
            check.stderr
        );
    }
}

/// Guest clusters of an image and what they hold.
fn contents(image: &Synthetic) -> Vec<(u64, Content)> {
    let mut next = 0;
    let mut found = Vec::new();
    for run in &image.guest {
        next += run.skip;
        for _ in 0..run.clusters {
            found.push((next, run.content));
            next += 1;
        }
    }
    found
}

#[needs(qemu)]
#[test]
fn qemu_img_reads_the_contents_that_were_written() {
    let scratch = Scratch::new();
    let (mut stamps, mut inflated) = (0, 0);
    for seed in 0..SEEDS / 4 {
        let mut image: Synthetic = from_seed(seed);
        image.luks = false;
        image.backing = None;
        if image.structures == Structures::Absent || image.virtual_size() > 64 << 20 {
            continue;
        }
        let bytes = build::image(&Image::Synthetic(image.clone())).unwrap();
        scratch.store("image.qcow2", &bytes);
        let mut convert = Command::new("qemu-img");
        convert.args(["convert", "-f", "qcow2", "-O", "raw"]);
        convert.args([scratch.path("image.qcow2"), scratch.path("image.raw")]);
        let output = convert.output().expect("qemu-img");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "seed {seed}: {image:?}\n{stderr}");
        let guest = std::fs::read(scratch.path("image.raw")).unwrap();
        for (cluster, content) in contents(&image) {
            let at = usize::try_from(cluster << image.cluster_bits).unwrap();
            let cluster_bytes = &guest[at..at + (1 << image.cluster_bits)];
            match content {
                Content::Data => {
                    let stamp = format!("guest {cluster:012x} begins");
                    assert!(
                        cluster_bytes.starts_with(stamp.as_bytes()),
                        "seed {seed}: {cluster}"
                    );
                    stamps += 1;
                }
                Content::Zero | Content::Preallocated => {
                    let zeros = cluster_bytes.iter().all(|&byte| byte == 0);
                    assert!(zeros, "seed {seed}: cluster {cluster}");
                }
                Content::Compressed { incompressible } => {
                    let run = &cluster_bytes[incompressible as usize..];
                    assert!(
                        run.iter().all(|&byte| byte == run[0]),
                        "seed {seed}: {cluster}"
                    );
                    inflated += 1;
                }
                Content::Subclusters { .. } => (),
            }
        }
    }
    assert_eq!(stamps > 0, inflated > 0, "{stamps} and {inflated}");
}
