//! What the guest reads, sector by sector, of the active layer and of each snapshot: what the oracle
//! finds in the image, decompressed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use recount_oracle::audit::{Audit, Layer, LayerId, Mapping, SnapshotEntry};
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::disk::SECTOR;
use recount_oracle::guest::{self, SUBCLUSTERS, Stored};

use crate::compressed::decompress;
use crate::luks::Key;

/// Bytes of a snapshot table entry before its extra data, and where in them the lengths of the id and
/// of the name are (specification, "Snapshots").
const SNAPSHOT_ENTRY: u64 = 40;
const ID_LENGTH: u64 = 12;
const NAME_LENGTH: u64 = 14;
/// Where the header says where the name of the backing file is (specification, "Header").
pub(crate) const BACKING_FIELD: u64 = 8;
/// Autoclear feature bit 1: the external data file reads as the disk does.
pub(crate) const DATA_FILE_RAW: u64 = 2;

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

/// What an image needs to be read, beside its own bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beside {
    /// The sectors of the raw backing file; none without one.
    pub(crate) backing: Vec<Content>,
    /// The external data file as it is now.
    pub(crate) data_file: Option<SparseBytes>,
    /// The key of an encrypted image, where it is known.
    pub(crate) key: Option<Key>,
}

/// The sectors of a raw backing file; behind its end are zeros.
pub(crate) fn backing(file: Option<&SparseBytes>) -> Vec<Content> {
    file.map_or_else(Vec::new, |file| {
        let bytes = file.bytes(0, file.len().next_multiple_of(SECTOR) as usize);
        bytes.chunks(SECTOR as usize).map(content).collect()
    })
}

/// Where a raw external data file reads otherwise than the guest does, in words.
pub(crate) fn differs(audit: &Audit, beside: &Beside, view: &View) -> Option<String> {
    let file = beside.data_file.as_ref()?;
    if audit.header.autoclear & DATA_FILE_RAW == 0 {
        return None;
    }
    let mut sectors = (0..).zip(&view.active);
    let (at, _) =
        sectors.find(|&(at, read)| content(&file.bytes(at * SECTOR, SECTOR as usize)) != *read)?;
    let at = at * SECTOR;
    Some(format!(
        "the raw data file has other bytes than the guest reads at {at:#x}"
    ))
}

/// Reads an image with its audit; why not, where a cluster cannot be read.
pub(crate) fn read(image: &SparseBytes, audit: &Audit, beside: &Beside) -> Result<View, String> {
    let mut view = View {
        active: Vec::new(),
        snapshots: Vec::new(),
    };
    for layer in &audit.layers {
        let sectors = sectors(image, audit, layer, beside)?;
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
    beside: &Beside,
) -> Result<Vec<Content>, String> {
    let header = &audit.header;
    let (size, bits) = (header.cluster_size(), header.cluster_bits);
    let of_cluster = (size / SECTOR) as usize;
    // A writer must not take the backing file out of the header.
    let mut sectors = match image.number(BACKING_FIELD, 8) {
        0 => Vec::new(),
        _ => beside.backing.clone(),
    };
    sectors.resize(header.virtual_size.div_ceil(SECTOR) as usize, *ZEROS);
    for (cluster, stored) in guest::clusters(image, audit, layer) {
        let wrong = |why| format!("guest offset {:#x} of {} {why}", cluster << bits, layer.id);
        // The last cluster may end behind the disk.
        let sectors = sectors.iter_mut().skip(cluster as usize * of_cluster);
        let sectors = sectors.take(of_cluster);
        let stored = stored.ok_or_else(|| wrong("leads to what cannot be data"))?;
        match plain(stored, layer.map.get(&cluster), size, beside) {
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
                let bytes = decompress(&stream, size as usize, header.zstd())
                    .ok_or_else(|| wrong("leads to no compressed data of a cluster's size"))?;
                let bytes = bytes.chunks(SECTOR as usize);
                sectors
                    .zip(bytes)
                    .for_each(|(sector, bytes)| *sector = content(bytes));
            }
            Stored::External(_) => return Err(wrong("lies in a data file that there is not")),
        }
    }
    Ok(sectors)
}

/// What the guest reads of a cluster: the bytes of an external data file, behind whose end are zeros, and
/// the decrypted ones of an encrypted image.
fn plain(stored: Stored, mapping: Option<&Mapping>, size: u64, beside: &Beside) -> Stored {
    match (stored, mapping, beside) {
        (
            Stored::External(offset),
            _,
            Beside {
                data_file: Some(file),
                ..
            },
        ) => Stored::Bytes(file.bytes(offset, size as usize), u32::MAX, 0),
        (
            Stored::Bytes(mut bytes, allocated, zero),
            Some(Mapping::Data { offset } | Mapping::Subclusters { offset, .. }),
            Beside { key: Some(key), .. },
        ) => {
            // The number of a sector is that of the place in the file.
            key.decrypt(&mut bytes, offset / SECTOR);
            Stored::Bytes(bytes, allocated, zero)
        }
        (stored, ..) => stored,
    }
}
