//! What the guest reads, sector by sector, of the active layer and of each snapshot.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use recount_oracle::audit::{Audit, Layer, LayerId, Mapping, SnapshotEntry};
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::disk::SECTOR;

/// Subclusters of a cluster (specification, "Extended L2 Entries").
const SUBCLUSTERS: usize = 32;
/// Bytes of a snapshot table entry before its extra data, and where in them the lengths of the id and
/// of the name are (specification, "Snapshots").
const SNAPSHOT_ENTRY: u64 = 40;
const ID_LENGTH: u64 = 12;
const NAME_LENGTH: u64 = 14;

/// The fingerprint of the bytes of a sector.
pub(crate) type Content = u64;

/// That of zeros.
pub(crate) static ZEROS: LazyLock<Content> = LazyLock::new(|| content(&[0; SECTOR as usize]));

/// The fingerprint of a sector.
pub(crate) fn content(sector: &[u8]) -> Content {
    let mut hasher = DefaultHasher::new();
    sector.hash(&mut hasher);
    hasher.finish()
}

/// All that can be read of an image.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) active: Vec<Content>,
    /// By name, in the order of the table.
    pub(crate) snapshots: Vec<(String, Vec<Content>)>,
}

/// Reads an image with its audit; why not, where a cluster cannot be read.
pub(crate) fn read(image: &SparseBytes, audit: &Audit) -> Result<View, String> {
    let mut view = View {
        active: Vec::new(),
        snapshots: Vec::new(),
    };
    for layer in &audit.layers {
        let sectors = sectors(image, audit, layer)?;
        match layer.id {
            LayerId::Active => view.active = sectors,
            LayerId::Snapshot(number) => {
                let entry = audit.snapshots.entries.get(number as usize);
                let name = entry.map(|entry| name(image, entry));
                view.snapshots.push((name.unwrap_or_default(), sectors));
            }
        }
    }
    Ok(view)
}

fn name(image: &SparseBytes, entry: &SnapshotEntry) -> String {
    let id = image.number(entry.at + ID_LENGTH, 2);
    let length = image.number(entry.at + NAME_LENGTH, 2);
    let at = entry.at + SNAPSHOT_ENTRY + entry.extra + id;
    String::from_utf8_lossy(&image.bytes(at, length as usize)).into_owned()
}

fn sectors(image: &SparseBytes, audit: &Audit, layer: &Layer) -> Result<Vec<Content>, String> {
    let header = &audit.header;
    let of_cluster = header.cluster_size() / SECTOR;
    let count = header.virtual_size.div_ceil(SECTOR) as usize;
    let mut sectors = vec![*ZEROS; count];
    for (&cluster, mapping) in &layer.map {
        let place = cluster.saturating_mul(of_cluster);
        let bytes = match *mapping {
            Mapping::Zero | Mapping::Preallocated { .. } => continue,
            Mapping::Data { offset } => image.bytes(offset, header.cluster_size() as usize),
            Mapping::Subclusters {
                offset, allocated, ..
            } => subclusters(
                image.bytes(offset, header.cluster_size() as usize),
                allocated,
            ),
            Mapping::Compressed { .. } => {
                let at = cluster << header.cluster_bits;
                return Err(format!(
                    "{} is compressed at guest offset {at:#x}",
                    layer.id
                ));
            }
        };
        for (sector, bytes) in (place..).zip(bytes.chunks(SECTOR as usize)) {
            // The last cluster may end behind the disk.
            if let Some(read) = sectors.get_mut(sector as usize) {
                *read = content(bytes);
            }
        }
    }
    Ok(sectors)
}

/// A cluster of which only these subclusters hold data.
fn subclusters(mut cluster: Vec<u8>, allocated: u32) -> Vec<u8> {
    let size = cluster.len() / SUBCLUSTERS;
    for (index, subcluster) in cluster.chunks_mut(size).enumerate() {
        if allocated >> index & 1 == 0 {
            subcluster.fill(0);
        }
    }
    cluster
}
