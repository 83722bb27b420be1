//! What is referred to in bytes.

use crate::geometry::Geometry;
use crate::table::Run;
use crate::units::{ClusterCount, Offset};

/// A region of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its first byte.
    pub offset: Offset,
    /// Its length in bytes.
    pub length: u64,
}

impl Region {
    /// The clusters that it touches; none when it is empty.
    #[must_use]
    pub const fn clusters(&self, geometry: &Geometry) -> Run {
        let first = geometry.cluster_of(self.offset);
        if self.length == 0 {
            return Run::new(first, ClusterCount(0));
        }
        let last_byte = self.offset.0.saturating_add(self.length - 1);
        let last = geometry.cluster_of(Offset(last_byte));
        Run::new(first, ClusterCount(last.0 - first.0 + 1))
    }
}
