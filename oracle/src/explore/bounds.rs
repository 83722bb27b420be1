//! What is explored.

use crate::case::{Algorithm, StorageLimit};
use crate::properties::Property;
use crate::toy::Shape;

/// B of 2, 4 and 8 and E of 2 and 4, each with another width of refcounts. The smallest first. With
/// B of 4 and 64 bits the entries do not fill their cluster.
pub(super) const SHAPES: [Shape; 6] = [
    shape(1, 1, 2),
    shape(1, 2, 4),
    shape(2, 1, 6),
    shape(2, 2, 3),
    shape(3, 1, 1),
    shape(3, 2, 5),
];

/// Storage that grows, and devices with this much room after the end of the file.
pub(super) const ROOMS: [StorageLimit; 6] = [
    StorageLimit::Growing,
    StorageLimit::Fixed { spare: 0 },
    StorageLimit::Fixed { spare: 1 },
    StorageLimit::Fixed { spare: 2 },
    StorageLimit::Fixed { spare: 3 },
    StorageLimit::Fixed { spare: 6 },
];

/// The most old clusters that are placed in every possible way.
pub(super) const OLD_MAX: u32 = 3;

const fn shape(refblock_bits: u32, reftable_entry_bits: u32, refcount_order: u32) -> Shape {
    Shape {
        refblock_bits,
        reftable_entry_bits,
        refcount_order,
    }
}

/// What is explored.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// The largest file, in clusters.
    pub clusters: u32,
    /// The largest file in which old structures are placed in every possible way.
    pub clusters_with_old: u32,
    /// The largest file in which the bytes are looked at, after power cuts and faults too.
    pub clusters_with_bytes: u32,
    /// Whether whole images are looked at as well.
    pub images: bool,
    /// The algorithms.
    pub algorithms: Vec<Algorithm>,
    /// The properties.
    pub properties: Vec<Property>,
}

impl Bounds {
    /// The size of the largest file in an exploration of a minute or two.
    pub const DEFAULT_CLUSTERS: u32 = 14;

    /// The most clusters that can be asked for: beyond, a set of clusters might not hold all that
    /// the planners place.
    pub const CLUSTERS_MAX: u32 = 24;

    /// Everything, for files of up to so many clusters.
    pub fn up_to(clusters: u32) -> Self {
        Self {
            clusters,
            clusters_with_old: clusters.saturating_sub(4).max(clusters.min(6)),
            clusters_with_bytes: clusters.saturating_sub(4).max(clusters.min(6)),
            images: true,
            algorithms: vec![Algorithm::Planned, Algorithm::FirstFit, Algorithm::Tail],
            properties: Property::ALL.to_vec(),
        }
    }
}
