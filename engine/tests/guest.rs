//! What is told as lost: with subclusters an offset alone is no data, wherever it leads.

use std::sync::atomic::{AtomicUsize, Ordering};

use recount::guest::{Layers, LostRanges};
use recount::{MemoryStorage, Offset, Storage, StorageError};

/// Extended L2 entries need clusters of 16 KiB. Header 0, L1 table 1, L2 table 2.
const CLUSTER: usize = 16 << 10;
const L2: usize = 2 * CLUSTER;
/// The incompatible feature of extended L2 entries (specification, "Header").
const EXTENDED_L2: u64 = 1 << 4;
/// What leads past the end of the file, and what leads nowhere.
const PAST_END: u64 = 1 << 30;
const UNALIGNED: u64 = PAST_END + 512;

fn image(entries: &[(u64, u64)]) -> MemoryStorage {
    let mut bytes = vec![0; 3 * CLUSTER];
    let mut put = |at: usize, field: &[u8]| bytes[at..][..field.len()].copy_from_slice(field);
    put(0, b"QFI\xfb");
    for (at, field) in [(4, 3_u32), (20, 14), (36, 1), (56, 1), (96, 4), (100, 104)] {
        put(at, &field.to_be_bytes());
    }
    let (size, l1) = (64 * CLUSTER as u64, CLUSTER as u64);
    let pointers = [
        (24, size),
        (40, l1),
        (72, EXTENDED_L2),
        (CLUSTER, L2 as u64),
    ];
    let entries = entries.iter().zip((L2..).step_by(16));
    let entries = entries.flat_map(|(&(word, bitmap), at)| [(at, word), (at + 8, bitmap)]);
    for (at, field) in pointers.into_iter().chain(entries) {
        put(at, &field.to_be_bytes());
    }
    MemoryStorage::growing(bytes)
}

fn lost_ranges(image: &MemoryStorage) -> Vec<LostRanges> {
    Layers::read(image).unwrap().lost_ranges(image).unwrap()
}

#[test]
fn nothing_is_lost_with_an_extended_entry_without_data() {
    let (nothing, zeros, first) = (0, 0xffff_ffff << 32, 1);
    let without_data = [
        (PAST_END, nothing),
        (PAST_END, zeros),
        (UNALIGNED, nothing),
        (UNALIGNED, zeros),
    ];
    assert_eq!(lost_ranges(&image(&without_data)), []);
    // One subcluster with data, and the guest has lost its cluster.
    let with_data = [(PAST_END, zeros), (PAST_END, first), (UNALIGNED, first)];
    let lost = lost_ranges(&image(&with_data));
    let cluster = CLUSTER as u64;
    assert_eq!(lost.len(), 1, "{lost:?}");
    let lost = &lost[0];
    assert_eq!(lost.ranges.first(), Some(&(cluster..3 * cluster)));
    assert_eq!(lost.bytes, 2 * cluster);
}

/// Counts the bytes that are read.
struct Counted {
    inner: MemoryStorage,
    bytes: AtomicUsize,
}

impl Storage for Counted {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn capacity(&self) -> Option<u64> {
        self.inner.capacity()
    }

    fn read_at(&self, offset: Offset, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.bytes.fetch_add(buffer.len(), Ordering::Relaxed);
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: Offset, bytes: &[u8]) -> Result<(), StorageError> {
        self.inner.write_at(offset, bytes)
    }

    fn set_len(&mut self, length: u64) -> Result<(), StorageError> {
        self.inner.set_len(length)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.inner.flush()
    }
}

/// A hostile image: its L1 table leads to one L2 table again and again.
#[test]
fn a_table_that_many_entries_lead_to_is_read_once() {
    const ENTRIES: usize = 1 << 16;
    let (header, l1, l2) = (0, CLUSTER, CLUSTER + ENTRIES * 8);
    for (entry, lost_each) in [(0, 0), (PAST_END, CLUSTER as u64)] {
        let mut bytes = vec![0; l2 + CLUSTER];
        let mut put = |at: usize, field: &[u8]| bytes[at..][..field.len()].copy_from_slice(field);
        put(header, b"QFI\xfb");
        let fields = [
            (4, 3_u32),
            (20, 14),
            (36, ENTRIES as u32),
            (56, 1),
            (96, 4),
            (100, 104),
        ];
        for (at, field) in fields {
            put(at, &field.to_be_bytes());
        }
        put(24, &(1_u64 << 41).to_be_bytes());
        put(40, &(l1 as u64).to_be_bytes());
        for index in 0..ENTRIES {
            put(l1 + index * 8, &(l2 as u64).to_be_bytes());
        }
        put(l2, &u64::to_be_bytes(entry));
        let storage = Counted {
            inner: MemoryStorage::growing(bytes),
            bytes: AtomicUsize::new(0),
        };
        let lost = Layers::read(&storage)
            .unwrap()
            .lost_ranges(&storage)
            .unwrap();
        assert!(storage.bytes.load(Ordering::Relaxed) < 2 * (l2 + CLUSTER));
        let bytes: u64 = lost.iter().map(|lost| lost.bytes).sum();
        assert_eq!(bytes, ENTRIES as u64 * lost_each);
    }
}
