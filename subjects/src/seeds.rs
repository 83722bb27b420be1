//! The seeds of the corpus: small, different from each other, and the same in every run.

use std::collections::BTreeSet;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use recount_oracle::case::build;
use recount_oracle::case::generate;
use recount_oracle::case::{Image, StorageLimit};
use recount_oracle::fuzz::image::WAYS;
use recount_oracle::fuzz::mutate::{read, write};
use recount_oracle::fuzz::{Target, Use, encoding, mutate};

use crate::Recount;
use crate::arms::reached;

/// Bytes of an image that is written down, at most.
const SPECIAL_MAX: usize = 128 << 10;
/// Images that are tried as seeds.
const IMAGES: u64 = 1500;
/// Changes to images that are tried as seeds.
const CHANGES: u32 = 12_000;
/// Longest seed of an image, in bytes: the corpus is kept in version control.
const IMAGE_MAX: usize = 160 << 10;
/// Seeds of a target that reads cases.
const CASES: usize = 48;
/// Bytes of such a seed, at most.
const CASE_MAX: usize = 400;

/// The seeds of a target.
pub fn generate_seeds(target: Target) -> Vec<Vec<u8>> {
    match target {
        Target::Image => images(),
        Target::Rebuild | Target::Crash | Target::Fault => cases(target),
    }
}

/// Random bytes that stand for a case which can be run.
fn cases(target: Target) -> Vec<Vec<u8>> {
    let mut rng = ChaCha8Rng::seed_from_u64(target as u64);
    let random = std::iter::repeat_with(|| {
        let mut bytes = vec![0; rng.random_range(16..CASE_MAX)];
        rng.fill_bytes(&mut bytes);
        bytes[0] = encoding::VERSION;
        bytes
    });
    // One with a finding is kept: it fails the tests until the finding is mended.
    let runs = |bytes: &Vec<u8>| target.judge(&Recount, bytes) != Ok(Use::Refused);
    random.filter(runs).take(CASES).collect()
}

/// Images of the builder, then changed ones, as long as they reach something that no seed before
/// does.
fn images() -> Vec<Vec<u8>> {
    let mut built = Vec::new();
    for image in SPECIAL {
        let image = toml::from_str(image).expect("an image");
        let image = build::image(&Image::Synthetic(image));
        let image = image.expect("images written down here are possible");
        // Of a LUKS header this is the beginning; the rest lies past the end of the file.
        built.push(image.bytes(0, SPECIAL_MAX.min(image.len() as usize)));
    }
    built.extend((0..IMAGES).filter_map(image));
    // The shortest first: each takes as long as it has bytes, millions of times.
    built.sort_by_key(Vec::len);
    let mut seeds = Images::default();
    for image in built {
        seeds.offer(image);
    }
    for mut image in seeds.chosen.clone() {
        // One snapshot more than anyone opens: chance does not come upon just this number.
        write(&mut image, 60, 4, 0x1_0001);
        seeds.offer(image);
    }
    for mut image in seeds.chosen.clone() {
        // The first snapshot without the extra data that version 3 demands.
        let extra = (read(&image, 64, 8) as usize).saturating_add(36);
        if extra.saturating_add(4) <= image.len() {
            write(&mut image, extra, 4, 0);
            seeds.offer(image);
        }
    }
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    for seed in 0..CHANGES {
        let mut image = seeds.chosen[rng.random_range(0..seeds.chosen.len())].clone();
        let size = image.len();
        image.resize(size + (4 << 10), 0);
        let size = mutate::mutate(&mut image, size, seed);
        image.truncate(size);
        seeds.offer(image);
    }
    for image in seeds.chosen.clone() {
        seeds.offer(with_extra_data(image).unwrap_or_default());
    }
    seeds.chosen
}

/// The image with only its first snapshot, and that with more extra data than is read, its id behind
/// it: what a later version of the format might write. `None` where its cluster has no room.
fn with_extra_data(mut image: Vec<u8>) -> Option<Vec<u8>> {
    const BYTES: usize = 1032;
    let (snapshots, entry) = (read(&image, 60, 4), read(&image, 64, 8) as usize);
    let cluster_bits = read(&image, 20, 4);
    let id = entry.checked_add(40 + BYTES)?;
    let end = entry.checked_add(BYTES + 128)?;
    if !(12..=21).contains(&cluster_bits)
        || snapshots == 0
        || entry >> cluster_bits != end >> cluster_bits
        || id >= image.len()
    {
        return None;
    }
    write(&mut image, 60, 4, 1);
    write(&mut image, entry + 12, 4, 1 << 16);
    write(&mut image, entry + 36, 4, BYTES as u64);
    image[entry + 40..=id].fill(b'1');
    Some(image)
}

/// What random images of this length do not have, in the text form of cases: subclusters, and a LUKS
/// header.
const SPECIAL: [&str; 2] = [
    "version = 3\ncluster_bits = 14\nextended_l2 = true\nguest = [
     { clusters = 1, content = { subclusters = { allocated = 1, zero = 2 } } },
     { clusters = 1, content = { compressed = { incompressible = 16 } } },
     { clusters = 1, content = 'zero' }]",
    "version = 3\ncluster_bits = 9\nluks = true",
];

fn image(seed: u64) -> Option<Vec<u8>> {
    let mut case = generate(seed);
    case.storage = StorageLimit::Growing;
    let Image::Synthetic(synthetic) = &case.image else {
        return None;
    };
    let cluster = 1 << synthetic.cluster_bits;
    if cluster > IMAGE_MAX || synthetic.guest_clusters() > 1 << 20 {
        return None;
    }
    if build::image(&case.image).ok()?.len() > IMAGE_MAX as u64 {
        return None;
    }
    let image = build::build(&case).ok()?.bytes;
    let mut bytes = image.bytes(0, image.len() as usize);
    // Whole sectors, and then as many bytes as choose a way of repairing.
    let whole = bytes.len().next_multiple_of(512);
    bytes.resize(whole + seed as usize % WAYS.len(), 0);
    (bytes.len() < IMAGE_MAX).then_some(bytes)
}

/// Seeds so far, and what they reach.
#[derive(Default)]
struct Images {
    chosen: Vec<Vec<u8>>,
    reached: BTreeSet<String>,
}

impl Images {
    fn offer(&mut self, image: Vec<u8>) {
        // What shows a finding is no seed: fuzzing comes upon it, minimises it and stores it.
        if !matches!(
            Target::Image.judge(&Recount, &image),
            Ok(Use::Judged | Use::Costly)
        ) {
            return;
        }
        let arms = reached(&image);
        if arms.iter().any(|arm| !self.reached.contains(arm)) {
            self.reached.extend(arms);
            self.chosen.push(image);
        }
    }
}
