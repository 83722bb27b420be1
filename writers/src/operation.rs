//! What a random guest and its operator do to an image.

use std::fmt;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use recount_oracle::disk::SECTOR;

/// Most snapshots at a time.
const SNAPSHOTS_MAX: usize = 3;
/// Half of the writes begin in the first so many clusters, so that much is written again.
const BUSY_CLUSTERS: u64 = 6;
/// Longest write or discard in clusters.
const CLUSTERS_MAX: u64 = 4;
/// One write of so many is of zeros, which a writer may store without a cluster.
const ZEROS_IN: u32 = 12;

/// How often each kind of operation comes up: shares of their sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Writes.
    pub write: u32,
    /// Discards.
    pub discard: u32,
    /// Snapshots, of which there are three at most at a time.
    pub snapshot: u32,
    /// Deletions of a snapshot.
    pub delete_snapshot: u32,
    /// Flushes.
    pub flush: u32,
    /// The image is closed, and opened again.
    pub reopen: u32,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            write: 12,
            discard: 2,
            snapshot: 1,
            delete_snapshot: 1,
            flush: 3,
            reopen: 1,
        }
    }
}

/// One operation. Offsets and lengths are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant names its fields")]
pub enum Operation {
    /// Random bytes of this seed are written, or zeros without one.
    Write {
        offset: u64,
        length: u64,
        seed: Option<u64>,
    },
    /// Bytes are given back.
    Discard { offset: u64, length: u64 },
    /// A snapshot is taken.
    Snapshot { name: String },
    /// A snapshot is deleted.
    DeleteSnapshot { name: String },
    /// A flush.
    Flush,
    /// The image is closed, and opened again.
    Reopen,
}

impl Operation {
    /// Draws the operation of this number, on a disk of `size` bytes that has these snapshots.
    pub(crate) fn draw(
        rng: &mut ChaCha8Rng,
        mix: &Mix,
        number: u32,
        cluster: u64,
        size: u64,
        snapshots: &[&str],
    ) -> Self {
        let shares = [
            mix.write,
            mix.discard,
            mix.snapshot,
            mix.delete_snapshot,
            mix.flush,
            mix.reopen,
        ];
        let mut drawn = rng.random_range(0..shares.iter().sum::<u32>().max(1));
        let kind = shares.iter().position(|&share| {
            let is_here = drawn < share;
            drawn = drawn.wrapping_sub(share);
            is_here
        });
        let (offset, length) = place(rng, cluster, size);
        match kind {
            Some(1) => Self::Discard { offset, length },
            Some(2) if snapshots.len() < SNAPSHOTS_MAX => Self::Snapshot {
                name: format!("snapshot-{number}"),
            },
            Some(3) if !snapshots.is_empty() => Self::DeleteSnapshot {
                name: snapshots[rng.random_range(0..snapshots.len())].to_owned(),
            },
            // There is no room for a snapshot, or none to delete.
            Some(2..=4) => Self::Flush,
            Some(5) => Self::Reopen,
            _ => {
                let seed = (rng.random_range(0..ZEROS_IN) > 0).then(|| rng.random());
                Self::Write {
                    offset,
                    length,
                    seed,
                }
            }
        }
    }
}

/// Some sectors: within a cluster, whole clusters, or across them.
fn place(rng: &mut ChaCha8Rng, cluster: u64, size: u64) -> (u64, u64) {
    let clusters = size.div_ceil(cluster);
    let begin = if rng.random() {
        clusters
    } else {
        BUSY_CLUSTERS.min(clusters)
    };
    let first = rng.random_range(0..begin) * cluster;
    let sectors = cluster / SECTOR;
    let mut within = || rng.random_range(0..sectors) * SECTOR;
    let (skipped, most) = (within(), within() + SECTOR);
    let whole = rng.random_range(1..=CLUSTERS_MAX) * cluster;
    let (offset, length) = match rng.random_range(0..3) {
        0 => (first + skipped, most.min(cluster - skipped)),
        1 => (first, whole),
        _ => (first + skipped, whole),
    };
    // The last cluster may end behind the disk.
    let offset = offset.min(size - SECTOR);
    (offset, length.min(size - offset))
}

/// The bytes that a write has: no two sectors of two seeds are alike.
pub(crate) fn bytes(seed: Option<u64>, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    if let Some(seed) = seed {
        ChaCha8Rng::seed_from_u64(seed).fill(&mut bytes[..]);
    }
    bytes
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write {
                offset,
                length,
                seed,
            } => {
                let what = if seed.is_some() { "bytes" } else { "zeros" };
                write!(f, "write {length} {what} at {offset:#x}")
            }
            Self::Discard { offset, length } => write!(f, "discard {length} bytes at {offset:#x}"),
            Self::Snapshot { name } => write!(f, "take {name}"),
            Self::DeleteSnapshot { name } => write!(f, "delete {name}"),
            Self::Flush => f.write_str("flush"),
            Self::Reopen => f.write_str("close and open"),
        }
    }
}
