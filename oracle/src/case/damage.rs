//! What is done to an image before anyone repairs it.

use arbitrary::Arbitrary;
use serde::{Deserialize, Serialize};

/// One act of damage.
#[derive(Clone, Debug, PartialEq, Eq, Arbitrary, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damage {
    /// The header's reftable pointer is set to offset 0, 0 clusters.
    NoReftable,
}
