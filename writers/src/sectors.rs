//! What the guest reads, sector by sector, of the active layer and of each snapshot: what the oracle
//! finds in the image, decompressed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use flate2::{Decompress, FlushDecompress, Status};
use recount_oracle::audit::{Audit, Layer, LayerId, SnapshotEntry};
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::disk::SECTOR;
use recount_oracle::guest::{self, SUBCLUSTERS, Stored};

/// Bytes of a snapshot table entry before its extra data, and where in them the lengths of the id and
/// of the name are (specification, "Snapshots").
const SNAPSHOT_ENTRY: u64 = 40;
const ID_LENGTH: u64 = 12;
const NAME_LENGTH: u64 = 14;
/// Where the header says where the name of the backing file is (specification, "Header").
pub(crate) const BACKING_FIELD: u64 = 8;

/// The fingerprint of the bytes of a sector.
pub(crate) type Content = u64;

/// That of zeros.
pub(crate) static ZEROS: LazyLock<Content> = LazyLock::new(|| fingerprint(&[0; SECTOR as usize]));

/// The fingerprint of a sector.
pub(crate) fn content(sector: &[u8]) -> Content {
    // Most of large clusters is zeros.
    if sector.len() as u64 == SECTOR && sector.iter().all(|&byte| byte == 0) {
        return *ZEROS;
    }
    fingerprint(sector)
}

fn fingerprint(sector: &[u8]) -> Content {
    let mut hasher = DefaultHasher::new();
    sector.hash(&mut hasher);
    hasher.finish()
}

/// All that can be read of an image.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) active: Vec<Content>,
    /// By name, in the order of the table.
    pub(crate) snapshots: Vec<(String, Vec<Content>)>,
}

/// The sectors of a raw backing file; behind its end are zeros.
pub(crate) fn backing(file: Option<&SparseBytes>) -> Vec<Content> {
    file.map_or_else(Vec::new, |file| {
        let bytes = file.bytes(0, file.len().next_multiple_of(SECTOR) as usize);
        bytes.chunks(SECTOR as usize).map(content).collect()
    })
}

/// Reads an image over its backing file with its audit; why not, where a cluster cannot be read.
pub(crate) fn read(
    image: &SparseBytes,
    audit: &Audit,
    backing: &[Content],
) -> Result<View, String> {
    // A writer must not take the backing file out of the header.
    let backing = match image.number(BACKING_FIELD, 8) {
        0 => &[],
        _ => backing,
    };
    let mut view = View {
        active: Vec::new(),
        snapshots: Vec::new(),
    };
    for layer in &audit.layers {
        let sectors = sectors(image, audit, layer, backing)?;
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

fn sectors(
    image: &SparseBytes,
    audit: &Audit,
    layer: &Layer,
    backing: &[Content],
) -> Result<Vec<Content>, String> {
    let header = &audit.header;
    let (size, bits) = (header.cluster_size(), header.cluster_bits);
    let of_cluster = (size / SECTOR) as usize;
    let mut sectors = backing.to_vec();
    sectors.resize(header.virtual_size.div_ceil(SECTOR) as usize, *ZEROS);
    for (cluster, stored) in guest::clusters(image, audit, layer) {
        let wrong = |why| format!("guest offset {:#x} of {} {why}", cluster << bits, layer.id);
        // The last cluster may end behind the disk.
        let sectors = sectors.iter_mut().skip(cluster as usize * of_cluster);
        let sectors = sectors.take(of_cluster);
        match stored.ok_or_else(|| wrong("leads to what cannot be data"))? {
            Stored::Bytes(bytes, allocated, zero) => {
                for (number, sector) in sectors.enumerate() {
                    let subcluster = number * SUBCLUSTERS / of_cluster.max(SUBCLUSTERS);
                    if (allocated | zero) >> subcluster & 1 == 1 {
                        let at = number * SECTOR as usize;
                        let bytes = bytes.get(at..at + SECTOR as usize);
                        *sector = bytes.map_or(*ZEROS, content);
                    }
                }
            }
            Stored::Compressed(stream) => {
                let bytes = inflate(&stream, size as usize)
                    .ok_or_else(|| wrong("leads to no compressed data of a cluster's size"))?;
                let bytes = bytes.chunks(SECTOR as usize);
                sectors
                    .zip(bytes)
                    .for_each(|(sector, bytes)| *sector = content(bytes));
            }
            Stored::External(_) => return Err(wrong("lies in another file")),
        }
    }
    Ok(sectors)
}

/// A whole cluster of a raw deflate stream, whatever follows it in its last sector (specification,
/// "Compressed Clusters Descriptor").
fn inflate(stream: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; size];
    let mut inflater = Decompress::new(false);
    let status = inflater.decompress(stream, &mut bytes, FlushDecompress::Finish);
    let is_whole = matches!(status, Ok(Status::StreamEnd)) && inflater.total_out() == size as u64;
    is_whole.then_some(bytes)
}
