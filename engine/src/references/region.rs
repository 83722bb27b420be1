//! What is referred to in bytes.

use crate::geometry::Geometry;
use crate::table::Run;
use crate::units::{ClusterCount, Offset};

/// A region of the file and how often it is referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its first byte.
    pub offset: Offset,
    /// Its length in bytes.
    pub length: u64,
    /// How often it is referred to.
    pub times: u64,
}

impl Region {
    /// The clusters that it touches.
    #[must_use]
    pub const fn clusters(&self, geometry: &Geometry) -> Run {
        let first = geometry.cluster_of(self.offset);
        let last_byte = self.offset.0.saturating_add(self.length.saturating_sub(1));
        let last = geometry.cluster_of(Offset(last_byte));
        Run::new(first, ClusterCount(last.0 - first.0 + 1))
    }
}
