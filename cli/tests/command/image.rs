//! A small qcow2 image, byte by byte, so that these tests need nothing installed.

use std::path::{Path, PathBuf};

/// 512-byte clusters: header 0, reftable 1, refblock 2, L1 table 3, L2 table 4, data 5 to 8.
pub struct Image {
    pub bytes: Vec<u8>,
}

pub const CLUSTER: usize = 512;
pub const REFTABLE: usize = CLUSTER;
pub const REFBLOCK: usize = 2 * CLUSTER;
pub const L1: usize = 3 * CLUSTER;
pub const L2: usize = 4 * CLUSTER;
pub const CLUSTERS: usize = 9;

/// The fields of the header that say where or how much: name, offset, bytes.
pub const CLUSTER_BITS: usize = 20;
pub const SIZE: usize = 24;
pub const L1_SIZE: usize = 36;
pub const L1_OFFSET: usize = 40;
pub const REFTABLE_OFFSET: usize = 48;
pub const REFTABLE_CLUSTERS: usize = 56;
pub const SNAPSHOTS: usize = 60;
pub const SNAPSHOTS_OFFSET: usize = 64;

impl Image {
    /// A version 3 image of 16 KiB with four data clusters, no errors in it.
    pub fn clean() -> Self {
        let mut image = Self {
            bytes: vec![0; CLUSTERS * CLUSTER],
        };
        image.put(0, b"QFI\xfb");
        image.put32(4, 3);
        image.put32(CLUSTER_BITS, 9);
        image.put64(SIZE, 16 << 10);
        image.put32(L1_SIZE, 1);
        image.put64(L1_OFFSET, L1 as u64);
        image.put64(REFTABLE_OFFSET, REFTABLE as u64);
        image.put32(REFTABLE_CLUSTERS, 1);
        image.put32(96, 4);
        image.put32(100, 104);
        image.put64(REFTABLE, REFBLOCK as u64);
        for cluster in 0..CLUSTERS {
            image.set_refcount(cluster, 1);
        }
        image.put64(L1, 1 << 63 | L2 as u64);
        for (entry, cluster) in (5..CLUSTERS).enumerate() {
            image.put64(L2 + 8 * entry, 1 << 63 | (cluster * CLUSTER) as u64);
            image.bytes[cluster * CLUSTER..][..CLUSTER].fill(0xa0 + entry as u8);
        }
        image
    }

    pub fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.bytes[offset..][..bytes.len()].copy_from_slice(bytes);
    }

    pub fn put32(&mut self, offset: usize, value: u32) {
        self.put(offset, &value.to_be_bytes());
    }

    pub fn put64(&mut self, offset: usize, value: u64) {
        self.put(offset, &value.to_be_bytes());
    }

    pub fn set_refcount(&mut self, cluster: usize, refcount: u16) {
        self.put(REFBLOCK + 2 * cluster, &refcount.to_be_bytes());
    }

    /// Writes the image into a directory of its own.
    pub fn write(&self) -> (tempfile::TempDir, PathBuf) {
        write(&self.bytes)
    }
}

/// Writes bytes as `image` into a directory of their own.
pub fn write(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("image");
    std::fs::write(&path, bytes).expect("a written file");
    (directory, path)
}

/// The data clusters as the guest sees them.
pub fn data(file: &Path) -> Vec<u8> {
    std::fs::read(file).expect("a readable file")[5 * CLUSTER..CLUSTERS * CLUSTER].to_vec()
}
