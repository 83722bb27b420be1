//! Opening an image: its header and header extensions.

use crate::format::ImageError;
use crate::format::entry::L2Format;
use crate::format::extension::{Extensions, LUKS_MAGIC};
use crate::format::header::{Header, KNOWN_BYTES};
use crate::geometry::Geometry;
use crate::storage::Storage;
use crate::table::Run;
use crate::units::{ClusterCount, Offset, Region};

/// The protocol layer of qemu sees a file as whole sectors, the last one filled with zeros.
const SECTOR: u64 = 512;

/// What the first cluster says about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The header.
    pub header: Header,
    /// The header extensions that refer to clusters.
    pub extensions: Extensions,
    /// How far the file reached when it was opened.
    pub extent: Extent,
}

impl Image {
    /// Reads and validates header and header extensions.
    pub fn open(storage: &dyn Storage) -> Result<Self, ImageError> {
        let mut known = [0; KNOWN_BYTES];
        storage.read_at(Offset(0), &mut known)?;
        let header = Header::parse(&known)?;
        // At most 2 MiB, and no more than there is: the rest reads as zeros.
        let length = Extensions::end(&header).min(storage.len()) as usize;
        let mut first_cluster = vec![0; length.max(KNOWN_BYTES)];
        storage.read_at(Offset(0), &mut first_cluster)?;
        let extensions = Extensions::parse(&header, &first_cluster)?;
        if let Some(Region { offset, length }) = extensions.luks {
            let mut magic = [0; LUKS_MAGIC.len()];
            storage.read_at(offset, &mut magic)?;
            // Otherwise no cluster would be counted, as by qemu, and a repair might write over it.
            if magic != LUKS_MAGIC || !(1..1 << 63).contains(&length) {
                return Err(ImageError::Luks { offset });
            }
        }
        let extent = Extent::of(storage, &header.geometry);
        Ok(Self {
            header,
            extensions,
            extent,
        })
    }

    /// Cluster size and refcount width.
    pub const fn geometry(&self) -> &Geometry {
        &self.header.geometry
    }

    /// What its L2 entries depend on.
    pub(crate) const fn format(&self) -> L2Format {
        self.header.l2_format()
    }

    /// Whether a region ends before, or less than a cluster after, the end: qemu lets a table
    /// reach into the rest of a last cluster that the file holds in part.
    pub(crate) fn holds(&self, region: Region) -> bool {
        region.end().saturating_sub(self.extent.bytes) < self.geometry().cluster_size()
    }

    /// Clusters of the virtual disk, from its size in whole sectors, as qemu counts them.
    pub(crate) const fn virtual_clusters(&self) -> ClusterCount {
        self.geometry()
            .clusters_for(self.header.size / SECTOR * SECTOR)
    }
}

impl Region {
    /// The clusters that it touches; none when it is empty.
    pub(crate) const fn clusters(self, geometry: &Geometry) -> Run {
        let first = geometry.cluster_of(self.offset);
        if self.length == 0 {
            return Run::new(first, ClusterCount(0));
        }
        let last_byte = self.offset.0.saturating_add(self.length - 1);
        let last = geometry.cluster_of(Offset(last_byte));
        Run::new(first, ClusterCount(last.0 - first.0 + 1))
    }
}

/// Requests that end past this offset fail in qemu, whatever the storage: 2^63 less the largest
/// alignment (observed). Below it, what lies past the end of a file reads as zeros.
const LARGEST_END: u64 = (1 << 63) - (1 << 30);

/// Whether qemu can read a region at all.
pub const fn is_addressable(region: Region) -> bool {
    region.end() <= LARGEST_END
}

/// How far a file reaches, in whole sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes, rounded up to whole sectors.
    pub bytes: u64,
    /// Clusters, the last one perhaps in part.
    pub clusters: ClusterCount,
}

impl Extent {
    /// That of a file as it is now.
    pub(crate) fn of(storage: &dyn Storage, geometry: &Geometry) -> Self {
        let bytes = storage.len().div_ceil(SECTOR).saturating_mul(SECTOR);
        let clusters = geometry.clusters_for(bytes);
        Self { bytes, clusters }
    }
}
