//! What one qemu-img says about a damaged image and does to it: run now, or recorded earlier.

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::observed::{Layout, Observed};

use super::subject::{Bench, Checker, Repair, Repaired, Subject};
use crate::error::Result;

/// qemu-img says this on standard error, and only when it rebuilds.
const REBUILDING: &str = "Rebuilding refcount structure";

/// qemu-img says this where its overlap check keeps it from writing.
pub const STOPPED_BY_OVERLAP: &str = "Preventing invalid write on metadata";

/// qemu-img says this of images of compression type zstd where it was built without that.
const WITHOUT_ZSTD: &str = "unknown compression type: 1";

/// What qemu-img says of images that it cannot open, with nothing wrong in what recount looks at:
/// key material that is damaged, a header that asks for a key that nobody has, the name of a backing
/// file that is not there, and zstd where qemu-img was built without it.
const BEYOND: [&str; 5] = [
    "state (active/disable) is corrupted",
    "cannot unlock any keyslot",
    "'encrypt.key-secret' is required",
    "Could not open backing file",
    WITHOUT_ZSTD,
];

/// Whether qemu has not looked at the image at all.
pub fn is_beyond(stderr: &str) -> bool {
    BEYOND.iter().any(|reason| stderr.contains(reason))
}

/// How many snapshots the header counts (specification, "Header").
fn snapshots(image: &SparseBytes) -> u64 {
    image.number(60, 4)
}

/// Runs qemu-img in all the ways that are compared: what can be recorded of it, and what `-r all`
/// leaves.
pub fn observe(
    by: &Checker,
    bench: Bench<'_>,
    damaged: &SparseBytes,
) -> Result<(Observed, Repaired)> {
    let check = by.check(bench, damaged)?;
    let leaks = by.run(bench, damaged, Repair::Leaks)?.said;
    let all = by.run(bench, damaged, Repair::All)?;
    let settled = if all.image == *damaged {
        check.clone()
    } else {
        by.check(bench, &all.image)?
    };
    let rebuilds = all.said.stderr.contains(REBUILDING);
    let complete = rebuilds && all.said.counters.is_some();
    let observed = Observed {
        qemu: by.version(),
        rebuilds,
        loses_snapshots: snapshots(damaged) > 0 && snapshots(&all.image) == 0,
        stopped_by_overlap: all.said.stderr.contains(STOPPED_BY_OVERLAP),
        lacks_zstd: check.stderr.contains(WITHOUT_ZSTD),
        check,
        leaks,
        settled,
        layout: complete.then(|| Layout::read(&all.image)).flatten(),
        all: all.said.clone(),
    };
    Ok((observed, all))
}
