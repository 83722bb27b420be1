//! Images made with qemu-img and qemu-io: the recipe, not the making.

mod random;

use arbitrary::Arbitrary;
use serde::{Deserialize, Serialize};

pub use random::random_recipe;

/// How to make an image with qemu-img and qemu-io. What qemu refuses to combine is left out by
/// [`Recipe::settled`], so every value makes an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Arbitrary, Serialize, Deserialize)]
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

/// Something that happens to the image. A `cluster` is the first one, counted on the guest's disk,
/// modulo its size; `pattern` is the byte written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the text of a variant names its fields")]
pub enum Step {
    /// Data: `sectors` of 512 bytes, plus one, after `skip` of them, modulo a cluster.
    Write {
        cluster: u32,
        skip: u16,
        sectors: u16,
        pattern: u8,
    },
    /// One compressed cluster.
    Compressed { cluster: u32, pattern: u8 },
    /// Zeros in so many `clusters`, plus one, by a zero write that may `unmap` what lies there.
    Zeroes {
        cluster: u32,
        clusters: u8,
        unmap: bool,
    },
    /// A discard of so many `clusters`, plus one.
    Discard { cluster: u32, clusters: u8 },
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
    pub fn settled(&self) -> Self {
        let mut recipe = self.clone();
        let version_3 = !recipe.version_2;
        recipe.cluster_bits = recipe.cluster_bits.clamp(9, 21);
        recipe.refcount_order = if version_3 {
            self.refcount_order.min(6)
        } else {
            4
        };
        recipe.virtual_clusters = recipe.virtual_clusters.clamp(1, 1 << 20);
        recipe.short_by = recipe.short_by % (1 << recipe.cluster_bits) / 512 * 512;
        recipe.zstd &= version_3;
        recipe.lazy_refcounts &= version_3;
        recipe.extended_l2 &= version_3 && recipe.cluster_bits >= 14;
        if recipe.kind == Kind::DataFile && !version_3 {
            recipe.kind = Kind::Plain;
        }
        let clashes = matches!(recipe.kind, Kind::Backing | Kind::Luks);
        if clashes || recipe.virtual_clusters > 512 {
            recipe.preallocation = Preallocation::Off;
        }
        let mut steps = std::mem::take(&mut recipe.steps);
        steps.retain(|step| recipe.allows(step));
        Self { steps, ..recipe }
    }

    /// The guest's disk in bytes.
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
