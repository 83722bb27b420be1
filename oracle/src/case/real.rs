//! Images made with qemu-img and qemu-io: the recipe, not the making.

use arbitrary::Arbitrary;
use serde::{Deserialize, Serialize};

/// How to make an image with qemu-img and qemu-io.
#[derive(Clone, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Binary logarithm of the cluster size, 9 to 21.
    pub cluster_bits: u32,
}
