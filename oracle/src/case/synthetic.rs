//! Images laid out byte by byte by our own builder.

use arbitrary::Arbitrary;
use serde::{Deserialize, Serialize};

/// What the builder lays out.
#[derive(Clone, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Synthetic {
    /// Binary logarithm of the cluster size, 9 to 21.
    pub cluster_bits: u32,
}
