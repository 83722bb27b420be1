//! Compressed clusters begin and end anywhere in clusters, of which they share the first and the last;
//! they are counted many at a time, and it comes to the same as one by one.

use recount::MemoryStorage;

const CLUSTER: usize = 4 << 10;
/// Header 0, reftable 1, L1 table 3; the rest of the file is guest data.
const REFBLOCK: usize = 2 * CLUSTER;
const L2: usize = 4 * CLUSTER;
const DATA: u64 = 1 << 20;
const LENGTH: usize = 8 << 20;
const ENTRIES: usize = 6 * CLUSTER / 8;

const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
/// The lowest bit of the number of sectors (specification, "Compressed Clusters Descriptor").
const SECTORS: u32 = 62 - (12 - 8);

/// Entries with gaps of a plain cluster or nothing between runs of compressed ones.
fn entries() -> Vec<u64> {
    let (mut state, mut position) = (1_u64, DATA);
    let entry = |_| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(11);
        let random = state >> 40;
        match random % 97 {
            0 => 0,
            1 => (2 << 20) | ((random * CLUSTER as u64) & 0xf_ffff),
            _ => {
                let (sectors, start) = (random % 8, position);
                position += sectors * 512 + random % 500;
                COMPRESSED | (sectors << SECTORS) | start
            }
        }
    };
    (0..ENTRIES).map(entry).collect()
}

/// The clusters that an entry refers to.
fn clusters(entry: u64) -> std::ops::Range<usize> {
    let start = entry & ((1 << SECTORS) - 1);
    let bytes = match entry & COMPRESSED {
        _ if entry == 0 => 0,
        0 => 1,
        _ => (((entry ^ COMPRESSED) >> SECTORS) + 1) * 512 - start % 512,
    };
    start as usize / CLUSTER..(start + bytes).div_ceil(CLUSTER as u64) as usize
}

/// An image with these entries whose refcounts are what each of them adds.
fn image(entries: &[u64]) -> MemoryStorage {
    let mut bytes = vec![0; LENGTH];
    let mut put = |at: usize, field: &[u8]| bytes[at..][..field.len()].copy_from_slice(field);
    put(0, b"QFI\xfb");
    for (at, field) in [(4, 3_u32), (20, 12), (36, 6), (56, 1), (96, 4), (100, 104)] {
        put(at, &field.to_be_bytes());
    }
    let mut refcounts = [0_u16; CLUSTER / 2];
    refcounts[..4 + 6].fill(1);
    for cluster in entries.iter().flat_map(|entry| clusters(*entry)) {
        refcounts[cluster] += 1;
    }
    let copied = |entry: u64| match clusters(entry).next() {
        Some(cluster) if entry & COMPRESSED == 0 && refcounts[cluster] == 1 => entry | COPIED,
        _ => entry,
    };
    let pointers = [
        (24, ENTRIES * CLUSTER),
        (40, 3 * CLUSTER),
        (48, CLUSTER),
        (CLUSTER, REFBLOCK),
    ];
    let pointers = pointers.map(|(at, to)| (at, to as u64)).into_iter();
    let l1 = (0..6).map(|table| {
        (
            3 * CLUSTER + 8 * table,
            COPIED | (L2 + table * CLUSTER) as u64,
        )
    });
    let l2 = (L2..)
        .step_by(8)
        .zip(entries.iter().map(|entry| copied(*entry)));
    for (at, field) in pointers.chain(l1).chain(l2) {
        put(at, &field.to_be_bytes());
    }
    for (at, refcount) in (REFBLOCK..).step_by(2).zip(refcounts) {
        put(at, &refcount.to_be_bytes());
    }
    MemoryStorage::growing(bytes)
}

#[test]
fn compressed_clusters_are_counted_as_they_are_one_by_one() {
    let entries = entries();
    let compressed = entries.iter().filter(|entry| **entry & COMPRESSED != 0);
    let report = recount::check(&image(&entries), &mut ()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.compressed_clusters, compressed.count() as u64);
}

#[test]
fn a_compressed_cluster_past_the_end_of_the_file_is_a_corruption() {
    let mut entries = entries();
    let inside = image(&entries);
    entries[7] = 0;
    let mut bytes = image(&entries).bytes().to_vec();
    let past_end = COMPRESSED | (1 << 30);
    bytes[L2 + 7 * 8..][..8].copy_from_slice(&past_end.to_be_bytes());
    let report = recount::check(&MemoryStorage::growing(bytes), &mut ()).unwrap();
    assert_eq!((report.corruptions, report.leaks), (1, 0), "{report:?}");
    let before = recount::check(&inside, &mut ()).unwrap();
    assert_eq!(report.compressed_clusters, before.compressed_clusters);
}
