//! Time and memory follow what a file holds, never what it claims: a sparse file of the largest
//! size the filesystem takes, with tables that name petabytes. Alone in its process, because the
//! peak of its children's memory is what is measured.

use std::fs::File;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

/// Far above what the program itself takes, far below what any table claimed here would.
const MEMORY_LIMIT_KIB: i64 = 64 << 10;

/// A header of an image that says it holds petabytes, cluster size 2^`cluster_bits`.
fn header(cluster_bits: u32) -> Vec<u8> {
    let mut header = vec![0; 104];
    let cluster = 1_u64 << cluster_bits;
    // The largest that the tables' limits allow: an L1 table of 32 MiB.
    let size = (4_u64 << 20) * cluster * (cluster / 8);
    header[..4].copy_from_slice(b"QFI\xfb");
    header[4..8].copy_from_slice(&3_u32.to_be_bytes());
    header[20..24].copy_from_slice(&cluster_bits.to_be_bytes());
    header[24..32].copy_from_slice(&size.min(i64::MAX as u64 >> 9 << 9).to_be_bytes());
    header[36..40].copy_from_slice(&(4_u32 << 20).to_be_bytes());
    header[40..48].copy_from_slice(&(1_u64 << 30).to_be_bytes());
    header[48..56].copy_from_slice(&(2_u64 << 30).to_be_bytes());
    let reftable_clusters = (8_u32 << 20) >> cluster_bits;
    header[56..60].copy_from_slice(&reftable_clusters.to_be_bytes());
    // Snapshots, as many as are allowed, in a table of zeros.
    header[60..64].copy_from_slice(&65_536_u32.to_be_bytes());
    header[64..72].copy_from_slice(&(3_u64 << 30).to_be_bytes());
    header[96..100].copy_from_slice(&4_u32.to_be_bytes());
    header[100..104].copy_from_slice(&104_u32.to_be_bytes());
    header
}

#[test]
fn a_sparse_file_that_claims_petabytes_takes_a_second_and_little_memory() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for cluster_bits in [9, 16, 21] {
        let path = directory.path().join("image");
        let file = File::create(&path).expect("created");
        // As large as the filesystem lets a file be.
        let length = (33..=62)
            .rev()
            .map(|bits| 1_u64 << bits)
            .find(|&length| file.set_len(length).is_ok())
            .expect("a sparse file of 8 GiB");
        file.write_all_at(&header(cluster_bits), 0)
            .expect("written");
        // The first and the last entry of each table lead to the end of the file and beyond it.
        for (table, bytes) in [(1_u64 << 30, 32_u64 << 20), (2 << 30, 8 << 20)] {
            for (entry, target) in [(0, length - (1 << 21)), (bytes - 8, (1 << 55) - (1 << 21))] {
                let entry_value = target.to_be_bytes();
                file.write_all_at(&entry_value, table + entry)
                    .expect("written");
            }
        }
        let check = ["check", "-f", "qcow2", "--output=json"];
        assert_is_cheap(&check, &path, 1..=2);
        for words in [["info"], ["find"], ["map"]] {
            assert_is_cheap(&words, &path, 0..=0);
        }
    }
}

fn assert_is_cheap(words: &[&str], path: &Path, codes: RangeInclusive<i32>) {
    let started = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_recount"))
        .args(words)
        .arg(path)
        .output()
        .expect("the program starts");
    let took = started.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    assert!(
        code.is_some_and(|code| codes.contains(&code)),
        "{words:?}: {code:?} {said}"
    );
    assert!(took < Duration::from_secs(5), "{words:?}: {took:?}");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("own usage");
    let peak = usage.max_rss();
    assert!(peak < MEMORY_LIMIT_KIB, "{words:?}: {peak} KiB");
}
