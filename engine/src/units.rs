//! Positions and counts, each a type of its own, so that a byte position cannot be added to a
//! cluster number. Conversions between bytes and clusters need the cluster size and go through
//! [`Geometry`](crate::Geometry).

use derive_more::Display;

/// A byte position in the image file.
#[derive(Clone, Copy, Debug, Default, Display, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[display("{_0:#x}")]
pub struct Offset(pub u64);

/// The number of a cluster in the image file, counted from 0.
#[derive(Clone, Copy, Debug, Default, Display, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cluster(pub u64);

/// A number of clusters.
#[derive(Clone, Copy, Debug, Default, Display, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterCount(pub u64);

/// The number of a refblock: the index of its entry in the reftable, and of the range of clusters
/// that it covers.
#[derive(Clone, Copy, Debug, Default, Display, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefblockIndex(pub u64);

/// A region of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// Its first byte.
    pub offset: Offset,
    /// Its length in bytes.
    pub length: u64,
}

impl Region {
    /// The byte after its last one, or the last representable one.
    pub const fn end(self) -> u64 {
        self.offset.0.saturating_add(self.length)
    }
}

impl Offset {
    /// The position `bytes` further on; `None` past 2^64.
    pub(crate) fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(Self)
    }
}

impl Cluster {
    /// The cluster `count` further on, or the last representable one.
    pub(crate) const fn saturating_add(self, count: ClusterCount) -> Self {
        Self(self.0.saturating_add(count.0))
    }

    /// How many clusters lie from `start` up to this one, itself not included; 0 when this one
    /// lies before `start`.
    pub(crate) const fn since(self, start: Self) -> ClusterCount {
        ClusterCount(self.0.saturating_sub(start.0))
    }
}
