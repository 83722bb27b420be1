//! Images made with qemu-img and qemu-io: the recipe, not the making.

mod random;

use arbitrary::Arbitrary;
use serde::{Deserialize, Serialize};

pub use random::random_recipe;

/// How to make an image with qemu-img and qemu-io. What qemu refuses to combine is left out by
/// [`Recipe::settled`], so every value makes an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Arbitrary, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of `qemu-img create`"
)]
pub struct Recipe {
    /// Binary logarithm of the cluster size, 9 to 21.
    pub cluster_bits: u32,
    /// Binary logarithm of the refcount width, 0 to 6.
    pub refcount_order: u32,
    /// Format version 2, `compat=0.10`, instead of 3.
    #[serde(default)]
    pub version_2: bool,
    /// The guest's disk, in clusters.
    pub virtual_clusters: u32,
    /// Bytes less than these clusters, modulo a cluster: the guest's disk may end inside one.
    #[serde(default)]
    pub short_by: u32,
    /// Compressed clusters are zstd instead of zlib.
    #[serde(default)]
    pub zstd: bool,
    /// Extended L2 entries: 32 subclusters a cluster.
    #[serde(default)]
    pub extended_l2: bool,
    /// Refcounts may lag behind, under the dirty bit.
    #[serde(default)]
    pub lazy_refcounts: bool,
    /// What is beside or around the guest's data.
    #[serde(default)]
    pub kind: Kind,
    /// What is allocated from the start.
    #[serde(default)]
    pub preallocation: Preallocation,
    /// What then happens to it, in this order.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// What is beside or around the guest's data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Nothing.
    #[default]
    Plain,
    /// A backing file of the same size.
    Backing,
    /// An external data file.
    DataFile,
    /// LUKS encryption.
    Luks,
}

/// `-o preallocation=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preallocation {
    /// Nothing.
    #[default]
    Off,
    /// The tables.
    Metadata,
    /// The clusters, by fallocate.
    Falloc,
    /// The clusters, by writing zeros.
    Full,
}

/// Something that happens to the image. Clusters are counted on the guest's disk, modulo its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Data.
    Write {
        /// The first cluster.
        cluster: u32,
        /// Sectors of 512 bytes after its beginning, modulo a cluster.
        skip: u16,
        /// Sectors written, plus one.
        sectors: u16,
        /// The byte written.
        pattern: u8,
    },
    /// One compressed cluster.
    Compressed {
        /// Which.
        cluster: u32,
        /// The byte written.
        pattern: u8,
    },
    /// Zeros, by a zero write.
    Zeroes {
        /// The first cluster.
        cluster: u32,
        /// How many, plus one.
        clusters: u8,
        /// Whether what lies there may be unmapped.
        unmap: bool,
    },
    /// A discard.
    Discard {
        /// The first cluster.
        cluster: u32,
        /// How many, plus one.
        clusters: u8,
    },
    /// A snapshot of this number is taken.
    Snapshot(u8),
    /// The snapshot of this number is deleted.
    DeleteSnapshot(u8),
    /// The snapshot of this number becomes the active layer.
    ApplySnapshot(u8),
    /// A persistent bitmap of this number is added.
    Bitmap(u8),
    /// The bitmap of this number is removed.
    RemoveBitmap(u8),
    /// The writing process is killed: with lazy refcounts the image stays dirty.
    Kill,
}

impl Recipe {
    /// The nearest recipe that qemu makes: ranges kept, and what it refuses to combine left out.
    #[must_use]
    pub fn settled(&self) -> Self {
        let mut recipe = Self {
            steps: Vec::new(),
            ..self.clone()
        };
        recipe.cluster_bits = recipe.cluster_bits.clamp(9, 21);
        recipe.refcount_order = recipe.refcount_order.min(6);
        recipe.virtual_clusters = recipe.virtual_clusters.clamp(1, 1 << 20);
        recipe.short_by = recipe.short_by % (1 << recipe.cluster_bits) / 512 * 512;
        if recipe.version_2 {
            recipe.refcount_order = 4;
            recipe.zstd = false;
            recipe.extended_l2 = false;
            recipe.lazy_refcounts = false;
            if recipe.kind == Kind::DataFile {
                recipe.kind = Kind::Plain;
            }
        }
        if recipe.cluster_bits < 14 {
            recipe.extended_l2 = false;
        }
        let preallocated_clusters = recipe.virtual_clusters <= 512;
        let clashes = recipe.kind == Kind::Backing || recipe.kind == Kind::Luks;
        if clashes || !preallocated_clusters {
            recipe.preallocation = Preallocation::Off;
        }
        let allowed = self.steps.iter().filter(|step| recipe.allows(step));
        recipe.steps = allowed.copied().collect();
        recipe
    }

    /// The guest's disk in bytes.
    #[must_use]
    pub fn virtual_size(&self) -> u64 {
        (u64::from(self.virtual_clusters) << self.cluster_bits) - u64::from(self.short_by)
    }

    /// Whether qemu does this step to such an image.
    fn allows(&self, step: &Step) -> bool {
        match step {
            Step::Compressed { .. } => !matches!(self.kind, Kind::DataFile | Kind::Luks),
            Step::Snapshot(_) | Step::DeleteSnapshot(_) | Step::ApplySnapshot(_) => {
                self.kind != Kind::DataFile && self.refcount_order > 0
            }
            Step::Bitmap(_) | Step::RemoveBitmap(_) => !self.version_2,
            _ => true,
        }
    }
}
