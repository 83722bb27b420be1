//! What is left of a qcow2 image behind a header that is gone: its reftable and first refblock,
//! which vouch for each other.
//!
//! Only images with refcounts of 16 bits are told: all of version 2, and nearly all of version 3.

use recount::{Offset, Storage};

/// Binary logarithms of the cluster sizes that there are (specification, "Header").
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;

/// How far into the file a reftable is looked for; with larger clusters, in the second one.
const SEARCHED: u64 = 1 << 20;

/// How many refblocks are read at most, and how much of each: no file can make this take long.
const REFBLOCK_BYTES: u64 = 64 << 10;
const REFBLOCKS: usize = 16;

const REFTABLE_ENTRY: usize = 8;
const REFCOUNT: usize = 2;

/// Where the refcount structures are, in bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Remains {
    pub cluster_size: u64,
    pub reftable: u64,
    pub refblock: u64,
}

/// Looks for a reftable in the first bytes of a file.
pub fn find(start: &[u8], storage: &dyn Storage) -> Option<Remains> {
    let candidates = CLUSTER_BITS.rev().flat_map(|bits| {
        let size = 1 << bits;
        let last = SEARCHED.max(size);
        let places = (size..=last).step_by(size as usize);
        places.filter_map(move |reftable| candidate(start, storage.len(), size, reftable))
    });
    let mut some = candidates.take(REFBLOCKS);
    some.find(|remains| counts_both(remains, storage))
}

/// A cluster that reads as the first one of a reftable: its first refblock is in the file, and so is
/// every other that it names.
///
/// Where both places are multiples of twice the cluster size, clusters may as well be larger than
/// this. Such places are passed over: a wrong cluster size would mislead whoever restores the header.
fn candidate(start: &[u8], length: u64, cluster_size: u64, reftable: u64) -> Option<Remains> {
    let end = reftable.checked_add(cluster_size)?;
    let cluster = start.get(reftable as usize..end as usize)?;
    let mut entries = cluster.chunks_exact(REFTABLE_ENTRY).map(be64);
    let is_in_file = |offset: u64| offset.is_multiple_of(cluster_size) && offset < length;
    // The header itself is counted in the first one.
    let refblock = entries.next().filter(|offset| *offset >= cluster_size)?;
    let found = Remains {
        cluster_size,
        reftable,
        refblock,
    };
    let is_largest = !(reftable | refblock).is_multiple_of(2 * cluster_size);
    let makes_sense = is_largest && refblock != reftable && is_in_file(refblock);
    (makes_sense && entries.all(is_in_file)).then_some(found)
}

/// Whether the refblock has a refcount of 1 for header, reftable and itself, and none for clusters
/// that the file does not have.
fn counts_both(remains: &Remains, storage: &dyn Storage) -> bool {
    let Remains {
        cluster_size,
        reftable,
        refblock,
    } = *remains;
    let mut bytes = vec![0; cluster_size.min(REFBLOCK_BYTES) as usize];
    if storage.read_at(Offset(refblock), &mut bytes).is_err() {
        return false;
    }
    let refcounts: Vec<&[u8]> = bytes.chunks_exact(REFCOUNT).collect();
    let is_one = |offset: u64| {
        let refcount = refcounts.get((offset / cluster_size) as usize);
        refcount.is_some_and(|refcount| *refcount == [0, 1])
    };
    let clusters = storage.len().div_ceil(cluster_size) as usize;
    let mut past_end = refcounts.iter().skip(clusters);
    [0, reftable, refblock].into_iter().all(is_one) && past_end.all(|refcount| *refcount == [0, 0])
}

fn be64(bytes: &[u8]) -> u64 {
    let add = |number, byte: &u8| number << 8 | u64::from(*byte);
    bytes.iter().fold(0, add)
}

#[cfg(test)]
mod tests {
    use recount::MemoryStorage;

    use super::{CLUSTER_BITS, REFCOUNT, REFTABLE_ENTRY, Remains, find};

    const CLUSTERS: u64 = 5;

    /// The structures of a new image, with zeros for a header.
    fn headless(cluster_size: u64) -> Vec<u8> {
        let size = cluster_size as usize;
        let mut bytes = vec![0; size * CLUSTERS as usize];
        bytes[size..][..REFTABLE_ENTRY].copy_from_slice(&(2 * cluster_size).to_be_bytes());
        for cluster in 0..CLUSTERS as usize {
            set_refcount(&mut bytes, size, cluster, 1);
        }
        bytes
    }

    fn set_refcount(bytes: &mut [u8], size: usize, cluster: usize, refcount: u16) {
        let at = 2 * size + REFCOUNT * cluster;
        bytes[at..][..REFCOUNT].copy_from_slice(&refcount.to_be_bytes());
    }

    fn found(bytes: Vec<u8>) -> Option<Remains> {
        find(&bytes.clone(), &MemoryStorage::fixed(bytes))
    }

    #[test]
    fn every_cluster_size_is_told_from_the_others() {
        for bits in CLUSTER_BITS {
            let cluster_size = 1 << bits;
            let expected = Remains {
                cluster_size,
                reftable: cluster_size,
                refblock: 2 * cluster_size,
            };
            assert_eq!(found(headless(cluster_size)), Some(expected), "{bits} bits");
        }
    }

    #[test]
    fn what_is_not_counted_once_or_lies_past_the_end_is_no_evidence() {
        const SIZE: usize = 4096;
        let clusters = CLUSTERS as usize;
        for (cluster, refcount) in [(0, 0), (0, 2), (1, 0), (2, 0), (2, 3), (clusters, 1)] {
            let mut bytes = headless(SIZE as u64);
            set_refcount(&mut bytes, SIZE, cluster, refcount);
            assert_eq!(found(bytes), None, "cluster {cluster}: {refcount}");
        }
        let end = CLUSTERS << 12;
        for (entry, offset) in [
            (0, 0),
            (0, 8200),
            (0, end),
            (0, u64::MAX),
            (1, 8193),
            (9, end),
        ] {
            let mut bytes = headless(SIZE as u64);
            let at = SIZE + REFTABLE_ENTRY * entry;
            bytes[at..][..REFTABLE_ENTRY].copy_from_slice(&offset.to_be_bytes());
            assert_eq!(found(bytes), None, "entry {entry}: {offset}");
        }
    }

    #[test]
    fn a_file_cut_before_the_three_refcounts_has_no_evidence() {
        let whole = headless(512);
        let needed = 2 * 512 + 3 * REFCOUNT;
        for length in 0..needed {
            assert_eq!(found(whole[..length].to_vec()), None, "{length} bytes");
        }
        assert!(found(whole[..needed].to_vec()).is_some());
    }

    #[test]
    fn a_moved_reftable_is_found_at_the_size_of_its_clusters() {
        const SIZE: usize = 4096;
        let mut bytes = headless(SIZE as u64);
        bytes.copy_within(SIZE..2 * SIZE, 3 * SIZE);
        bytes[SIZE..2 * SIZE].fill(0);
        let moved = Remains {
            cluster_size: SIZE as u64,
            reftable: 3 * SIZE as u64,
            refblock: 2 * SIZE as u64,
        };
        assert_eq!(found(bytes), Some(moved));
    }

    #[test]
    fn places_that_larger_clusters_could_have_too_are_no_evidence() {
        const SIZE: usize = 4096;
        let mut bytes = headless(SIZE as u64);
        bytes.copy_within(SIZE..2 * SIZE, 4 * SIZE);
        bytes[SIZE..2 * SIZE].fill(0);
        assert_eq!(found(bytes), None);
    }

    #[test]
    fn the_same_bytes_all_over_are_no_evidence() {
        for byte in 0..=u8::MAX {
            assert_eq!(found(vec![byte; 64 << 10]), None, "{byte:#x}");
        }
    }
}
