//! What of an audit imitates qemu's check, and is no truth about the image: what it counts and what
//! it passes over, what it gives up for, which bits it looks at, the figures that it prints.

mod counters;
pub(super) mod habits;

use itertools::Itertools;

use super::corruption::{Corruption, Wrong};
use super::layers::CopiedBit;
use super::references::Referrer;
use super::{Audit, Mismatch};

pub use counters::{Counters, counters};

/// What qemu-img makes of an image.
#[derive(Clone, Debug, Default)]
pub struct QemuView {
    /// Whether there is something for which only qemu-img gives up, if it opens the image at all.
    pub gives_up: bool,
    /// Bits 63 of the active layer that do not match the refcounts on disk. It does not look at the
    /// other layers.
    pub copied: Vec<Corruption>,
    /// Clusters whose refcount cannot be read.
    pub check_errors: u64,
    /// Whether it would build the structures anew.
    pub rebuild_needed: bool,
    /// Fragmentation of the active layer.
    pub statistics: Statistics,
    /// One after the last cluster with a reference or a refcount, at least 1.
    pub end: u64,
}

/// qemu's statistics of the active layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Guest clusters with a host cluster.
    pub allocated: u64,
    /// Those that do not follow the one before in the same L2 table.
    pub fragmented: u64,
    /// Compressed ones; they count as fragmented.
    pub compressed: u64,
    /// Where the cluster would be that follows the last one in the same table.
    next: Option<u64>,
}

impl Statistics {
    /// An L2 table begins.
    pub(super) const fn begin_table(&mut self) {
        self.next = None;
    }

    /// An entry with a cluster at this offset.
    pub(super) fn cluster(&mut self, offset: u64, cluster_size: u64) {
        self.allocated += 1;
        self.fragmented += u64::from(self.next.is_some_and(|next| next != offset));
        self.next = Some(offset + cluster_size);
    }

    /// A compressed entry.
    pub(super) const fn compressed(&mut self) {
        self.allocated += 1;
        self.fragmented += 1;
        self.compressed += 1;
    }
}

/// What qemu-img makes of what was found, beside what is noted during the walk.
pub(super) fn complete(found: &mut Audit) {
    let (disk, clusters) = (&found.disk, found.clusters);
    let known = found.references.keys().merge(disk.counts().keys());
    let in_file = known.filter(|&&cluster| cluster < clusters && disk.count(cluster).is_some());
    let end = in_file.last().map_or(1, |last| last + 1);
    let unreadable = disk
        .refblocks()
        .filter(|&(_, offset)| !disk.is_readable(offset));
    let unreadable = unreadable.map(|(index, _)| {
        let entries = found.header.refblock_entries();
        let first = index.saturating_mul(entries).min(clusters);
        first.saturating_add(entries).min(clusters) - first
    });
    let check_errors = unreadable.sum();
    let copied = found.copied_bits.iter();
    let copied = copied.filter_map(|bit| wrong_bit(found, bit)).collect();
    let rebuild_needed = found.corruptions.iter().any(habits::is_rebuilt_for)
        || found.mismatches.iter().any(Mismatch::is_free_on_disk);
    found.qemu = QemuView {
        copied,
        check_errors,
        rebuild_needed,
        end,
        ..found.qemu
    };
}

/// Bit 63 must be set exactly where the refcount on disk is one. Data in an external file counts as
/// having one. Where the refcount of the table cannot be read, qemu-img looks no further.
fn wrong_bit(found: &Audit, bit: &CopiedBit) -> Option<Corruption> {
    let data = matches!(bit.referrer, Referrer::Data { .. });
    let external = data && found.header.external_data();
    found.disk.count(bit.table >> found.header.cluster_bits)?;
    let on_disk = found.disk.count(bit.cluster);
    let refcount = if external { 1 } else { on_disk? };
    let wrong = Wrong::Copied {
        cluster: bit.cluster,
        copied: bit.copied,
        refcount,
    };
    ((refcount == 1) != bit.copied).then_some(Corruption {
        referrer: bit.referrer,
        wrong,
    })
}
