//! Three images written out byte by byte, with what the audit must find worked out by hand from the
//! specification. 512-byte clusters: an L2 table has 64 entries, a reftable cluster 64.

use std::collections::BTreeMap;

use recount_oracle::audit::{
    Audit, Corruption, LayerId, Mapping, Mismatch, Referrer, Wrong, audit, counters,
};

const CLUSTER: usize = 512;
const COPIED: u64 = 1 << 63;

/// Clusters of zeros with a version 3 header: 32 KiB of disk, one L1 entry at cluster 3, reftable
/// of one cluster at cluster 1, refcounts of 2^`order` bits.
fn image(clusters: usize, order: u8) -> Vec<u8> {
    let mut bytes = vec![0; clusters * CLUSTER];
    bytes[0..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    bytes[23] = 9; // Cluster bits.
    bytes[30] = 0x80; // Virtual size: 32,768.
    bytes[39] = 1; // L1 entries.
    bytes[46] = 0x06; // L1 table at 0x600.
    bytes[54] = 0x02; // Reftable at 0x200,
    bytes[59] = 1; // of one cluster.
    bytes[99] = order;
    bytes[103] = 104; // Header length; zeros after it end the extensions.
    put(&mut bytes, 0x200, 0x400); // Reftable entry 0: the refblock is cluster 2.
    bytes
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

fn references(audit: &Audit) -> BTreeMap<u64, u64> {
    let clusters = audit.references.keys();
    clusters
        .map(|&cluster| (cluster, audit.references_to(cluster)))
        .collect()
}

const fn data(l2_index: u64) -> Referrer {
    Referrer::Data {
        layer: LayerId::Active,
        l1_index: 0,
        l2_index,
    }
}

/// Header, reftable, refblock, L1, L2, two data clusters the wrong way round: all well.
#[test]
fn a_small_clean_image_is_clean() {
    let mut bytes = image(7, 4);
    put(&mut bytes, 0x600, 0x800 | COPIED);
    put(&mut bytes, 0x800, 0xc00 | COPIED);
    put(&mut bytes, 0x808, 0xa00 | COPIED);
    put(&mut bytes, 0x810, 1); // Guest cluster 2: plain zeros.
    for cluster in 0..7 {
        bytes[0x400 + 2 * cluster + 1] = 1;
    }
    let audit = audit(&bytes).unwrap();
    assert!(audit.is_clean(), "{audit:?}");
    assert_eq!(
        references(&audit),
        (0..7).map(|cluster| (cluster, 1)).collect()
    );
    assert_eq!(audit.references[&0][..], [Referrer::Header]);
    assert_eq!(audit.references[&1][..], [Referrer::Reftable]);
    assert_eq!(audit.references[&2][..], [Referrer::Refblock { index: 0 }]);
    let layer = LayerId::Active;
    assert_eq!(audit.references[&3][..], [Referrer::L1 { layer }]);
    assert_eq!(
        audit.references[&4][..],
        [Referrer::L2 { layer, l1_index: 0 }]
    );
    assert_eq!(audit.references[&5][..], [data(1)]);
    assert_eq!(audit.references[&6][..], [data(0)]);
    let map = [
        (0, Mapping::Data { offset: 0xc00 }),
        (1, Mapping::Data { offset: 0xa00 }),
        (2, Mapping::Zero),
    ];
    assert_eq!(audit.layers[0].map, map.into_iter().collect());
    let figures = counters(&audit);
    assert_eq!(figures.image_end_offset, 7 * 512);
    assert_eq!(figures.total_clusters, 64);
    assert_eq!(figures.allocated_clusters, 2);
    assert_eq!(
        figures.fragmented_clusters, 1,
        "the second does not follow the first"
    );
}

/// 2-bit refcounts, four to a byte from the low bits up; two compressed clusters share cluster 5,
/// the second goes on into cluster 6; cluster 7 is leaked, cluster 8 counted too low.
#[test]
fn compressed_clusters_leaks_and_low_counts_are_told_apart() {
    let mut bytes = image(9, 1);
    let compressed = 1 << 62;
    // x = 62 - (9 - 8) = 61: offset in bits 0 to 60, sectors after the first in bit 61.
    put(&mut bytes, 0x600, 0x800 | COPIED);
    put(&mut bytes, 0x800, compressed | 0xa00); // Sector 5.
    put(&mut bytes, 0x808, compressed | 1 << 61 | 0xb00); // From the middle of it through sector 6.
    put(&mut bytes, 0x810, 0x1000); // Cluster 8, which counts 0.
    bytes[0x400] = 0b01_01_01_01; // Clusters 3, 2, 1, 0.
    bytes[0x401] = 0b01_01_10_01; // Clusters 7, 6, 5, 4.
    let audit = audit(&bytes).unwrap();
    let compressed = |l2_index| Referrer::Compressed {
        layer: LayerId::Active,
        l1_index: 0,
        l2_index,
    };
    assert_eq!(audit.references[&5][..], [compressed(0), compressed(1)]);
    assert_eq!(audit.references[&6][..], [compressed(1)]);
    assert_eq!(audit.disk.count(5), Some(2));
    let mismatch = |cluster, on_disk, references| Mismatch {
        cluster,
        on_disk,
        references,
    };
    assert_eq!(audit.mismatches, [mismatch(7, 1, 0), mismatch(8, 0, 1)]);
    assert!(audit.mismatches[0].is_leak() && audit.mismatches[1].is_free_on_disk());
    assert!(
        audit.qemu.rebuild_needed && audit.corruptions.is_empty() && audit.qemu.copied.is_empty()
    );
    let map = &audit.layers[0].map;
    let second = Mapping::Compressed {
        offset: 0xb00,
        bytes: 0x300,
    };
    assert_eq!(map[&1], second, "half a sector and a whole one");
    let figures = counters(&audit);
    assert_eq!(
        (figures.corruptions, figures.leaks, figures.exit_code()),
        (1, 1, 2)
    );
    assert_eq!(
        (figures.allocated_clusters, figures.compressed_clusters),
        (3, 2)
    );
    assert_eq!(
        figures.fragmented_clusters, 2,
        "compressed ones always, a first other one never"
    );
}

/// A snapshot shares the L2 table and the data; one L2 entry leads past the end, and bit 63 is wrong
/// where the snapshot shares.
#[test]
fn a_snapshot_shares_and_entries_that_lead_nowhere_are_named() {
    let mut bytes = image(9, 4);
    bytes[63] = 1; // One snapshot,
    bytes[70] = 0x0c; // whose table is at 0xc00, cluster 6.
    put(&mut bytes, 0x600, 0x800 | COPIED); // Wrong: the L2 table has two references.
    put(&mut bytes, 0x800, 0xa00);
    put(&mut bytes, 0x808, 0x9_0000); // Far past the end.
    put(&mut bytes, 0x810, 0xe00 + 0x200); // Cluster 8, shared as well.
    put(&mut bytes, 0xc00, 0xe00); // The snapshot's L1 table: cluster 7,
    bytes[0xc0b] = 1; // one entry,
    bytes[0xc0d] = 1; // an id of one byte,
    bytes[0xc27] = 16; // 16 bytes of extra data.
    bytes[0xc38] = b'1';
    put(&mut bytes, 0xe00, 0x800);
    for (cluster, count) in [1, 1, 1, 1, 2, 2, 1, 1, 2].into_iter().enumerate() {
        bytes[0x400 + 2 * cluster + 1] = count;
    }
    let audit = audit(&bytes).unwrap();
    let expected = [1, 1, 1, 1, 2, 2, 1, 1, 2];
    assert_eq!(references(&audit), (0..).zip(expected).collect());
    assert!(audit.mismatches.is_empty(), "{:?}", audit.mismatches);
    let past = |layer| Corruption {
        referrer: Referrer::Data {
            layer,
            l1_index: 0,
            l2_index: 1,
        },
        wrong: Wrong::PastTheEnd {
            offset: 0x9_0000,
            bytes: 512,
        },
    };
    let snapshot = LayerId::Snapshot(0);
    assert_eq!(audit.corruptions, [past(LayerId::Active), past(snapshot)]);
    let (referrer, copied) = (
        Referrer::L2 {
            layer: LayerId::Active,
            l1_index: 0,
        },
        true,
    );
    let (cluster, refcount) = (4, 2);
    let wrong = Wrong::Copied {
        cluster,
        copied,
        refcount,
    };
    assert_eq!(audit.qemu.copied[0], Corruption { referrer, wrong });
    assert_eq!(audit.layers[1].id, snapshot);
    assert_eq!(audit.layers[0].map, audit.layers[1].map);
    assert_eq!(counters(&audit).corruptions, 3);
}
