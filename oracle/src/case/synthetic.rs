//! Images laid out byte by byte by our own builder: the value that says what is in one. How it is
//! laid out is in [`super::build`]; which values are possible, [`super::Case::validate`] says.

use serde::{Deserialize, Serialize};

/// A whole qcow2 image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Synthetic {
    /// Version of the format, 2 or 3.
    pub version: u32,
    /// Binary logarithm of the cluster size, 9 to 21.
    pub cluster_bits: u32,
    /// Binary logarithm of the refcount width in bits, 0 to 6; version 2 has 4 only.
    #[serde(default = "sixteen_bits")]
    pub refcount_order: u32,
    /// Whether L2 entries have subclusters; version 3, from 16 KiB clusters on.
    #[serde(default, skip_serializing_if = "is_default")]
    pub extended_l2: bool,
    /// Which clusters of the file are used, and in which order.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allocation: Allocation,
    /// The refcount structures.
    #[serde(default, skip_serializing_if = "is_default")]
    pub structures: Structures,
    /// What the guest sees in the active layer, from guest cluster 0 on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guest: Vec<Run>,
    /// Virtual disk after the last guest cluster above, in sectors of 512 bytes: unallocated.
    #[serde(default, skip_serializing_if = "is_default")]
    pub slack_sectors: u64,
    /// Snapshots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<Snapshots>,
    /// Persistent bitmaps; version 3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bitmaps: Vec<Bitmap>,
    /// Whether the image is encrypted: a LUKS header of about 1 MiB. The data is not really.
    #[serde(default, skip_serializing_if = "is_default")]
    pub luks: bool,
    /// The backing file's name; it is a raw image.
    pub backing: Option<String>,
    /// Whether the header has a table of feature names.
    #[serde(default, skip_serializing_if = "is_default")]
    pub feature_names: bool,
    /// Header extensions that nobody knows, by the length of their data in bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown_extensions: Vec<u32>,
    /// Clusters of the file after the last used one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub free_tail: u32,
}

/// The version 2 refcount order, and the default of everyone.
const fn sixteen_bits() -> u32 {
    4
}

/// For fields that are left out of the text when they say nothing.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for Synthetic {
    /// An empty version 3 image with 64 KiB clusters and 16-bit refcounts.
    fn default() -> Self {
        Self {
            version: 3,
            cluster_bits: 16,
            refcount_order: sixteen_bits(),
            extended_l2: false,
            allocation: Allocation::default(),
            structures: Structures::default(),
            guest: Vec::new(),
            slack_sectors: 0,
            snapshots: Vec::new(),
            bitmaps: Vec::new(),
            luks: false,
            backing: None,
            feature_names: false,
            unknown_extensions: Vec::new(),
            free_tail: 0,
        }
    }
}

/// Which clusters of the file everything but the refcount structures is put into, in which order.
/// What takes several clusters, as an L1 table, goes to the first place of the pattern with as many
/// free ones in a row. Old refcount structures always take the lowest free clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the text of a variant names its fields")]
pub enum Allocation {
    /// From cluster 1 on, one after the other.
    #[default]
    Dense,
    /// Every `step`th, from 1 on. With a small step no free run is as long as the new table needs;
    /// with a large one the file is sparse and needs many refblocks.
    Striped { step: u32 },
    /// One in each range that a refblock covers, so that every range is in use and all the space is
    /// inside ranges in use: cluster `place`, modulo those of a range.
    OneARange { place: u32 },
    /// Dense after a hole of `clusters` behind the header: the only space in the file comes first.
    AfterHole { clusters: u32 },
    /// At random, by `seed`, among clusters 1 to `span` of the file.
    Scattered { seed: u64, span: u32 },
    /// Exactly these, in this order, the refcount structures included.
    Listed(Vec<u64>),
}

/// The refcount structures before any damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Structures {
    /// They say what is so.
    Correct {
        /// Reftable clusters more than are needed.
        #[serde(default)]
        spare_reftable_clusters: u32,
    },
    /// There is no reftable: the header says offset 0, 0 clusters.
    Absent,
}

impl Default for Structures {
    fn default() -> Self {
        Self::Correct {
            spare_reftable_clusters: 0,
        }
    }
}

/// Neighbouring guest clusters of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Unallocated guest clusters between the run before and this one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub skip: u64,
    /// How many guest clusters.
    pub clusters: u32,
    /// What they hold.
    pub content: Content,
}

/// What a guest cluster holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "the text of a variant names its fields")]
pub enum Content {
    /// A data cluster.
    Data,
    /// A data cluster that reads as zeros; version 3.
    Preallocated,
    /// Zeros without a cluster; version 3.
    Zero,
    /// Compressed data, `incompressible` bytes of it so, at most half a cluster.
    Compressed { incompressible: u32 },
    /// With extended L2 entries only: bit n says of subcluster n that it is `allocated`, or reads as
    /// `zero`, not both.
    Subclusters { allocated: u32, zero: u32 },
}

/// Some snapshots that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshots {
    /// How many of them.
    pub count: u32,
    /// What each shares with the active layer.
    pub sharing: Sharing,
}

/// What a snapshot shares with the active layer. In each case it maps the same guest clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// The L2 tables and so everything behind them.
    Tables,
    /// The data clusters, through L2 tables of its own.
    Data,
    /// Nothing.
    Nothing,
}

/// A persistent bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bitmap {
    /// Binary logarithm of the bytes that one bit stands for, 9 to 31.
    pub granularity_bits: u32,
    /// How many entries of its table, from the first on, have a cluster with bits.
    pub clusters: u32,
    /// How many of the entries after those stand for all ones without a cluster.
    pub all_ones: u32,
}
