//! The images that a writer begins with.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fmt, io};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use recount_oracle::audit;
use recount_oracle::case::Image;
use recount_oracle::case::build;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::synthetic::{Content, Run, Sharing, Snapshots, Synthetic};
use recount_oracle::disk::SECTOR;

use crate::SharedDisk;
use crate::data_file;
use crate::feature::{self, Feature};
use crate::luks::Key;
use crate::operation::bytes;
use crate::sectors::{self, BACKING_FIELD, Beside, View};
use crate::settings::Settings;

/// The name of a backing file, which is a raw one in the folder of the image.
pub const BACKING: &str = "backing.raw";
/// Clusters of the guest's disk at least: many small ones, few that take megabytes.
const CLUSTERS: [(u32, u64); 3] = [(12, 150), (20, 14), (u32::MAX, 4)];
/// Stretches of guest clusters of one kind that an image has from the start.
const RUNS: u32 = 4;
/// The smallest clusters, as their binary logarithm, that can have subclusters.
const SUBCLUSTER_BITS_MIN: u32 = 14;
/// An image has each feature that is asked for once in so many times.
const FEATURE_IN: u32 = 3;
/// And what most writers decline more rarely.
const RARE_IN: u32 = 16;
/// Every backing file is of other bytes than what guests write, whose seeds are their numbers.
const BACKING_SEED: u64 = 1 << 63;

/// An image that a writer begins with.
#[derive(Clone, Debug)]
pub struct Start {
    pub(crate) bytes: SparseBytes,
    pub(crate) backing: Option<SparseBytes>,
    pub(crate) data_file: Option<SparseBytes>,
    key: Option<Key>,
    pub(crate) cluster_bits: u64,
    pub(crate) refcount_bits: u64,
    pub(crate) features: BTreeSet<Feature>,
    pub(crate) view: View,
}

impl Start {
    /// An image, and its raw backing file if it has one; why not, where it cannot be read or is not as it
    /// should be. Of an encrypted one nobody has the key.
    pub fn new(bytes: SparseBytes, backing: Option<SparseBytes>) -> Result<Self, String> {
        Self::beside(bytes, backing, None, None)
    }

    /// An image whose guest's data is in another file.
    pub fn with_data_file(bytes: SparseBytes, data_file: SparseBytes) -> Result<Self, String> {
        Self::beside(bytes, None, Some(data_file), None)
    }

    /// An encrypted image, as QEMU makes them with LUKS, whose passphrase the writer has.
    pub fn with_passphrase(bytes: SparseBytes, words: &str) -> Result<Self, String> {
        Self::beside(bytes, None, None, Some(words))
    }

    fn beside(
        bytes: SparseBytes,
        backing: Option<SparseBytes>,
        data_file: Option<SparseBytes>,
        words: Option<&str>,
    ) -> Result<Self, String> {
        let audit = audit::audit(&bytes).map_err(|why| why.to_string())?;
        if !audit.is_clean() {
            return Err("the image is damaged".to_owned());
        }
        let header = &audit.header;
        let differs = |what| Err(format!("the header and who made it disagree on {what}"));
        if (bytes.number(BACKING_FIELD, 8) != 0) != backing.is_some() {
            return differs("a backing file");
        }
        if header.external_data() != data_file.is_some() {
            return differs("an external data file");
        }
        if header.external_data() && header.extended_l2() {
            return Err("subclusters in an external data file are not read here".to_owned());
        }
        let key = words.map(|words| {
            let luks = header.luks.as_ref().ok_or("it is not encrypted")?;
            Key::find(&bytes, luks.offset, words)
        });
        let beside = Beside {
            backing: sectors::backing(backing.as_ref()),
            data_file: data_file.clone(),
            key: key.transpose()?,
        };
        let view = sectors::read(&bytes, &audit, &beside)?;
        Ok(Self {
            cluster_bits: header.cluster_bits,
            refcount_bits: header.refcount_bits(),
            features: feature::of(&audit, backing.is_some()),
            view,
            bytes,
            backing,
            data_file,
            key: beside.key,
        })
    }

    /// Whether nobody can write to it, as it is encrypted and nobody has its key.
    pub(crate) fn is_locked(&self) -> bool {
        self.features.contains(&Feature::Encrypted) && self.key.is_none()
    }

    /// A new disk with the image.
    pub(crate) fn disk(&self) -> SharedDisk {
        let (bytes, backing) = (self.bytes.clone(), self.backing.clone());
        SharedDisk::beside(bytes, backing, self.data_file.clone())
    }

    /// What is read with it.
    pub(crate) fn read_with(&self) -> Beside {
        Beside {
            backing: sectors::backing(self.backing.as_ref()),
            data_file: self.data_file.clone(),
            key: self.key.clone(),
        }
    }

    /// Bytes of the guest's disk.
    pub(crate) fn bytes_of_disk(&self) -> u64 {
        self.view.active.len() as u64 * SECTOR
    }

    /// Stores the image in a folder of its own, with its backing file and its data file.
    pub(crate) fn store(&self, folder: &Path) -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        self.disk().store(&folder.join("image.qcow2"))
    }

    /// A random image with some data.
    pub(crate) fn random(settings: &Settings, rng: &mut ChaCha8Rng) -> Result<Self, String> {
        let is_encrypted = rare(Feature::Encrypted, settings, rng);
        if !is_encrypted && rare(Feature::DataFile, settings, rng) {
            return data_file::random(settings, rng);
        }
        let mut drawn = |feature| {
            let is_asked_for = settings.features.contains(&feature);
            rng.random_ratio(1, FEATURE_IN) && is_asked_for
        };
        let compressed = drawn(Feature::Compressed);
        let extended_l2 = drawn(Feature::Subclusters);
        let has_backing = drawn(Feature::Backing);
        let has_snapshot = drawn(Feature::Snapshot) || drawn(Feature::Snapshot);
        let bits = among(&settings.cluster_bits, rng).unwrap_or(16);
        let cluster_bits = if extended_l2 {
            bits.max(SUBCLUSTER_BITS_MIN)
        } else {
            bits
        };
        let refcount_order = among(&settings.refcount_orders, rng).unwrap_or(4);
        let of_cluster = (1 << cluster_bits) / SECTOR;
        let runs = (0..RUNS).map(|_| run(compressed, extended_l2, cluster_bits, rng));
        let image = Synthetic {
            cluster_bits,
            refcount_order,
            extended_l2,
            guest: runs.collect(),
            snapshots: vec![Snapshots {
                count: has_snapshot.into(),
                sharing: sharing(refcount_order, rng),
            }],
            slack_sectors: slack(cluster_bits, rng),
            backing: has_backing.then(|| BACKING.to_owned()),
            luks: is_encrypted,
            ..Synthetic::default()
        };
        let sectors = image.virtual_size() / SECTOR;
        let backing = has_backing.then(|| {
            let length = rng.random_range(1..=sectors + of_cluster) * SECTOR;
            let mut backing = SparseBytes::default();
            backing.put(0, &bytes(Some(BACKING_SEED), length));
            backing
        });
        let built = build::image(&Image::Synthetic(image)).map_err(|why| why.to_string())?;
        Self::new(built, backing)
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cluster, bits) = (1_u64 << self.cluster_bits, self.refcount_bits);
        write!(
            f,
            "an image of {cluster}-byte clusters and {bits}-bit refcounts"
        )?;
        let sizes = [Feature::RefcountWidth, Feature::ClusterSize];
        let features = self.features.iter();
        let mut features = features.filter(|feature| !sizes.contains(feature));
        features.try_for_each(|feature| write!(f, " with {feature}"))
    }
}

/// Whether an image has a feature that most have not: from random numbers of its own, so that the others
/// stay as they are.
fn rare(feature: Feature, settings: &Settings, rng: &ChaCha8Rng) -> bool {
    let mut rng = rng.clone();
    rng.set_stream(1 + feature as u64);
    rng.random_ratio(1, RARE_IN) && settings.features.contains(&feature)
}

/// Neighbouring guest clusters of one kind.
fn run(compressed: bool, extended_l2: bool, cluster_bits: u32, rng: &mut ChaCha8Rng) -> Run {
    let allocated = rng.random();
    let subclusters = Content::Subclusters {
        allocated,
        zero: !allocated & rng.random::<u32>(),
    };
    let incompressible = rng.random_range(0..1 << (cluster_bits - 2));
    let mut contents = vec![Content::Data, Content::Preallocated, Content::Zero];
    contents.extend([subclusters; 3].iter().filter(|_| extended_l2));
    let stream = Content::Compressed { incompressible };
    contents.extend([stream; 3].iter().filter(|_| compressed));
    Run {
        skip: rng.random_range(0..3),
        clusters: rng.random_range(1..5),
        content: among(&contents, rng).unwrap_or(Content::Data),
    }
}

/// Sectors of the disk that are unallocated at its end, which need not be that of a cluster.
pub(crate) fn slack(cluster_bits: u32, rng: &mut ChaCha8Rng) -> u64 {
    let of_cluster = (1 << cluster_bits) / SECTOR;
    let clusters = CLUSTERS.iter().find(|(bits, _)| cluster_bits < *bits);
    let clusters = clusters.map_or(1, |(_, clusters)| *clusters);
    clusters * of_cluster + rng.random_range(0..of_cluster)
}

/// What a snapshot shares. One bit counts no cluster that is shared.
fn sharing(refcount_order: u32, rng: &mut ChaCha8Rng) -> Sharing {
    let sharing = match refcount_order {
        0 => &[Sharing::Nothing][..],
        _ => &[Sharing::Tables, Sharing::Data, Sharing::Nothing],
    };
    among(sharing, rng).unwrap_or(Sharing::Nothing)
}

/// The start of the run of this number.
pub(crate) fn start(
    settings: &Settings,
    number: u32,
    rng: &mut ChaCha8Rng,
) -> Result<Start, String> {
    let given = settings.images.len().max(1);
    match settings.images.get(number as usize % given) {
        Some(image) => Ok(image.clone()),
        None => Start::random(settings, rng),
    }
}

/// The random numbers of a run.
pub(crate) fn numbers(settings: &Settings, number: u32) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(settings.seed << 32 | u64::from(number))
}

/// One of these; `None` where there are none.
pub(crate) fn among<T: Copy>(values: &[T], rng: &mut ChaCha8Rng) -> Option<T> {
    let drawn = rng.random_range(0..values.len().max(1));
    values.get(drawn).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writes;

    #[test]
    fn random_images_have_every_feature_and_every_size() {
        let settings = writes();
        let starts = (0..200).map(|number| {
            let mut rng = numbers(&settings, number);
            Start::random(&settings, &mut rng).unwrap()
        });
        let mut features = BTreeSet::new();
        let mut sizes = BTreeSet::new();
        let mut widths = BTreeSet::new();
        for start in starts {
            features.extend(start.features);
            sizes.insert(start.cluster_bits);
            widths.insert(start.refcount_bits);
        }
        // Images of zstd come from other programs only.
        assert_eq!(features.len(), 8, "{features:?}");
        assert!(sizes.contains(&9) && sizes.contains(&21), "{sizes:?}");
        assert!(widths.contains(&1) && widths.contains(&64), "{widths:?}");
    }
}
