//! Which operation comes next, at random.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use recount_oracle::case::Fault;
use recount_oracle::disk::SECTOR;

use crate::operation::{FAILING, HOW, Operation, TIMES};

/// Most snapshots at a time.
const SNAPSHOTS_MAX: usize = 3;
/// Half of the writes begin in the first so many clusters, so that much is written again.
const BUSY_CLUSTERS: u64 = 6;
/// Longest write or discard in clusters.
const CLUSTERS_MAX: u64 = 4;
/// One write of so many is of zeros, which a writer may store without a cluster.
const ZEROS_IN: u32 = 12;
/// How many operations on the disk go well at most before one fails.
const GOOD_MAX: u32 = 12;

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
    /// The writer ends without closing the image.
    pub kill: u32,
    /// The disk fails: a write, a flush or a change of length that comes soon.
    pub fail: u32,
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
            kill: 0,
            fail: 0,
        }
    }
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
            mix.kill,
            mix.fail,
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
            Some(6) => Self::Kill,
            Some(7) => Self::Fail(fault(rng)),
            _ => {
                let seed = (rng.random_range(0..ZEROS_IN) > 0).then(|| number.into());
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

/// What fails soon. Flushes and changes of length are fewer than writes.
fn fault(rng: &mut ChaCha8Rng) -> Fault {
    let operation = FAILING[rng.random_range(0..FAILING.len())];
    let most = if operation == FAILING[0] {
        GOOD_MAX
    } else {
        GOOD_MAX / 4
    };
    Fault {
        operation,
        nth: rng.random_range(0..most),
        error: HOW[rng.random_range(0..HOW.len())],
        times: TIMES[rng.random_range(0..TIMES.len())],
    }
}
